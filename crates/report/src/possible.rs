//! No set of runs, however they are merged, comes to a figure that cannot be.

use proptest::prelude::*;

use crate::group::{Group, gather};
use crate::histogram::Sum;
use crate::page::page;
use crate::run::{Counters, Kind, Run, Settings};
use crate::unit::Unit;

fn counters() -> impl Strategy<Value = Counters> {
    // What came, what did not, what could not be sent; a count may be any.
    let count = || prop_oneof![Just(0), 0..1000u64, any::<u64>().prop_map(|it| it >> 16)];
    (count(), count(), count(), count()).prop_map(|(came, lost, refused, dropped)| Counters {
        sent: came + lost,
        received: came,
        replied: came - came / 7,
        lost,
        refused,
        dropped: came / 7,
        kernel_drops: dropped,
        ..Counters::default()
    })
}

fn kind() -> impl Strategy<Value = Kind> {
    let other = "[ab]?".prop_map(Kind::Other);
    prop_oneof![3 => Just(Kind::RoundTrip), 2 => Just(Kind::Residence), 2 => other]
}

/// A run as a file may hold it: of any of its parts there may be none.
fn run() -> impl Strategy<Value = Run> {
    let times = prop::collection::vec(prop_oneof![0..100_000u64, any::<u64>()], 0..40);
    let span = (0..40u32, 0..30u32).prop_map(|(start, length)| {
        let start = 1e9 + f64::from(start);
        (start, start + f64::from(length))
    });
    let settings = "[12]".prop_map(|rate| Settings::new([("rate", rate)]));
    (
        kind(),
        prop::option::of(counters()),
        prop::option::of(times),
        prop::option::of(span),
        prop::option::of(settings),
        any::<bool>(),
    )
        .prop_map(|(kind, counters, times, span, settings, has_log)| {
            let seconds = span.map_or(0.0, |(start, end)| end - start);
            let mut sum = Sum::new();
            let values = times.iter().flatten();
            values.for_each(|&value| sum.record(value, 1));
            let counters = counters.filter(|_| !matches!(kind, Kind::Other(_)));
            let mut run = Run::of_times("r".to_owned(), kind, seconds, sum.into_ns(Unit::Ns));
            if times.is_none() || !has_log {
                run.times_ns = None;
            }
            if let Some(counters) = counters {
                run.rate_pps = (seconds > 0.0).then(|| counters.received as f64 / seconds);
            }
            (run.counters, run.span, run.settings) = (counters, span, settings);
            run
        })
}

fn named(runs: Vec<Run>) -> Vec<Run> {
    let name = |(index, run)| Run {
        name: format!("run {index}"),
        ..run
    };
    runs.into_iter().enumerate().map(name).collect()
}

/// What each row of a report has to be.
fn assert_is_possible(run: &Run) -> Result<(), TestCaseError> {
    prop_assert!(run.seconds >= 0.0 && run.seconds.is_finite(), "{run:?}");
    if let Some(rate) = run.rate_pps {
        prop_assert!(rate >= 0.0 && rate.is_finite(), "{run:?}");
    }
    if let Some(loss) = run.loss_percent() {
        prop_assert!((0.0..=100.0).contains(&loss), "{run:?}");
        let is_of_nothing = run.counters.is_some_and(|it| it == Counters::default());
        prop_assert!(!is_of_nothing, "{run:?}");
    }
    let Some(times) = run.times else {
        let nothing = run
            .times_ns
            .as_ref()
            .is_none_or(hdrhistogram::Histogram::is_empty);
        prop_assert!(nothing && run.value_at(0.5).is_none(), "{run:?}");
        return Ok(());
    };
    prop_assert!(
        times.count > 0,
        "a zero where nothing was measured: {run:?}"
    );
    let rising = [
        times.min,
        times.p50,
        times.p90,
        times.p99,
        times.p99_9,
        times.max,
    ];
    prop_assert!(rising.is_sorted(), "{run:?}");
    if let Some(times_ns) = &run.times_ns {
        prop_assert_eq!(times_ns.len(), times.count);
    }
    Ok(())
}

/// What the runs of a group come to, against the runs themselves.
fn assert_adds_up(group: &Group) -> Result<(), TestCaseError> {
    group.rows().try_for_each(assert_is_possible)?;
    let of = |runs: &[Run], count: fn(&Counters) -> u64| -> u64 {
        runs.iter()
            .filter_map(|run| run.counters.as_ref().map(count))
            .sum()
    };
    let sums: [fn(&Counters) -> u64; 4] = [
        |it| it.sent,
        |it| it.received,
        |it| it.lost,
        |it| it.kernel_drops,
    ];
    for count in sums {
        prop_assert_eq!(of(&group.runs, count), of(&group.now.each, count));
    }
    let measured = |runs: &[Run]| -> u64 {
        runs.iter()
            .filter_map(|run| Some(run.times_ns.as_ref()?.len()))
            .sum()
    };
    prop_assert!(measured(&group.now.each) <= measured(&group.runs));
    // No load is faster than all of its runs together.
    let rates = |runs: &[Run]| runs.iter().filter_map(|run| run.rate_pps).sum::<f64>();
    prop_assert!(
        rates(&group.now.each) <= rates(&group.runs) * (1.0 + 1e-9),
        "{group:?}"
    );
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(60))]

    #[test]
    fn no_figure_of_any_set_of_runs_is_impossible(
        now in prop::collection::vec(run(), 1..8),
        baseline in prop::collection::vec(run(), 0..4),
    ) {
        let groups = gather(named(now), named(baseline));
        groups.iter().try_for_each(assert_adds_up)?;
        let text = page(&groups, &[], 80);
        let words = text.split_whitespace();
        let odd = words.filter(|it| matches!(*it, "NaN" | "inf" | "+inf" | "-inf" | "-0.0"));
        prop_assert_eq!(odd.count(), 0, "{}", text);
    }

    #[test]
    fn the_order_of_the_runs_changes_no_figure(
        now in prop::collection::vec(run(), 1..6),
        turn in 0..6usize,
    ) {
        let now = named(now);
        let mut turned = now.clone();
        turned.rotate_left(turn % now.len());
        let figures = |runs| -> Vec<_> {
            let group = |it: &Group| {
                let of = |run: &Run| {
                    let rate = run.rate_pps.map(|it| (it * 1e3).round());
                    (run.counters, rate, run.times.map(|it| (it.count, it.max)))
                };
                let mut figures: Vec<_> = it.now.each.iter().map(of).collect();
                figures.sort_by(|a, b| format!("{a:?}").cmp(&format!("{b:?}")));
                format!("{} {} {figures:?}", it.kind, it.apart)
            };
            gather(runs, Vec::new()).iter().map(group).collect()
        };
        prop_assert_eq!(figures(now), figures(turned));
    }
}
