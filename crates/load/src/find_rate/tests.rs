//! The search on targets and generators of known capacity.

use super::*;

/// A target that loses everything beyond `capacity`, asked by a generator that ends at `reach`.
fn measured(rate: Rate, capacity: f64, reach: f64) -> Trial {
    let (offered_pps, achieved_pps) = match rate {
        Rate::Max => (None, reach),
        Rate::Pps(pps) => (Some(pps), pps.min(reach)),
    };
    let loss_percent = 100.0 * (1.0 - capacity / achieved_pps).max(0.0);
    let verdict = if loss_percent > 1.0 {
        Verdict::TooMuchLost
    } else if offered_pps.is_none_or(|it| it <= reach) {
        Verdict::Holds
    } else {
        Verdict::NotSent
    };
    Trial::Measured(Step {
        span: Span::default(),
        offered_pps,
        achieved_pps,
        received_pps: achieved_pps * (1.0 - loss_percent / 100.0),
        loss_percent,
        rtt_p99_us: 0.0,
        sent_late: 0,
        send_lag_max_us: 0.0,
        verdict,
    })
}

/// A search up to `ceiling` by steps of a second, in which one percent may be lost.
fn goal(ceiling: Rate) -> Goal {
    Goal {
        ceiling,
        max_loss: 1.0,
        seconds: 1.0,
    }
}

fn found(ceiling: Rate, capacity: f64, reach: f64) -> Found {
    search(&goal(ceiling), |rate| Ok(measured(rate, capacity, reach))).unwrap()
}

#[test]
fn the_capacity_is_found_within_the_resolution() {
    for capacity in [500.0, 5000.0, 123_456.0, 990_000.0] {
        for ceiling in [Rate::Max, Rate::Pps(1e6)] {
            let found = found(ceiling, capacity, 1e6);
            let rate = found.rate_pps.unwrap();
            assert!((rate / capacity - 1.0).abs() < 1.5 * RESOLUTION, "{rate}");
            assert_eq!((found.limited_by, found.exit), (None, Exit::Done));
            let (steps, confirming) = found.ladder.split_at(found.ladder.len() - 2);
            assert!(confirming.iter().all(Step::holds), "confirmed");
            assert!(
                steps.len() <= 6,
                "what came back is a good guess: {steps:?}"
            );
        }
    }
}

#[test]
fn a_ceiling_that_holds_is_the_answer() {
    let found = found(Rate::Pps(5000.0), 1e6, 1e6);
    assert_eq!((found.rate_pps, found.ladder.len()), (Some(5000.0), 3));
    assert_eq!(found.limited_by, Some(Limit::Rate));
    assert!(found.notes[0].contains("raise it"), "{:?}", found.notes);
}

#[test]
fn a_target_that_does_less_the_more_it_is_asked_is_found_as_well() {
    // What comes back of an overload is a bad guess.
    let collapsing = |rate| {
        let Trial::Measured(step) = measured(rate, 100_000.0, 1e6) else {
            unreachable!("it is always measured");
        };
        let received_pps = if step.verdict == Verdict::Holds {
            step.received_pps
        } else {
            30.0
        };
        Ok(Trial::Measured(Step {
            received_pps,
            ..step
        }))
    };
    let rate = search(&goal(Rate::Max), collapsing)
        .unwrap()
        .rate_pps
        .unwrap();
    assert!((rate / 100_000.0 - 1.0).abs() < 1.5 * RESOLUTION, "{rate}");
}

#[test]
fn where_the_generator_ends_it_says_so() {
    for ceiling in [Rate::Max, Rate::Pps(1e6)] {
        let found = found(ceiling, 1e7, 200_000.0);
        assert!((found.rate_pps.unwrap() / 200_000.0 - 1.0).abs() < 2.5 * RESOLUTION);
        assert_eq!(found.limited_by, Some(Limit::Generator));
    }
}

#[test]
fn a_target_that_never_holds_has_no_rate() {
    let found = found(Rate::Max, 0.0, 1e6);
    assert_eq!((found.rate_pps, found.exit), (None, Exit::ThresholdMissed));
    // In a second of less than 100 /s one lost datagram is more than one percent.
    assert!(
        found
            .ladder
            .iter()
            .all(|step| step.offered_pps.is_none_or(|it| it >= 100.0))
    );
}

#[test]
fn a_rate_that_is_not_confirmed_is_lowered() {
    let mut seen = 0;
    let found = search(&goal(Rate::Pps(1000.0)), |rate| {
        seen += 1;
        // The second time, the ceiling does not hold.
        Ok(measured(rate, if seen == 2 { 0.0 } else { 1e6 }, 1e6))
    });
    assert_eq!(found.unwrap().rate_pps, Some(980.0));
}

#[test]
fn what_is_not_confirmed_for_want_of_sending_is_the_generator_s_limit() {
    let mut seen = 0;
    let found = search(&goal(Rate::Pps(1000.0)), |rate| {
        seen += 1;
        // After the ceiling has held, the generator is slower for a while.
        let reach = if (2..8).contains(&seen) { 900.0 } else { 1e6 };
        Ok(measured(rate, 1e6, reach))
    })
    .unwrap();
    assert!(found.rate_pps.unwrap() < 1000.0, "{found:?}");
    assert_eq!(found.limited_by, Some(Limit::Generator));
}

#[test]
fn a_stop_keeps_what_held_until_then_and_confirms_nothing() {
    let mut steps = 0;
    let found = search(&goal(Rate::Pps(1e6)), |rate| {
        steps += 1;
        Ok(if steps < 3 {
            measured(rate, 300_000.0, 1e6)
        } else {
            Trial::Stopped
        })
    })
    .unwrap();
    assert_eq!(
        (found.interrupted, found.exit),
        (true, Exit::ThresholdMissed)
    );
    assert_eq!(found.rate_pps.map(f64::round), Some(300_000.0));
    assert_eq!(found.confirmations, 0);
}

#[test]
fn a_hopeless_target_ends_the_search() {
    let hopeless = |_| Ok(Trial::Hopeless(Exit::Unanswered, vec!["silent".to_owned()]));
    let found = search(&goal(Rate::Max), hopeless).unwrap();
    assert_eq!((found.exit, found.rate_pps), (Exit::Unanswered, None));
    assert_eq!(found.notes, ["silent"]);
}

#[test]
fn where_no_rate_holds_a_note_says_what_to_try() {
    for (verdict, remedy) in [
        (Verdict::TooMuchLost, "--find-rate"),
        (Verdict::TooSlow, "--max-p99"),
        (Verdict::NotSent, "--cores"),
    ] {
        let step = |rate| {
            let Trial::Measured(step) = measured(rate, 1e6, 1e6) else {
                unreachable!("it is always measured");
            };
            Ok(Trial::Measured(Step { verdict, ..step }))
        };
        let found = search(&goal(Rate::Pps(1000.0)), step).unwrap();
        let [note] = &found.notes[..] else {
            panic!("not one note: {:?}", found.notes);
        };
        assert!(note.contains(remedy), "{note}");
    }
}

/// A token bucket of `capacity` a second that holds `depth`, asked for `seconds` by a generator
/// that stands still for `stall_seconds` in the middle and then sends at once what was due.
fn bucket(pps: f64, capacity: f64, depth: f64, seconds: f64, stall_seconds: f64) -> Trial {
    let (mut tokens, mut at, mut lost, mut sent_late) = (depth, 0.0, 0, 0);
    let count = (pps * seconds) as u64;
    let (stall_from, stall_to) = (seconds / 2.0, seconds / 2.0 + stall_seconds);
    for n in 0..count {
        let scheduled = n as f64 / pps;
        let sent = if (stall_from..stall_to).contains(&scheduled) {
            stall_to
        } else {
            scheduled
        };
        sent_late += u64::from(sent - scheduled > 0.001);
        tokens = f64::min(tokens + (sent - at) * capacity, depth);
        at = sent;
        if tokens >= 1.0 {
            tokens -= 1.0;
        } else {
            lost += 1;
        }
    }
    let percent = |part: u64| 100.0 * part as f64 / count as f64;
    let verdict = if percent(lost) <= 1.0 {
        Verdict::Holds
    } else if percent(lost) - percent(sent_late) > 1.0 {
        Verdict::TooMuchLost
    } else {
        Verdict::SentLate
    };
    Trial::Measured(Step {
        span: Span::default(),
        offered_pps: Some(pps),
        achieved_pps: pps,
        received_pps: (count - lost) as f64 / seconds,
        loss_percent: percent(lost),
        rtt_p99_us: 0.0,
        sent_late,
        send_lag_max_us: stall_seconds * 1e6,
        verdict,
    })
}

#[test]
fn stalls_of_the_sender_are_not_taken_for_the_target_s_loss() {
    let mut late = 0;
    for capacity in [500.0, 5000.0] {
        for stalled_every in [2, 3, 5] {
            let mut steps = 0;
            let found = search(&goal(Rate::Pps(20_000.0)), |rate| {
                steps += 1;
                let Rate::Pps(pps) = rate else {
                    unreachable!("the ceiling is a rate");
                };
                let stall_seconds = if steps % stalled_every == 0 {
                    0.06
                } else {
                    0.0
                };
                Ok(bucket(pps, capacity, 0.006 * capacity, 1.0, stall_seconds))
            })
            .unwrap();
            let rate = found.rate_pps.unwrap();
            assert!((rate / capacity - 1.0).abs() < 0.05, "{rate}: {found:?}");
            assert_eq!(found.limited_by, None);
            let is_late = |step: &&Step| step.verdict == Verdict::SentLate;
            let late_here = found.ladder.iter().filter(is_late).count();
            let is_said = found.notes.iter().any(|it| it.contains("60.0 ms"));
            assert_eq!(is_said, late_here > 0, "{:?}", found.notes);
            late += late_here;
        }
    }
    assert!(late > 0, "some of the steps were measured again");
}

#[test]
fn a_generator_that_is_always_late_is_the_limit() {
    let found = search(&goal(Rate::Pps(10_000.0)), |rate| {
        let Rate::Pps(pps) = rate else {
            unreachable!("the ceiling is a rate");
        };
        let stall_seconds = if pps > 1000.0 { 0.1 } else { 0.0 };
        Ok(bucket(pps, 5000.0, 30.0, 1.0, stall_seconds))
    })
    .unwrap();
    assert!(found.rate_pps.unwrap() <= 1000.0, "{found:?}");
    assert_eq!(found.limited_by, Some(Limit::Generator));
}

#[test]
fn below_the_floor_it_is_said_what_to_ask_instead() {
    let goal = Goal {
        ceiling: Rate::Pps(20_000.0),
        max_loss: 0.1,
        seconds: 0.5,
    };
    let found = search(&goal, |rate| {
        let Rate::Pps(pps) = rate else {
            unreachable!("the ceiling is a rate");
        };
        let Trial::Measured(step) = bucket(pps, 500.0, 3.0, 0.5, 0.0) else {
            unreachable!("it is always measured");
        };
        Ok(Trial::Measured(Step {
            verdict: Verdict::TooMuchLost,
            ..step
        }))
    })
    .unwrap();
    assert_eq!((found.rate_pps, found.floor_pps), (None, 2000.0));
    let asked: Vec<_> = found.ladder.iter().map(|it| it.offered_pps).collect();
    assert_eq!(asked, [Some(20_000.0), Some(2000.0)], "once at the floor");
    assert!(
        found.notes[0].contains("less than 2000 /s") && found.notes[0].contains("--duration 4"),
        "{:?}",
        found.notes
    );
}
