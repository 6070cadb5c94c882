//! An interval in a line.

use crate::plan::Plan;
use crate::run::Interval;
use crate::totals::Totals;

/// An interval, whose counters are `totals`, in fewer than `width` columns, which leaves
/// out what is least important.
pub(crate) fn interval(
    plan: &Plan,
    totals: &Totals,
    interval: &Interval<'_>,
    width: usize,
) -> String {
    let per_second = |pps: f64| format!("{}/s", short(pps, &["", "k", "M", "G"]));
    let time = |us| short(us, &["us", "ms", "s"]);
    let rtt = |quantile| match interval.stats.rtt_at(quantile) {
        Some(ns) => time(ns as f64 / 1000.0),
        None if totals.rtt_us.count == 0 => "-".to_owned(),
        None => format!(">{}", time(plan.timeout.as_secs_f64() * 1e6)),
    };
    let digits = match plan.interval {
        Some(it) if it.as_secs() == 0 => 2,
        _ => 0,
    };
    let received = totals.received as f64 / totals.seconds.max(1e-9);
    let end = (interval.start + interval.length).as_secs_f64();
    let mut parts = vec![
        format!("{end:>4.digits$} s"),
        format!("sent {:>8}", per_second(totals.achieved_pps)),
        format!("received {:>8}", per_second(received)),
        format!("p50 {:>7}", rtt(0.5)),
        format!("p99 {:>7}", rtt(0.99)),
        format!(
            "lost {}",
            short(totals.lost as f64, &["", "k", "M", "G"]).trim_end()
        ),
    ];
    let fits = |parts: &[String]| parts.join("  ").chars().count() < width;
    for left_out in ["received", "p50", "sent"] {
        if !fits(&parts) {
            parts.retain(|part| !part.starts_with(left_out));
        }
    }
    parts.join("  ")
}

/// `value` in at most three digits, in the one of `units` that fits; each is 1000 of the one
/// before.
fn short(value: f64, units: &[&str]) -> String {
    let mut value = value;
    let mut units = units.iter();
    let mut unit = units.next().copied().unwrap_or_default();
    for next in units {
        if value < 999.5 {
            break;
        }
        value /= 1000.0;
        unit = next;
    }
    let digits = match value {
        _ if value.fract() == 0.0 && unit.is_empty() => 0,
        ..9.995 => 2,
        9.995..99.95 => 1,
        _ => 0,
    };
    format!("{value:.digits$} {unit}")
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::options::Options;
    use crate::stats::Stats;
    use reflector_measure::clock::Span;

    #[test]
    fn what_is_lost_is_not_shown_as_measured() {
        let plan = Plan::new(&Options::new("127.0.0.1:7".parse().unwrap())).unwrap();
        for (received, lost, expected) in [
            (0, 0, "p50       -  p99       -  lost 0"),
            (0, 10, "p50 >1.00 s  p99 >1.00 s  lost 10"),
            (90, 10, "p50 45.0 us  p99 >1.00 s  lost 10"),
        ] {
            let mut stats = Stats::new();
            (stats.counters.received, stats.counters.given_up) = (received, lost);
            stats.rtt_ns.record_n(45_000, received).unwrap();
            let totals = Totals::new(&plan, &plan.offer, &stats, 1.0);
            let one = Interval {
                stats: &stats,
                start: Duration::ZERO,
                length: Duration::from_secs(1),
                span: Span::default(),
            };
            let line = interval(&plan, &totals, &one, 80);
            assert!(line.ends_with(expected), "{line}");
            for width in [80, 60, 40] {
                let line = interval(&plan, &totals, &one, width);
                assert!(line.chars().count() < width, "{line}");
            }
        }
    }

    #[test]
    fn numbers_have_three_digits_and_a_unit() {
        for (value, expected) in [
            (0.0, "0 "),
            (0.5, "0.50 "),
            (999.0, "999 "),
            (999.7, "1.00 k"),
            (20_000.0, "20.0 k"),
            (12_345_678.0, "12.3 M"),
            (99_960_000.0, "100 M"),
        ] {
            assert_eq!(short(value, &["", "k", "M", "G"]), expected);
        }
        assert_eq!(short(44.86, &["us", "ms", "s"]), "44.9 us");
        assert_eq!(short(60_000_000.0, &["us", "ms", "s"]), "60.0 s");
    }
}
