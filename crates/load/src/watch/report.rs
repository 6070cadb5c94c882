//! What a watch comes to, for programs and for people.

use std::net::SocketAddr;
use std::time::{Duration, UNIX_EPOCH};

use serde::Serialize;

use crate::plan::Plan;
use crate::totals::Totals;
use crate::watch::continuity::{Continuity, Gap, GapReport};
use crate::watch::options::WatchOptions;
use crate::watch::told::{self, Change};
use reflector_measure::exit::Exit;
use reflector_measure::text::Align::{Left, Right};
use reflector_measure::text::{Table, paragraph};

/// What is said before the first datagram.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Ready {
    pub(crate) target: String,
    pub(crate) address: SocketAddr,
    pub(crate) source_port: u16,
    pub(crate) every_ms: f64,
    pub(crate) timeout_ms: f64,
}

impl Ready {
    /// In a sentence of at most `width` columns a line.
    pub(crate) fn sentence(&self, width: usize) -> String {
        let address = match self.target == self.address.to_string() {
            true => String::new(),
            false => format!(" ({})", self.address),
        };
        let text = format!(
            "{}{address}: a datagram each {} ms from port {}, lost after {} ms",
            self.target, self.every_ms, self.source_port, self.timeout_ms
        );
        paragraph("watch on ", &text, width)
    }
}

/// What a watch comes to.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Summary {
    pub(crate) target: String,
    pub(crate) address: SocketAddr,
    #[serde(flatten)]
    pub(crate) totals: Totals,
    pub(crate) every_ms: f64,
    /// Datagrams without a right answer in time, those that this host refused to send included.
    pub(crate) unanswered: u64,
    /// Datagrams that were due while this process did not run, and were not sent.
    pub(crate) skipped: u64,
    pub(crate) gaps: u64,
    /// All of them together.
    pub(crate) gaps_ms: f64,
    pub(crate) longest_gap: Option<GapReport>,
    /// What the server told; `None` where it is no reflector with `--echo-info`.
    pub(crate) told: Option<told::Summary>,
    pub(crate) interrupted: bool,
    /// Thresholds that were missed, a sentence each.
    pub(crate) missed: Vec<String>,
    pub(crate) exit_code: u8,
}

impl Summary {
    /// What was counted.
    pub(crate) fn new(
        options: &WatchOptions,
        plan: &Plan,
        totals: Totals,
        continuity: &Continuity,
        told: Option<told::Summary>,
    ) -> Self {
        let mut summary = Self {
            target: plan.target_name.clone(),
            address: plan.target,
            totals,
            every_ms: ms(options.every),
            unanswered: continuity.unanswered,
            skipped: 0,
            gaps: continuity.gaps,
            gaps_ms: continuity.gaps_ns as f64 / 1e6,
            longest_gap: continuity.longest.map(GapReport::from),
            told,
            interrupted: false,
            missed: missed(options, continuity),
            exit_code: 0,
        };
        summary.exit_code = summary.exit().code();
        summary
    }

    /// How the program ends.
    pub(crate) fn exit(&self) -> Exit {
        let totals = &self.totals;
        if totals.wrong_source.total > 0 {
            Exit::WrongSource
        } else if totals.sent == 0 && totals.refused == 0 {
            Exit::Failed
        } else if totals.received + totals.late + totals.duplicated == 0 {
            Exit::Unanswered
        } else if !self.missed.is_empty() {
            Exit::ThresholdMissed
        } else {
            Exit::Done
        }
    }

    /// The page for people, in lines of at most `width` columns.
    pub(crate) fn page(&self, width: usize) -> String {
        let stopped = if self.interrupted { ", stopped" } else { "" };
        let mut page = format!("\nsummary of {:.3} s{stopped}\n", self.totals.seconds);
        page += &self.table().fitted(width);
        for change in self.told.iter().flat_map(|it| &it.first_changes) {
            page += &change_line(change);
        }
        if !self.missed.is_empty() {
            page.push('\n');
        }
        for missed in &self.missed {
            page += &paragraph("missed: ", missed, width);
        }
        page
    }

    fn table(&self) -> Table {
        let totals = &self.totals;
        let mut table = Table::new([Left, Right, Left, Left]);
        let mut row = |name: &str, count: u64, meaning: &str, always: bool| {
            if always || count > 0 {
                table.row(&[&name, &count, &meaning]);
            }
        };
        row("sent", totals.sent, "", true);
        row(
            "answered",
            totals.received,
            "in time, from the address asked",
            true,
        );
        row("unanswered", self.unanswered, "", true);
        if let Some(told) = &self.told {
            let always = self.unanswered > 0;
            row(
                "  there",
                told.lost_there,
                "did not come to the server",
                always,
            );
            row(
                "  back",
                told.lost_back,
                "came, and the answer did not",
                always,
            );
            row(
                "  unknown",
                told.lost_unknown,
                "around a restart, or at the end",
                false,
            );
        }
        row(
            "  refused here",
            totals.refused,
            "by this host's kernel",
            false,
        );
        for (errno, &count) in &totals.send_errors {
            row("", count, errno, false);
        }
        row("  late", totals.late, "answered after the timeout", false);
        row(
            "  corrupt",
            totals.corrupt,
            "answered with other bytes",
            false,
        );
        let wrong = &totals.wrong_source;
        let expected = format!("expected {}", wrong.expected);
        row("  wrong source", wrong.total, &expected, false);
        for (source, &count) in &wrong.seen {
            row("", count, &format!("seen {source}"), false);
        }
        row(
            "duplicated",
            totals.duplicated,
            "answered more than once",
            false,
        );
        row(
            "reordered",
            totals.reordered,
            "answered after a later one",
            false,
        );
        if let Some(told) = &self.told {
            row(
                "  there",
                told.reordered_there,
                "came to the server after a later one",
                false,
            );
            row("came again", told.duplicated_there, "to the server", false);
            row("changes", told.changes, "of what the server tells", false);
        }
        row(
            "skipped",
            self.skipped,
            "due while this process did not run",
            false,
        );
        for (name, &count) in &totals.icmp {
            row("icmp", count, name, false);
        }
        let all = format!("{:.3} ms in all", self.gaps_ms);
        row(
            "gaps",
            self.gaps,
            if self.gaps > 0 { &all } else { "" },
            true,
        );
        if let Some(gap) = &self.longest_gap {
            let times = format!("ms, {}", when(gap));
            table.row(&[&"longest", &format!("{:.3}", gap.length_ms), &times]);
        }
        let rtt = &totals.rtt_uncorrected_us;
        if rtt.count > 0 {
            let percentiles = format!("us, p99 {:.1}, longest {:.1}", rtt.p99, rtt.max);
            table.row(&[&"round trip", &format!("{:.1}", rtt.p50), &percentiles]);
        }
        table
    }
}

/// Thresholds that were missed, a sentence each.
fn missed(options: &WatchOptions, continuity: &Continuity) -> Vec<String> {
    let mut missed = Vec::new();
    let longest_ns = continuity.longest.map_or(0, |it| it.length_ns());
    if let Some(max) = options
        .max_gap
        .filter(|max| u128::from(longest_ns) > max.as_nanos())
    {
        missed.push(format!(
            "the longest gap is {:.3} ms, --max-gap allows {} ms",
            longest_ns as f64 / 1e6,
            ms(max)
        ));
    }
    if let Some(max) = options.max_lost.filter(|&max| continuity.unanswered > max) {
        let unanswered = continuity.unanswered;
        missed.push(format!(
            "{unanswered} are unanswered, --max-lost allows {max}"
        ));
    }
    missed
}

/// A gap in a line.
pub(crate) fn gap_line(gap: &Gap) -> String {
    let report = GapReport::from(*gap);
    let (length_ms, unanswered) = (report.length_ms, report.unanswered);
    let skipped = match report.skipped {
        0 => String::new(),
        skipped => format!(" and {skipped} not sent"),
    };
    let when = when(&report);
    format!("gap of {length_ms:.3} ms, {unanswered} unanswered{skipped}, {when}\n")
}

/// A change in a line.
pub(crate) fn change_line(change: &Change) -> String {
    let at = time(change.unix_seconds);
    let Change { what, from, to, .. } = change;
    match *what {
        "count" => format!("another process or worker answers since {at}\n"),
        "peer" => format!("the server sees this host as {to}, before {at} as {from}\n"),
        "local" => format!("the server is asked at {to}, before {at} at {from}\n"),
        _ => format!("{what} left: {to}, before {at}: {from}\n"),
    }
}

fn when(gap: &GapReport) -> String {
    let end = match gap.is_open {
        true => "the end of the watch".to_owned(),
        false => time(gap.end_unix_seconds),
    };
    format!("from {} to {end}", time(gap.start_unix_seconds))
}

/// A time of the Unix epoch, as RFC 3339 writes it, in UTC.
fn time(unix_seconds: f64) -> String {
    let time = UNIX_EPOCH + Duration::from_secs_f64(unix_seconds.max(0.0));
    humantime::format_rfc3339_millis(time).to_string()
}

fn ms(time: Duration) -> f64 {
    time.as_secs_f64() * 1e3
}
