//! What people and programs read of a running reflector: aligned columns, or JSON lines.
//!
//! Every JSON object carries its type and the schema's version.

use std::io::{self, Write};
use std::net::SocketAddr;

use reflector::report::{KernelLoss, Ready, Report, Summary, Totals, WorkerShare};
use reflector_measure::json::write_line;
use reflector_measure::text::{Align, Table, paragraph};

/// Writes reports, for people or for programs.
pub struct Reporter<W> {
    out: W,
    json: bool,
    /// Columns of the terminal.
    width: usize,
    lines_since_header: usize,
}

/// Interval lines between two headers.
const HEADER_EVERY: usize = 20;

/// The columns of an interval: heading, width in a terminal of 80 columns, width in a wider one.
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
/// Columns of a terminal that has room for the wider ones.
const WIDE: usize = 95;

impl<W: Write> Reporter<W> {
    /// A reporter that writes JSON lines, or columns of a terminal of `width`, to `out`.
    pub fn new(out: W, json: bool, width: usize) -> Self {
        Self {
            out,
            json,
            width,
            lines_since_header: 0,
        }
    }

    /// Writes one report. An idle interval is worth no line to a person.
    ///
    /// # Errors
    /// `EPIPE` where nobody reads any more, `ENOSPC` of a file.
    pub fn write(&mut self, report: Report<'_>) -> io::Result<()> {
        match report {
            Report::Ready(ready) if self.json => write_line(&mut self.out, "ready", ready)?,
            Report::Ready(ready) => self.write_ready(ready)?,
            // What is left at the end is in the summary.
            Report::Interval(interval) if interval.is_last => {}
            Report::Interval(interval) if self.json => {
                write_line(&mut self.out, "interval", &interval.totals)?;
            }
            Report::Interval(interval) => self.write_interval(&interval.totals)?,
            Report::Summary(summary) if self.json => write_line(&mut self.out, "summary", summary)?,
            Report::Summary(summary) => self.write_summary(summary)?,
            _ => {}
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

    fn write_interval(&mut self, totals: &Totals) -> io::Result<()> {
        let errors: u64 = totals.send_errors.values().sum();
        let errors = errors + totals.receive_errors.values().sum::<u64>();
        let is_idle = totals.received == 0 && errors == 0 && totals.kernel == KernelLoss::default();
        if is_idle {
            return Ok(());
        }
        if self.lines_since_header == 0 {
            self.write_columns(COLUMNS.map(|(heading, _, _)| heading.to_owned()))?;
        }
        self.lines_since_header = (self.lines_since_header + 1) % HEADER_EVERY;
        let per_second = |count: u64| count as f64 / totals.seconds;
        let us = &totals.residence_us;
        self.write_columns([
            format!("{:.0}", per_second(totals.received)),
            format!("{:.0}", per_second(totals.replied)),
            format!("{:.3}", per_second(totals.bytes_replied * 8) / 1e9),
            totals.dropped.values().sum::<u64>().to_string(),
            errors.to_string(),
            totals.kernel.kernel_drops.to_string(),
            format!("{:.1}", us.p50),
            format!("{:.1}", us.p99),
            format!("{:.1}", us.p99_9),
        ])
    }

    /// A number that is wider than its column moves the others, and never runs into the next.
    fn write_columns(&mut self, cells: [String; COLUMNS.len()]) -> io::Result<()> {
        let is_wide = self.width > WIDE;
        for (index, (cell, (_, narrow, wide))) in cells.iter().zip(COLUMNS).enumerate() {
            let gap = if index == 0 { "" } else { " " };
            let width = if is_wide { wide } else { narrow };
            write!(self.out, "{gap}{cell:>width$}")?;
        }
        writeln!(self.out)
    }

    fn write_summary(&mut self, summary: &Summary) -> io::Result<()> {
        let totals = &summary.totals;
        let per_second = |count: u64| count as f64 / totals.seconds.max(f64::MIN_POSITIVE);
        let out = &mut self.out;
        writeln!(out, "\nsummary of {:.3} s", totals.seconds)?;
        for (name, count, bytes) in [
            ("received", totals.received, totals.bytes_received),
            ("replied", totals.replied, totals.bytes_replied),
        ] {
            let rate = per_second(count);
            writeln!(
                out,
                "  {name:<18}{count:>14}  {rate:>14.0} /s  {bytes:>16} bytes"
            )?;
        }
        for (reason, count) in totals.dropped.iter().filter(|&(_, &count)| count > 0) {
            writeln!(out, "  {:<18}{count:>14}  {reason}", "dropped")?;
        }
        for (errno, count) in &totals.send_errors {
            writeln!(out, "  {:<18}{count:>14}  {errno}", "send errors")?;
        }
        for (errno, count) in &totals.receive_errors {
            writeln!(out, "  {:<18}{count:>14}  {errno}", "receive errors")?;
        }
        for (name, count) in [
            ("kernel drops", totals.kernel.kernel_drops),
            ("sndbuf errors", totals.kernel.sndbuf_errors),
            ("trains received", totals.trains_received),
            ("trains sent", totals.trains_sent),
            ("trains refused", totals.trains_refused),
            ("clock stepped", totals.clock_stepped),
        ] {
            if count > 0 {
                writeln!(out, "  {name:<18}{count:>14}")?;
            }
        }
        let us = &totals.residence_us;
        if us.count > 0 {
            let mut table = Table::new([Align::Left].into_iter().chain([Align::Right; 6]));
            table.row(&[
                &"residence",
                &"min",
                &"p50",
                &"p90",
                &"p99",
                &"p99.9",
                &"max",
            ]);
            let times = [us.min, us.p50, us.p90, us.p99, us.p99_9, us.max];
            let times = times.map(|time| format!("{time:.1}"));
            table.push([vec!["us".to_owned()], times.to_vec()].concat());
            write!(out, "\n{table}")?;
        }
        write_workers(summary, out)
    }
}

/// Workers that a summary has rows for.
const WORKERS_MAX: usize = 16;

/// Writes a row for each worker that received something, as far as that is worth reading.
fn write_workers(summary: &Summary, out: &mut impl Write) -> io::Result<()> {
    let all = &summary.per_worker;
    let busy = all.iter().filter(|share| share.received > 0);
    let shown: Vec<_> = busy.take(WORKERS_MAX).collect();
    if shown.is_empty() {
        return Ok(());
    }
    write!(out, "\n{}", workers(&shown, summary.totals.received))?;
    match unshown(all.len(), shown.len()) {
        Some(workers) => writeln!(out, "  {workers}"),
        None => Ok(()),
    }
}

/// What is said of those of `all` workers that have no row.
fn unshown(all: usize, shown: usize) -> Option<String> {
    let more = all - shown;
    let is_cut = shown == WORKERS_MAX;
    let why = if is_cut {
        ""
    } else {
        ", which received nothing"
    };
    (more > 0).then(|| format!("and {more} more{why}"))
}

fn workers(shown: &[&WorkerShare], received: u64) -> Table {
    let received = received.max(1) as f64;
    let mut table = Table::new([Align::Right; 7]);
    table.row(&[
        &"worker",
        &"cpu",
        &"received",
        &"share",
        &"replied",
        &"batches",
        &"kernel drops",
    ]);
    for share in shown {
        let of_all = 100.0 * share.received as f64 / received;
        let cpu = share.cpu.map_or("any".to_owned(), |cpu| cpu.to_string());
        table.row(&[
            &share.worker,
            &cpu,
            &share.received,
            &format!("{of_all:.1} %"),
            &share.replied,
            &share.batches,
            &share.kernel_drops,
        ]);
    }
    table
}

#[cfg(test)]
mod tests {
    use super::*;

    fn totals() -> Totals {
        let mut totals = Totals::default();
        (totals.seconds, totals.received, totals.replied) = (2.0, 32, 30);
        totals
    }

    fn reporter(json: bool) -> Reporter<Vec<u8>> {
        Reporter::new(Vec::new(), json, 80)
    }

    #[test]
    fn each_report_is_one_json_line_of_its_type() {
        let mut reporter = reporter(true);
        let mut summary = Summary::default();
        summary.totals = totals();
        reporter.write(Report::Summary(&summary)).unwrap();
        let text = String::from_utf8(reporter.out).unwrap();
        assert_eq!(text.lines().count(), 1);
        let value: serde_json::Value = serde_json::from_str(&text).unwrap();
        assert_eq!(value["type"], "summary");
        assert_eq!(value["received"], 32);
    }

    #[test]
    fn people_read_columns_that_line_up() {
        let mut reporter = reporter(false);
        reporter.write_interval(&totals()).unwrap();
        let text = String::from_utf8(reporter.out).unwrap();
        let lines: Vec<_> = text.lines().map(str::len).collect();
        assert_eq!(lines, [79, 79]);
    }

    #[test]
    fn what_people_read_fits_eighty_columns() {
        let mut reporter = reporter(false);
        let mut totals = totals();
        (totals.received, totals.replied) = (12_345_678_901, 12_345_678_901);
        (totals.bytes_received, totals.bytes_replied) = (1 << 37, 1 << 37);
        totals.residence_us.count = 1;
        totals.residence_us.max = 9_999_999.9;
        reporter.write_interval(&totals).unwrap();
        let mut summary = Summary::default();
        summary.totals = totals;
        reporter.write_summary(&summary).unwrap();
        let text = String::from_utf8(reporter.out).unwrap();
        assert!(
            text.lines().all(|line| line.chars().count() <= 80),
            "{text}"
        );
    }

    #[test]
    fn a_summary_has_no_row_of_zeros() {
        let mut reporter = reporter(false);
        reporter.write_summary(&Summary::default()).unwrap();
        let text = String::from_utf8(reporter.out).unwrap();
        let names = text
            .lines()
            .filter_map(|line| line.split_whitespace().next());
        assert_eq!(Vec::from_iter(names), ["summary", "received", "replied"]);
        assert_eq!(unshown(2, 2), None);
        assert_eq!(
            unshown(3, 1).as_deref(),
            Some("and 2 more, which received nothing")
        );
        assert_eq!(unshown(64, WORKERS_MAX).as_deref(), Some("and 48 more"));
    }

    #[test]
    fn an_idle_interval_is_no_line_for_people() {
        let mut reporter = reporter(false);
        reporter.write_interval(&Totals::default()).unwrap();
        assert!(reporter.out.is_empty());
    }

    #[test]
    fn errors_of_both_directions_are_shown_even_alone() {
        let mut reporter = reporter(false);
        let mut totals = Totals::default();
        totals.seconds = 1.0;
        totals.receive_errors = [("ENOMEM".to_owned(), 3)].into();
        totals.send_errors = [("EPERM".to_owned(), 4)].into();
        reporter.write_interval(&totals).unwrap();
        let text = String::from_utf8(reporter.out).unwrap();
        let row: Vec<_> = text.lines().last().unwrap().split_whitespace().collect();
        assert_eq!(row[..6], ["0", "0", "0.000", "0", "7", "0"], "{text}");
    }
}
