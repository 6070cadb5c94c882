//! Whether the generator kept its schedule, and what it changed where it did not. Pure.
//!
//! Two things make the generator the limit of a measurement: datagrams that were due and left out,
//! and datagrams sent so late that a percentile of the round trips tells of the sender instead of
//! the target.

use hdrhistogram::Histogram;
use serde::Serialize;

use crate::stats::Stats;

/// Part of what was due that may be left out. Less does not change a rate that anybody reads.
const UNSENT_MAX: f64 = 0.01;
/// How late a datagram may be without being called so. What was due meanwhile leaves with it at
/// once, and a target has to have room for that.
const LATE_NS: u64 = 1_000_000;
/// What a percentile may be moved by, in any case: what a wake-up takes on an ordinary host.
const MOVED_NS_MAX: u64 = 100_000;
/// What it may be moved by as a part of itself.
const MOVED_PART_MAX: f64 = 0.1;
/// Standard deviations of a rank that percentiles of equal runs differ by: 95 of 100 do not.
const DEVIATIONS: f64 = 1.96;
/// The percentiles that are looked at, how they are written, and whether one that is moved makes
/// the generator the limit: bounds are set for the 99th, and one stall moves those beyond.
const JUDGED: [(f64, &str, bool); 4] = [
    (0.5, "50", true),
    (0.9, "90", true),
    (0.99, "99", true),
    (0.999, "99.9", false),
];
/// Datagrams beyond a percentile from which on it is looked at.
const BEYOND_MIN: f64 = 10.0;

/// A percentile of the round trips that the send lag has moved by more than it can be told to.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub(crate) struct Moved {
    /// Which, in percent.
    pub(crate) percentile: &'static str,
    /// What it is from the actual send.
    pub(crate) from_us: f64,
    /// What it is from the scheduled time.
    pub(crate) to_us: f64,
    /// Whether that makes the generator the limit.
    #[serde(skip)]
    pub(crate) is_limit: bool,
}

/// Whether more of `due` datagrams were left out than may be.
pub(crate) fn is_short(unsent: u64, due: u64) -> bool {
    unsent as f64 > UNSENT_MAX * due as f64
}

/// Datagrams that were sent late.
pub(crate) fn sent_late(stats: &Stats) -> u64 {
    let lags = &stats.send_lag_ns;
    lags.len() - lags.count_between(0, LATE_NS)
}

/// The lowest percentile that the send lag has moved by more than its resolution; `None` if none.
///
/// Its resolution is what other runs of as many datagrams would differ by, and a tenth of it, or
/// 100 µs where that is more.
pub(crate) fn moved(stats: &Stats, timeout_ns: u64) -> Option<Moved> {
    let from_schedule = stats.rtt_with_losses_ns(timeout_ns);
    let from_send = stats.with_losses_ns(&stats.rtt_uncorrected_ns, timeout_ns);
    let count = from_send.len() as f64;
    let told = |&&(quantile, ..): &&(f64, _, _)| (1.0 - quantile) * count >= BEYOND_MIN;
    let judged = JUDGED.iter().filter(told);
    judged
        .filter(|&&(quantile, ..)| is_moved(&from_send, &from_schedule, quantile))
        .map(|&(quantile, percentile, is_limit)| Moved {
            percentile,
            from_us: from_send.value_at_quantile(quantile) as f64 / 1000.0,
            to_us: from_schedule.value_at_quantile(quantile) as f64 / 1000.0,
            is_limit,
        })
        .next()
}

/// Whether the value at `quantile` differs by more than its resolution.
fn is_moved(from_ns: &Histogram<u64>, to_ns: &Histogram<u64>, quantile: f64) -> bool {
    let deviation = (quantile * (1.0 - quantile) / from_ns.len() as f64).sqrt();
    let at = |times_ns: &Histogram<u64>, deviations: f64| {
        let quantile = (quantile + deviations * deviation).clamp(0.0, 1.0);
        times_ns.value_at_quantile(quantile)
    };
    let least_ns = MOVED_NS_MAX.max((MOVED_PART_MAX * at(from_ns, 0.0) as f64) as u64);
    at(to_ns, -DEVIATIONS) > at(from_ns, DEVIATIONS) + least_ns
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `count` datagrams that took 200 µs, of which each in `every` was sent `lag_ns` late.
    fn stats(count: u64, every: u64, lag_ns: u64) -> Stats {
        let mut stats = Stats::new();
        for n in 0..count {
            let lag_ns = if n % every == 0 { lag_ns } else { 2_000 };
            stats.counters.received += 1;
            stats.send_lag_ns.record(lag_ns).unwrap();
            stats.rtt_uncorrected_ns.record(200_000).unwrap();
            stats.rtt_ns.record(200_000 + lag_ns).unwrap();
        }
        stats
    }

    fn moved_percentile(stats: &Stats) -> Option<&'static str> {
        moved(stats, 1_000_000_000).map(|it| it.percentile)
    }

    #[test]
    fn a_percentile_that_the_lag_has_moved_is_named_with_both_values() {
        for (count, every, lag_ns, expected) in [
            // Late, but not often enough for a percentile that can be told.
            (1000, 1001, 5_000_000, None),
            (1000, 150, 5_000_000, None),
            (1000, 80, 5_000_000, None),
            (1000, 50, 5_000_000, Some("99")),
            (1000, 5, 5_000_000, Some("90")),
            (1000, 1, 5_000_000, Some("50")),
            // Too few for any but the median.
            (30, 4, 5_000_000, None),
            (15, 1, 5_000_000, None),
            // Often, but by less than can be told.
            (1000, 1, 90_000, None),
            (100_000, 300, 5_000_000, Some("99.9")),
        ] {
            let stats = stats(count, every, lag_ns);
            assert_eq!(
                moved_percentile(&stats),
                expected,
                "{count} {every} {lag_ns}"
            );
        }
        let moved = moved(&stats(1000, 1, 5_000_000), 1_000_000_000).unwrap();
        assert!((moved.from_us / 200.0 - 1.0).abs() < 0.01, "{moved:?}");
        assert!((moved.to_us / 5200.0 - 1.0).abs() < 0.01, "{moved:?}");
    }

    #[test]
    fn what_the_target_scatters_by_itself_is_no_fault_of_the_sender() {
        // Two in a hundred took 3 ms at the target, and as many were sent 3 ms late.
        let mut stats = stats(1000, 50, 3_000_000);
        stats.counters.received += 20;
        stats.rtt_uncorrected_ns.record_n(3_200_000, 20).unwrap();
        stats.rtt_ns.record_n(3_200_000, 20).unwrap();
        assert_eq!(moved_percentile(&stats), None);
    }

    #[test]
    fn what_is_lost_is_lost_however_late_it_was_sent() {
        let mut stats = stats(1000, 1001, 0);
        stats.counters.given_up = 500;
        stats.send_lag_ns.record_n(50_000_000, 500).unwrap();
        assert_eq!(moved_percentile(&stats), None);
        assert_eq!(sent_late(&stats), 500);
    }

    #[test]
    fn a_hundredth_may_be_left_out() {
        assert!(!is_short(0, 0) && !is_short(1, 100));
        assert!(is_short(2, 100) && is_short(1, 99));
    }
}
