//! Times by percentile, in columns and bars.

use hdrhistogram::Histogram;

use crate::stats::Stats;
use reflector_measure::quantiles::{PERCENTILES, value_at};
use reflector_measure::text::Align::{Left, Right};
use reflector_measure::text::{Table, paragraph};

/// Columns of the longest bar, if the terminal has room for it.
const BAR_LEN_MAX: usize = 60;

/// The times by percentile, each as far as there are datagrams for it; of what was lost it is known
/// only that it took more than `timeout_ns`. Bars grow with the logarithm of the round trip.
pub(super) fn table(stats: &Stats, timeout_ns: u64, width: usize) -> String {
    let measured = &stats.rtt_ns;
    if measured.is_empty() {
        return "\nround trip: none received\n".to_owned();
    }
    let all = stats.rtt_with_losses_ns(timeout_ns);
    let lost = format!(">= {}", time(timeout_ns));
    let rows = |bar_len: usize| {
        let mut table = Table::new([Right, Right, Right, Right, Left]);
        table.row(&[
            &"percentile",
            &"round trip",
            &"uncorrected",
            &"send lag",
            &"",
        ]);
        for (quantile, percent) in PERCENTILES {
            if value_at(&all, quantile).is_none() {
                continue;
            }
            let [uncorrected, lag] = [
                (&stats.rtt_uncorrected_ns, timeout_ns),
                (&stats.send_lag_ns, stats.send_lag_max_ns()),
            ]
            .map(|(times_ns, longest)| value_at(times_ns, quantile).map(|ns| ns.min(longest)));
            let (round_trip, bar) = match stats.rtt_at(quantile) {
                Some(ns) => (us(Some(ns)), bar(measured, ns, bar_len)),
                None => (lost.clone(), bar(measured, u64::MAX, bar_len) + " lost"),
            };
            table.row(&[&percent, &round_trip, &us(uncorrected), &us(lag), &bar]);
        }
        table
    };
    // What is left beside the numbers is the bars'; the shortest has one column.
    let room = (width + 1).saturating_sub(rows(1).width());
    let table = rows(room.clamp(1, BAR_LEN_MAX));
    let legend = "microseconds; round trips are from the scheduled time, uncorrected ones from the \
                  actual send, and the send lag is between the two; bars show the logarithm";
    format!(
        "\n{}{}",
        table.fitted(width),
        paragraph("  ", legend, width)
    )
}

fn us(ns: Option<u64>) -> String {
    ns.map_or("-".to_owned(), |ns| format!("{:.1}", ns as f64 / 1000.0))
}

/// A time in the largest unit that it has one of.
fn time(ns: u64) -> String {
    match ns as f64 {
        ns if ns >= 1e9 => format!("{} s", ns / 1e9),
        ns if ns >= 1e6 => format!("{} ms", ns / 1e6),
        ns => format!("{} us", ns / 1e3),
    }
}

/// A bar for `ns`, of 1 to `len_max` columns.
fn bar(times_ns: &Histogram<u64>, ns: u64, len_max: usize) -> String {
    let shortest = times_ns.min().max(1) as f64;
    let of = |ns: u64| (ns.max(1) as f64 / shortest).ln();
    let span = of(times_ns.max()).max(f64::MIN_POSITIVE);
    let len = (of(ns) / span).clamp(0.0, 1.0) * (len_max - 1) as f64;
    "#".repeat(1 + len as usize)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stats(received: u64, lost: u64) -> Stats {
        let mut stats = Stats::new();
        stats.counters.received = received;
        stats.counters.given_up = lost;
        // One in ten is longer than the timeout from its scheduled time, and was received.
        stats
            .rtt_ns
            .record_n(50_000, received - received / 10)
            .unwrap();
        stats.rtt_ns.record_n(1_500_000_000, received / 10).unwrap();
        stats.rtt_uncorrected_ns.record_n(50_000, received).unwrap();
        stats
    }

    fn cell(page: &str, percent: &str) -> String {
        let row = |line: &&str| line.split_whitespace().next() == Some(percent);
        let line = page.lines().find(row).unwrap_or_else(|| panic!("{page}"));
        line.split("  ")
            .filter(|it| !it.is_empty())
            .nth(1)
            .unwrap()
            .trim()
            .to_owned()
    }

    #[test]
    fn what_was_lost_was_not_measured() {
        for (timeout_ns, expected) in [
            (1_000_000_000, ">= 1 s"),
            (1_500_000_000, ">= 1.5 s"),
            (200_000_000, ">= 200 ms"),
            (1_000, ">= 1 us"),
        ] {
            let page = table(&stats(800, 200), timeout_ns, 80);
            assert_eq!(cell(&page, "50"), "50.0", "{page}");
            assert_eq!(cell(&page, "75"), "1500512.3", "{page}");
            for percent in ["90", "99", "99.5", "100"] {
                assert_eq!(cell(&page, percent), expected, "{page}");
            }
            assert!(
                page.lines().all(|line| line.chars().count() <= 80),
                "{page}"
            );
        }
    }

    #[test]
    fn where_nothing_was_received_there_is_no_table() {
        let page = table(&stats(0, 1000), 1_000_000_000, 80);
        assert_eq!(page, "\nround trip: none received\n");
    }

    #[test]
    fn without_a_loss_the_last_row_is_the_longest_time() {
        let page = table(&stats(1000, 0), 1_000_000_000, 80);
        assert_eq!(cell(&page, "100"), "1500512.3", "{page}");
        assert!(!page.contains("lost") && !page.contains(">="), "{page}");
    }
}
