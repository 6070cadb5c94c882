//! What people and programs read of a running reflector: aligned columns, JSON lines, or the few
//! lines that a shell understands.
//!
//! Every JSON object carries its type and the schema's version.

mod lines;
mod workers;

use std::io::{self, Write};
use std::net::SocketAddr;

use reflector::report::{Ready, Report, Summary, Totals};
use reflector_measure::drops::Drops;
use reflector_measure::json::write_line;
use reflector_measure::text::{Align, Table, paragraph};
use serde::Serialize;

use super::accelerate::Accelerated;

/// How reports are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// For people.
    Columns,
    /// An object for each report.
    Json,
    /// One line of words when it is ready and one at the end.
    Lines,
}

/// Writes reports, for people or for programs.
pub struct Reporter<W> {
    out: W,
    format: Format,
    /// Columns of the terminal.
    width: usize,
    lines_since_header: usize,
}

/// A report, and what was accelerated in its time.
#[derive(Serialize)]
struct With<'a, T> {
    #[serde(flatten)]
    report: &'a T,
    #[serde(skip_serializing_if = "Option::is_none")]
    accelerated: Option<&'a Accelerated>,
}

/// Interval lines between two headers.
const HEADER_EVERY: usize = 20;

/// The columns of an interval: heading, width in a terminal of 80 columns, width in a wider one.
/// A narrower one leaves some out.
const COLUMNS: [(&str, usize, usize); 9] = [
    ("received/s", 10, 12),
    ("replied/s", 10, 12),
    ("Gbit/s", 7, 8),
    ("dropped", 7, 9),
    ("errors", 6, 9),
    ("kdrops", 7, 9),
    ("p50 us", 8, 9),
    ("p99 us", 8, 9),
    ("p99.9 us", 8, 9),
];
/// Width of the column of what was answered in the kernel, where that is done.
const FURTHER: usize = 11;
/// Columns of a terminal that has room for the wider ones.
const WIDE: usize = 95;
/// Columns of an interval that a narrow terminal leaves out, the least important first.
const LEFT_OUT: [usize; 6] = [2, 0, 6, 8, 4, 5];

impl<W: Write> Reporter<W> {
    /// A reporter that writes in `format` to `out`, columns for a terminal of `width`.
    pub fn new(out: W, format: Format, width: usize) -> Self {
        Self {
            out,
            format,
            width,
            lines_since_header: 0,
        }
    }

    /// Writes one report, with what was `accelerated` meanwhile. An idle interval is worth no line
    /// to a person.
    ///
    /// # Errors
    /// `EPIPE` where nobody reads any more, `ENOSPC` of a file.
    pub fn write(
        &mut self,
        report: Report<'_>,
        accelerated: Option<&Accelerated>,
    ) -> io::Result<()> {
        let out = &mut self.out;
        match (report, self.format) {
            (Report::Ready(ready), Format::Json) => write_line(out, "ready", ready)?,
            (Report::Ready(ready), Format::Lines) => lines::ready(out, ready)?,
            (Report::Ready(ready), Format::Columns) => self.write_ready(ready)?,
            // What is left at the end is in the summary.
            (Report::Interval(interval), _) if interval.is_last => {}
            (Report::Interval(interval), Format::Json) => {
                let report = &interval.totals;
                write_line(
                    out,
                    "interval",
                    &With {
                        report,
                        accelerated,
                    },
                )?;
            }
            (Report::Interval(interval), Format::Columns) => {
                self.write_interval(&interval.totals, accelerated)?;
            }
            (Report::Summary(report), Format::Json) => {
                write_line(
                    out,
                    "summary",
                    &With {
                        report,
                        accelerated,
                    },
                )?;
            }
            (Report::Summary(summary), Format::Lines) => {
                lines::summary(out, "summary", summary, accelerated)?;
            }
            (Report::Summary(summary), Format::Columns) => {
                self.write_counts("summary of", summary, accelerated)?;
            }
            _ => {}
        }
        self.out.flush()
    }

    /// Writes what has been counted since the start, while it goes on.
    ///
    /// # Errors
    /// As [`write`](Self::write).
    pub fn write_snapshot(
        &mut self,
        summary: &Summary,
        accelerated: Option<&Accelerated>,
    ) -> io::Result<()> {
        let (out, report) = (&mut self.out, summary);
        match self.format {
            Format::Json => write_line(
                out,
                "snapshot",
                &With {
                    report,
                    accelerated,
                },
            )?,
            Format::Lines => lines::summary(out, "snapshot", summary, accelerated)?,
            Format::Columns => self.write_counts("snapshot after", summary, accelerated)?,
        }
        self.out.flush()
    }

    fn write_ready(&mut self, ready: &Ready) -> io::Result<()> {
        let listen: Vec<_> = ready.listen.iter().map(SocketAddr::to_string).collect();
        let workers = if ready.workers == 1 {
            "worker"
        } else {
            "workers"
        };
        let ready = format!(
            "{} on {}, {} {workers}, engine {}",
            ready.mode,
            listen.join(" and "),
            ready.workers,
            ready.engine,
        );
        write!(self.out, "{}", paragraph("ready: ", &ready, self.width))
    }

    fn write_interval(
        &mut self,
        totals: &Totals,
        accelerated: Option<&Accelerated>,
    ) -> io::Result<()> {
        let errors: u64 = totals.send_errors.values().sum();
        let errors = errors + totals.receive_errors.values().sum::<u64>();
        let in_kernel = accelerated.map_or(0, |it| it.datagrams);
        let is_idle = totals.received + in_kernel + errors == 0 && totals.kernel.is_none();
        if is_idle {
            return Ok(());
        }
        if self.lines_since_header == 0 {
            let headings = COLUMNS.map(|(heading, _, _)| heading.to_owned());
            self.write_columns(headings, accelerated.map(|_| "in kernel/s".to_owned()))?;
        }
        self.lines_since_header = (self.lines_since_header + 1) % HEADER_EVERY;
        let per_second = |count: u64| count as f64 / totals.seconds;
        let us = &totals.residence_us;
        let time = |time: f64| match us.count {
            0 => "-".to_owned(),
            _ => format!("{time:.1}"),
        };
        let cells = [
            format!("{:.0}", per_second(totals.received)),
            format!("{:.0}", per_second(totals.replied)),
            format!("{:.3}", per_second(totals.bytes_replied * 8) / 1e9),
            totals.dropped.values().sum::<u64>().to_string(),
            errors.to_string(),
            totals.kernel.drops.datagrams.to_string(),
            time(us.p50),
            time(us.p99),
            time(us.p99_9),
        ];
        let in_kernel = accelerated.map(|_| format!("{:.0}", per_second(in_kernel)));
        self.write_columns(cells, in_kernel)
    }

    /// A number that is wider than its column moves the others, and never runs into the next.
    /// A further column is in front.
    fn write_columns(
        &mut self,
        cells: [String; COLUMNS.len()],
        further: Option<String>,
    ) -> io::Result<()> {
        let further = further.map_or(String::new(), |cell| format!("{cell:>FURTHER$} "));
        let columns = self.width.saturating_sub(further.len());
        let mut shown = Vec::from_iter(COLUMNS.iter().zip(&cells).enumerate());
        let is_wide = columns > WIDE;
        let width = |&(_, narrow, wide): &(_, usize, usize)| if is_wide { wide } else { narrow };
        for left_out in LEFT_OUT {
            let len: usize = shown.iter().map(|(_, (column, _))| width(column) + 1).sum();
            if len <= columns + 1 {
                break;
            }
            shown.retain(|&(index, _)| index != left_out);
        }
        let cells = shown.iter().map(|(_, (column, cell))| {
            let width = width(column);
            format!("{cell:>width$}")
        });
        writeln!(self.out, "{further}{}", Vec::from_iter(cells).join(" "))
    }

    fn write_counts(
        &mut self,
        what: &str,
        summary: &Summary,
        accelerated: Option<&Accelerated>,
    ) -> io::Result<()> {
        let totals = &summary.totals;
        let (out, width) = (&mut self.out, self.width);
        writeln!(out, "\n{what} {:.3} s", totals.seconds)?;
        write!(out, "{}", counters(totals, accelerated, true, width))?;
        if summary.unaccounted != 0 {
            writeln!(out, "{} datagrams unaccounted for", summary.unaccounted)?;
        }
        let residence = [
            ("us", Some(&totals.residence_us)),
            ("us in kernel", accelerated.map(|it| &it.residence_us)),
        ];
        let residence = residence.map(|(name, us)| (name, us.filter(|us| us.count > 0)));
        if residence.iter().any(|(_, us)| us.is_some()) {
            let mut table = Table::new([Align::Left].into_iter().chain([Align::Right; 6]));
            let header = ["residence", "min", "p50", "p90", "p99", "p99.9", "max"];
            table.push(header.map(str::to_owned).to_vec());
            for (name, us) in residence {
                let Some(us) = us else { continue };
                let times = [us.min, us.p50, us.p90, us.p99, us.p99_9, us.max];
                let times = times.map(|time| format!("{time:.1}"));
                table.push([vec![name.to_owned()], times.to_vec()].concat());
            }
            write!(out, "\n{}", table.fitted(width))?;
        }
        workers::write(summary, out, width)
    }
}

/// The counters of a summary, in lines of at most `width` columns; where bytes have no room beside
/// what was counted, they have rows of their own.
fn counters(
    totals: &Totals,
    accelerated: Option<&Accelerated>,
    bytes_beside: bool,
    width: usize,
) -> String {
    let per_second = |count: u64| count as f64 / totals.seconds.max(f64::MIN_POSITIVE);
    let mut table = Table::new([Align::Left].into_iter().chain([Align::Right; 3]));
    let mut ways = vec![
        ("received", totals.received, totals.bytes_received),
        ("replied", totals.replied, totals.bytes_replied),
    ];
    ways.extend(accelerated.map(|it| ("accelerated", it.datagrams, it.bytes)));
    for &(name, count, bytes) in &ways {
        let rate = format!("{:.0} /s", per_second(count));
        match bytes_beside {
            true => table.row(&[&name, &count, &rate, &format!("{bytes} bytes")]),
            false => table.row(&[&name, &count, &rate, &""]),
        }
    }
    for (name, _, bytes) in ways.into_iter().filter(|_| !bytes_beside) {
        table.row(&[&format!("bytes {name}"), &bytes, &""]);
    }
    let mut row = |name: &str, count: u64, what: &str| {
        if count > 0 {
            table.row(&[&name, &count, &what]);
        }
    };
    for (reason, &count) in &totals.dropped {
        row("dropped", count, reason);
    }
    for (errno, &count) in &totals.send_errors {
        row("send errors", count, errno);
    }
    row("in flight", totals.in_flight, "");
    for (errno, &count) in &totals.receive_errors {
        row("receive errors", count, errno);
    }
    let drops = &totals.kernel.drops;
    row("kernel drops", drops.datagrams, &known(drops));
    row("sndbuf errors", totals.kernel.sndbuf_errors, "");
    row("queue drops", totals.kernel.queue_drops.unwrap_or(0), "");
    row("trains received", totals.trains_received, "");
    row("trains sent", totals.trains_sent, "");
    row("trains refused", totals.trains_refused, "");
    row(
        "trains accelerated",
        accelerated.map_or(0, |it| it.trains),
        "",
    );
    row("clock stepped", totals.clock_stepped, "");
    if bytes_beside && table.width() > width {
        return counters(totals, accelerated, false, width);
    }
    table.fitted(width)
}

/// How far the number of dropped datagrams is known.
fn known(drops: &Drops) -> String {
    match drops.is_exact() {
        true => format!("{} counting a train once", drops.trains),
        false => format!("about: {} at least, {} at most", drops.least, drops.most),
    }
}

#[cfg(test)]
mod tests;
