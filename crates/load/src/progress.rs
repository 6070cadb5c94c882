//! What is seen of a measurement while it runs, on stderr: one line that changes at a terminal,
//! and elsewhere a line every ten seconds.

use std::io::Write;
use std::time::Duration;

use crate::page;
use crate::plan::{Offer, Plan};
use crate::run::Interval;
use crate::stats::Stats;
use crate::totals::Totals;
use reflector_measure::handover::Counters as _;

/// How often there is a line where no line can change.
const LINE_EVERY: Duration = Duration::from_secs(10);
/// Back to the first column, and clear the line.
const CLEAR: &str = "\r\x1b[K";

/// How progress is shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Mode {
    /// Not at all: stdout has a line for each interval or step.
    Silent,
    /// By one line that changes with each interval.
    Live,
    /// By a line every ten seconds.
    Lines,
}

impl Mode {
    /// The mode of `plan` where stderr is a terminal, or is none.
    pub(crate) fn new(plan: &Plan, is_terminal: bool) -> Self {
        let is_live = is_terminal && plan.interval.is_some() && !plan.json;
        if plan.reports_intervals() {
            Self::Silent
        } else if is_live {
            Self::Live
        } else if plan.find_rate.is_some() {
            // Where no line can be wiped, the steps tell how far it is.
            Self::Silent
        } else {
            Self::Lines
        }
    }
}

/// Shows progress. What cannot be written is not missed.
pub(crate) struct Progress<W> {
    out: W,
    mode: Mode,
    /// Columns of the terminal.
    width: usize,
    /// Whether the last line is to be cleared.
    is_live: bool,
    /// What was counted since the last line, and when that was.
    sum: Stats,
    since: Duration,
}

impl<W: Write> Progress<W> {
    /// Progress on `out`, whose lines have `width` columns.
    pub(crate) fn new(out: W, mode: Mode, width: usize) -> Self {
        Self {
            out,
            mode,
            width,
            is_live: false,
            sum: Stats::new(),
            since: Duration::ZERO,
        }
    }

    /// Takes note of an interval.
    pub(crate) fn interval(&mut self, plan: &Plan, offer: &Offer, interval: &Interval<'_>) {
        let end = interval.start + interval.length;
        match self.mode {
            Mode::Silent => {}
            Mode::Live => {
                let totals = Totals::of_interval(plan, offer, interval);
                let line = page::interval(plan, &totals, interval, self.width);
                // A line that is longer than the terminal could not be cleared.
                let room = self.width.saturating_sub(1);
                let line: String = line.chars().take(room).collect();
                let _ = write!(self.out, "{CLEAR}{line}").and_then(|()| self.out.flush());
                self.is_live = true;
            }
            Mode::Lines => {
                // A run that ends by then needs none.
                if offer.duration.is_some_and(|it| it <= LINE_EVERY) {
                    return;
                }
                if interval.start.is_zero() {
                    // Another measurement.
                    self.sum.reset();
                    self.since = Duration::ZERO;
                }
                self.sum.add(interval.stats);
                let length = end.saturating_sub(self.since);
                if length < LINE_EVERY {
                    return;
                }
                let sum = Interval {
                    stats: &self.sum,
                    start: self.since,
                    length,
                    span: interval.span,
                };
                let totals = Totals::of_interval(plan, offer, &sum);
                let _ = writeln!(
                    self.out,
                    "{}",
                    page::interval(plan, &totals, &sum, self.width)
                );
                self.sum.reset();
                self.since = end;
            }
        }
    }

    /// Makes room for what is written next.
    pub(crate) fn clear(&mut self) {
        if std::mem::take(&mut self.is_live) {
            let _ = write!(self.out, "{CLEAR}").and_then(|()| self.out.flush());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use reflector_measure::clock::Span;
    use reflector_measure::percent::Percent;

    use crate::options::{Options, Rate};

    fn plan(change: impl FnOnce(&mut Options)) -> Plan {
        let mut options = Options::new("127.0.0.1:7".parse().unwrap());
        options.rate = Some(Rate::Pps(12e6));
        options.duration = Some(Duration::from_secs(60));
        change(&mut options);
        Plan::new(&options).unwrap()
    }

    fn no_interval(options: &mut Options) {
        options.interval = Some(Duration::ZERO);
    }

    fn an_interval(options: &mut Options) {
        options.interval = Some(Duration::from_millis(100));
    }

    fn a_search(options: &mut Options) {
        options.find_rate = Some(Percent(1.0));
    }

    /// What is shown of `seconds` intervals of a second each, at 12 million a second.
    fn shown(plan: &Plan, mode: Mode, width: usize, seconds: u64) -> String {
        let mut stats = Stats::new();
        stats.counters.sent = 12_000_000;
        stats.counters.received = 11_999_000;
        stats.counters.given_up = 1000;
        stats.rtt_ns.record_n(44_860, 11_999_000).unwrap();
        let mut out = Vec::new();
        let mut progress = Progress::new(&mut out, mode, width);
        for second in 0..seconds {
            let interval = Interval {
                stats: &stats,
                start: Duration::from_secs(second),
                length: Duration::from_secs(1),
                span: Span::default(),
            };
            progress.interval(plan, &plan.offer, &interval);
        }
        progress.clear();
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn the_mode_is_that_of_the_reader() {
        for (plan, is_terminal, expected) in [
            (plan(|_| {}), true, Mode::Live),
            (plan(|_| {}), false, Mode::Lines),
            (plan(no_interval), true, Mode::Lines),
            (plan(an_interval), true, Mode::Silent),
            (plan(an_interval), false, Mode::Silent),
            (plan(a_search), true, Mode::Live),
            (plan(a_search), false, Mode::Silent),
            (plan(|it| it.json = true), true, Mode::Silent),
            (plan(|it| it.json = true), false, Mode::Silent),
        ] {
            assert_eq!(Mode::new(&plan, is_terminal), expected);
        }
        let quiet_json = plan(|it| {
            it.json = true;
            no_interval(it);
        });
        assert_eq!(Mode::new(&quiet_json, false), Mode::Lines);
    }

    #[test]
    fn a_long_run_has_a_line_every_ten_seconds() {
        let text = shown(&plan(|_| {}), Mode::Lines, 80, 25);
        let line = |second| {
            format!(
                "{second:>4} s  sent 12.0 M/s  received 12.0 M/s  p50 44.9 us  p99 44.9 us  \
                 lost 10.0 k\n"
            )
        };
        assert_eq!(text, line(10) + &line(20));
        let short = plan(|it| it.duration = Some(LINE_EVERY));
        assert_eq!(shown(&short, Mode::Lines, 80, 11), "");
    }

    #[test]
    fn a_line_that_changes_fits_the_terminal_and_goes() {
        for width in [80, 40] {
            let text = shown(&plan(|_| {}), Mode::Live, width, 3);
            let shown: Vec<_> = text.split(CLEAR).collect();
            assert_eq!(shown.len(), 5, "three lines, and what clears the last");
            assert!(
                shown[1..4]
                    .iter()
                    .all(|it| it.len() > 30 && it.len() < width)
            );
            assert!(shown[0].is_empty() && shown[4].is_empty());
        }
    }
}
