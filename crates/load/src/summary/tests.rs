//! How a run ends, and what is said about it.

use super::*;
use crate::ended::Ended;
use crate::host_loss::HostLoss;
use crate::options::Options;
use crate::stats::Stats;
use reflector_measure::clock::Span;
use reflector_measure::percent::Percent;

/// What `change` makes of a run of 100 datagrams that all came back in 20 µs.
fn summary(change: impl FnOnce(&mut Options, &mut Outcome)) -> Summary {
    let mut stats = Stats::new();
    (stats.counters.sent, stats.counters.received) = (100, 100);
    stats.rtt_ns.record_n(20_000, 100).unwrap();
    stats.send_lag_ns.record_n(1_000, 100).unwrap();
    let mut outcome = Outcome {
        stats,
        seconds: 1.0,
        span: Span::default(),
        ended: Ended {
            used_flows: 16,
            ..Ended::default()
        },
        host: HostLoss::default(),
        is_interrupted: false,
    };
    let mut options = Options::new("127.0.0.1:7".parse().unwrap());
    change(&mut options, &mut outcome);
    let plan = Plan::new(&options).unwrap();
    Summary::new(&plan, &plan.offer, &outcome)
}

fn lose(outcome: &mut Outcome, count: u64) {
    outcome.stats.counters.received -= count;
    outcome.stats.counters.given_up += count;
}

#[test]
fn a_run_without_a_fault_has_nothing_to_say() {
    let summary = summary(|_, _| {});
    assert_eq!((summary.exit(), summary.exit_code), (Exit::Done, 0));
    assert!(summary.notes.is_empty() && summary.missed.is_empty());
    assert_eq!(summary.limited_by, None);
}

#[test]
fn the_gravest_fault_is_the_exit_code() {
    let wrong = "192.0.2.1:7".parse().unwrap();
    type Change = fn(&mut Options, &mut Outcome);
    let cases: [(Change, Exit); 10] = [
        (|_, it| lose(it, 100), Exit::Unanswered),
        (|_, it| lose(it, 99), Exit::Done),
        (
            |_, it| {
                lose(it, 100);
                it.stats.counters.late = 1;
            },
            Exit::Done,
        ),
        (
            |_, it| {
                lose(it, 100);
                it.stats.counters.duplicated = 1;
            },
            Exit::Done,
        ),
        (|_, it| it.stats.counters = Default::default(), Exit::Failed),
        (
            |_, it| {
                it.stats.counters = Default::default();
                it.is_interrupted = true;
            },
            Exit::Done,
        ),
        (
            |options, it| {
                options.max_loss = Some(Percent(0.9));
                lose(it, 1);
            },
            Exit::ThresholdMissed,
        ),
        (
            |options, it| {
                options.max_loss = Some(Percent(1.0));
                lose(it, 1);
            },
            Exit::Done,
        ),
        (
            |options, _| options.max_p99 = Some(Duration::from_micros(19)),
            Exit::ThresholdMissed,
        ),
        (
            |options, _| options.max_p99 = Some(Duration::from_micros(21)),
            Exit::Done,
        ),
    ];
    for (index, (change, exit)) in cases.into_iter().enumerate() {
        assert_eq!(summary(change).exit(), exit, "case {index}");
        // Whatever else went wrong.
        let summary = summary(|options, it| {
            change(options, it);
            it.stats.counters.wrong_source.record(wrong, 1);
        });
        assert_eq!(summary.exit(), Exit::WrongSource, "case {index}");
        assert!(summary.notes[0].contains("pktinfo"));
    }
}

#[test]
fn what_is_refused_is_no_loss_and_passes_no_limit() {
    for (max_loss, exit) in [(None, Exit::Done), (Some(80.0), Exit::Done)]
        .into_iter()
        .chain([(Some(1.0), Exit::ThresholdMissed)])
    {
        let summary = summary(|options, it| {
            options.max_loss = max_loss.map(Percent);
            it.stats.counters.send_errors.insert(libc::EPERM, 300);
        });
        let totals = &summary.totals;
        assert_eq!((totals.lost, totals.loss_percent), (0, Some(0.0)));
        assert_eq!((totals.refused, totals.refused_percent), (300, Some(75.0)));
        assert_eq!(totals.rtt_us.count, 100, "what was not sent has no time");
        assert_eq!(summary.exit(), exit, "{:?}", summary.missed);
        let note = &summary.notes[0];
        assert!(
            note.contains("300 of 400") && note.contains("nft"),
            "{note}"
        );
    }
}

#[test]
fn the_generator_says_when_it_was_the_limit_and_by_what() {
    for (unsent, lag_ns, window_waits, limited_by, said) in [
        (1, 1_000, 0, None, ""),
        (2, 1_000, 0, Some("generator"), "2 datagrams were not sent"),
        (2, 1_000, 1, Some("window"), "2 datagrams were not sent"),
        // Nothing was left out, and two of a hundred late ones move no percentile that can be told.
        (0, 3_000_000, 0, None, ""),
        (
            0,
            9_000_000,
            0,
            Some("generator"),
            "the 50th percentile from 20.0 to",
        ),
    ] {
        let summary = summary(|_, it| {
            it.ended.unsent = unsent;
            it.stats.counters.window_waits = window_waits;
            it.stats.rtt_uncorrected_ns.record_n(20_000, 100).unwrap();
            it.stats.rtt_ns.reset();
            let late = if lag_ns == 9_000_000 { 100 } else { 2 };
            it.stats.rtt_ns.record_n(20_000 + lag_ns, late).unwrap();
            it.stats.rtt_ns.record_n(20_000, 100 - late).unwrap();
        });
        assert_eq!(summary.limited_by, limited_by, "{unsent} {lag_ns}");
        let note = summary.notes.iter().find(|it| it.starts_with("limited by"));
        assert_eq!(note.is_some(), limited_by.is_some());
        assert!(note.is_none_or(|it| it.contains(said)), "{note:?}");
    }
}

#[test]
fn silence_is_explained_by_what_came_instead() {
    for (change, said) in [
        (
            (|_| {}) as fn(&mut crate::stats::Counters),
            "a firewall drops",
        ),
        (
            |it| *it.icmp.entry("port_unreachable").or_default() += 1,
            "nobody listens on this port",
        ),
        (
            |it| *it.icmp.entry("prohibited").or_default() += 1,
            "ICMP says prohibited",
        ),
        (|it| it.foreign = 1, "not with what it was sent"),
        (|it| it.corrupt = 1, "not with what it was sent"),
    ] {
        let summary = summary(|_, it| {
            lose(it, 100);
            change(&mut it.stats.counters);
        });
        assert!(summary.notes[0].contains(said), "{:?}", summary.notes);
    }
}

#[test]
fn a_loss_before_the_first_answer_is_told_apart() {
    for (cold, is_said) in [(9, false), (11, true), (200, true)] {
        let summary = summary(|_, it| {
            lose(it, 90);
            it.ended.cold_lost = cold;
            it.ended.first_answer_ns = Some(1_300_000_000);
        });
        assert_eq!(summary.lost_before_answer, cold.min(90));
        assert_eq!(summary.first_answer_seconds, Some(1.3));
        let said = format!("{} of 90 lost datagrams", cold.min(90));
        let has = summary.notes.iter().any(|it| it.starts_with(&said));
        assert_eq!(has, is_said, "{:?}", summary.notes);
    }
    // Where nothing came at all, there is nothing to tell apart.
    let silent = summary(|_, it| {
        lose(it, 100);
        it.ended.cold_lost = 100;
    });
    assert_eq!(silent.first_answer_seconds, None);
    assert_eq!(silent.notes.len(), 1, "{:?}", silent.notes);
}

#[test]
fn what_is_late_is_a_lower_bound() {
    let summary = summary(|_, it| {
        lose(it, 2);
        it.stats.counters.late = 2;
    });
    let note = summary
        .notes
        .iter()
        .find(|it| it.contains("at least 2 answers"));
    assert!(note.is_some(), "{:?}", summary.notes);
}

#[test]
fn departures_that_are_not_those_of_the_schedule_are_told() {
    for (poisson, sent_ns, is_said) in [
        (true, [0, 200], true),
        (true, [100, 100], false),
        // An even schedule has no shape that could be missed; its lag tells.
        (false, [0, 200], false),
    ] {
        let summary = summary(|options, it| {
            options.poisson = poisson;
            for gap_ns in sent_ns {
                it.stats.gaps.record(gap_ns, 100);
            }
        });
        let gaps = summary.totals.departure_gaps.expect("two");
        assert_eq!((gaps.count, gaps.mean_us), (2, 0.1));
        let has = summary.notes.iter().any(|it| it.contains("not as random"));
        assert_eq!(has, is_said, "{:?}", summary.notes);
    }
}
