use super::*;

const SECOND: u64 = 1_000_000_000;

fn shape(pps: f64) -> Shape {
    Shape {
        rate: Rate::Pps(pps),
        burst: 1,
        poisson: false,
        seed: 7,
        phase: 0.0,
        warmup_ns: 0,
        duration_ns: Some(SECOND),
        count: None,
    }
}

/// Takes everything that is due at each of the times; returns the scheduled times.
fn taken(schedule: &mut Schedule, times: impl Iterator<Item = u64>) -> Vec<u64> {
    let mut all = Vec::new();
    for now_ns in times {
        while let Some(due) = schedule.due(now_ns) {
            schedule.take(due.scheduled_ns, due.count);
            all.extend((0..due.count).map(|_| due.scheduled_ns));
        }
    }
    all
}

#[test]
fn a_constant_rate_is_even_and_ends_in_time() {
    let mut schedule = Schedule::new(shape(1000.0));
    let times = taken(&mut schedule, (0..2 * SECOND).step_by(250_000));
    assert_eq!(times.len(), 1000);
    assert!(
        times
            .iter()
            .zip(0..)
            .all(|(&time, i)| time == i * 1_000_000)
    );
    assert_eq!(
        (schedule.next_ns(0), schedule.end_ns()),
        (None, Some(SECOND))
    );
}

#[test]
fn a_stall_moves_no_scheduled_time() {
    let mut smooth = Schedule::new(shape(1000.0));
    let mut stalled = smooth.clone();
    let expected = taken(&mut smooth, (0..SECOND).step_by(1_000_000));
    let late = [100_000_000, 900_000_000, SECOND, SECOND + 1].into_iter();
    assert_eq!(taken(&mut stalled, late), expected);
}

#[test]
fn what_is_skipped_was_never_due_and_what_follows_is_on_time() {
    let mut schedule = Schedule::new(shape(1000.0));
    assert_eq!(schedule.skip(900_000), 0);
    assert_eq!(schedule.skip(10_500_000), 10);
    let due = schedule.due(10_500_000).unwrap();
    assert_eq!(due.scheduled_ns, 10_000_000);
    schedule.take(due.scheduled_ns, due.count);
    assert_eq!(
        (schedule.skip(10_500_000), schedule.due(10_500_000)),
        (0, None)
    );
    assert_eq!(schedule.next_ns(0), Some(11_000_000));
    assert_eq!(
        (schedule.skip(5 * SECOND), schedule.skip(5 * SECOND)),
        (989, 0)
    );
}

#[test]
fn a_burst_has_one_time_and_can_be_taken_in_parts() {
    let shape = Shape {
        burst: 100,
        ..shape(1000.0)
    };
    let mut schedule = Schedule::new(shape);
    let due = schedule.due(0).unwrap();
    assert_eq!(
        due,
        Due {
            scheduled_ns: 0,
            count: 100
        }
    );
    schedule.take(0, 64);
    assert_eq!(
        schedule.due(0),
        Some(Due {
            scheduled_ns: 0,
            count: 36
        })
    );
    schedule.take(0, 36);
    assert_eq!(schedule.due(0), None);
    assert_eq!(schedule.next_ns(0), Some(100_000_000));
}

#[test]
fn poisson_times_are_random_repeatable_and_of_the_right_mean() {
    let shape = Shape {
        poisson: true,
        ..shape(100_000.0)
    };
    let times = taken(&mut Schedule::new(shape), std::iter::once(2 * SECOND));
    assert_eq!(
        times,
        taken(&mut Schedule::new(shape), std::iter::once(2 * SECOND))
    );
    // The count is Poisson distributed: five standard deviations are 1.6 %.
    assert!((98_400..101_600).contains(&times.len()), "{}", times.len());
    let gaps: Vec<_> = times
        .windows(2)
        .map(|pair| (pair[1] - pair[0]) as f64)
        .collect();
    let mean = gaps.iter().sum::<f64>() / gaps.len() as f64;
    let variance = gaps.iter().map(|gap| (gap - mean).powi(2)).sum::<f64>() / gaps.len() as f64;
    // An exponential distribution has a standard deviation equal to its mean.
    assert!((0.95..1.05).contains(&(variance.sqrt() / mean)));
}

#[test]
fn the_warm_up_is_sent_and_not_counted() {
    let shape = Shape {
        warmup_ns: SECOND,
        count: Some(10),
        duration_ns: None,
        ..shape(100.0)
    };
    let mut schedule = Schedule::new(shape);
    let times = taken(&mut schedule, std::iter::once(9 * SECOND));
    assert_eq!(
        times
            .iter()
            .filter(|&&time| !schedule.is_counted(time))
            .count(),
        100
    );
    assert_eq!(times.len(), 110);
}

#[test]
fn a_count_ends_in_the_middle_of_a_burst() {
    let shape = Shape {
        burst: 64,
        count: Some(100),
        ..shape(1e6)
    };
    assert_eq!(
        taken(&mut Schedule::new(shape), std::iter::once(SECOND)).len(),
        100
    );
}

#[test]
fn what_was_not_sent_in_time_is_the_backlog() {
    let mut schedule = Schedule::new(shape(1000.0));
    taken(&mut schedule, std::iter::once(300_000_000));
    assert_eq!(schedule.backlog(SECOND), 1000 - 301);
    schedule.stop(500_000_000);
    assert_eq!(schedule.backlog(SECOND), 500 - 301);
}

#[test]
fn a_backlog_beyond_counting_is_told_within_a_burst() {
    for poisson in [false, true] {
        let shape = Shape {
            poisson,
            duration_ns: Some(3600 * SECOND),
            ..shape(1e9)
        };
        let backlog = Schedule::new(shape).backlog(u64::MAX) as f64;
        assert!((backlog / 3.6e12 - 1.0).abs() < 1e-6, "{backlog}");
        let counted = Shape {
            count: Some(5_000_000),
            ..shape
        };
        assert_eq!(Schedule::new(counted).backlog(u64::MAX), 5_000_000);
    }
}

#[test]
fn without_a_rate_everything_is_due_now() {
    let mut schedule = Schedule::new(Shape {
        rate: Rate::Max,
        burst: 64,
        ..shape(1.0)
    });
    for now_ns in [5, 77, SECOND - 1] {
        let due = schedule.due(now_ns).unwrap();
        assert_eq!(
            due,
            Due {
                scheduled_ns: now_ns,
                count: 64
            }
        );
        schedule.take(now_ns, 64);
    }
    assert_eq!(schedule.due(SECOND), None);
    assert_eq!(schedule.end_ns(), Some(SECOND));
}
