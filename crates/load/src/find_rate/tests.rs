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
        offered_pps,
        achieved_pps,
        loss_percent,
        rtt_p99_us: 0.0,
        verdict,
    })
}

fn found(ceiling: Rate, capacity: f64, reach: f64) -> Found {
    search(ceiling, 1.0, 1.0, |rate| {
        Ok(measured(rate, capacity, reach))
    })
    .unwrap()
}

#[test]
fn the_capacity_is_found_within_the_resolution() {
    for ceiling in [Rate::Max, Rate::Pps(1e6)] {
        let found = found(ceiling, 123_456.0, 1e6);
        let rate = found.rate_pps.unwrap();
        assert!((rate / 123_456.0 - 1.0).abs() < 2.5 * RESOLUTION, "{rate}");
        assert_eq!((found.limited_by, found.exit), (None, Exit::Done));
        assert!(
            found.ladder.iter().rev().take(2).all(Step::holds),
            "confirmed"
        );
    }
}

#[test]
fn a_ceiling_that_holds_is_the_answer() {
    let found = found(Rate::Pps(5000.0), 1e6, 1e6);
    assert_eq!((found.rate_pps, found.ladder.len()), (Some(5000.0), 3));
    assert_eq!(found.limited_by, None);
}

#[test]
fn where_the_generator_ends_it_says_so() {
    for ceiling in [Rate::Max, Rate::Pps(1e6)] {
        let found = found(ceiling, 1e7, 200_000.0);
        assert!((found.rate_pps.unwrap() / 200_000.0 - 1.0).abs() < 2.5 * RESOLUTION);
        assert_eq!(found.limited_by, Some("generator"));
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
    let found = search(Rate::Pps(1000.0), 1.0, 1.0, |rate| {
        seen += 1;
        // The second time, the ceiling does not hold.
        Ok(measured(rate, if seen == 2 { 0.0 } else { 1e6 }, 1e6))
    });
    assert_eq!(found.unwrap().rate_pps, Some(950.0));
}

#[test]
fn a_stop_keeps_what_held_until_then() {
    let mut steps = 0;
    let found = search(Rate::Pps(1e6), 1.0, 1.0, |rate| {
        steps += 1;
        Ok(if steps < 5 {
            measured(rate, 300_000.0, 1e6)
        } else {
            Trial::Stopped
        })
    })
    .unwrap();
    assert_eq!((found.interrupted, found.exit), (true, Exit::Done));
    assert_eq!((found.rate_pps, found.confirmations), (Some(250_000.0), 0));
}

#[test]
fn a_hopeless_target_ends_the_search() {
    let hopeless = |_| Ok(Trial::Hopeless(Exit::Unanswered, vec!["silent".to_owned()]));
    let found = search(Rate::Max, 1.0, 1.0, hopeless).unwrap();
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
        let found = search(Rate::Pps(1000.0), 1.0, 1.0, step).unwrap();
        let [note] = &found.notes[..] else {
            panic!("not one note: {:?}", found.notes);
        };
        assert!(note.contains(remedy), "{note}");
    }
}
