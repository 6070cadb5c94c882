//! How regular departures were: the times between one burst and the next. Pure.
//!
//! What is due at random times leaves at random times only if the sender keeps up. The coefficient
//! of variation (cv), deviation by mean, tells: it is 0 for an even schedule and 1 for an
//! exponential one, and what was sent has the cv of its schedule, or was not sent by it.

use serde::Serialize;

/// Times between departures that follow each other, and those that were scheduled.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(crate) struct Gaps {
    sent: Moments,
    scheduled: Moments,
}

/// Sums of values in nanoseconds and of their squares.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
struct Moments {
    count: u64,
    sum: f64,
    squares: f64,
}

/// The times between departures, as they are reported.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub(crate) struct DepartureGaps {
    /// How many.
    pub(crate) count: u64,
    /// Their mean.
    pub(crate) mean_us: f64,
    /// Their deviation by their mean.
    pub(crate) cv: f64,
    /// The same, as scheduled.
    pub(crate) scheduled_cv: f64,
}

impl Gaps {
    /// Notes that `sent_ns` passed since the last burst was sent, which was scheduled for
    /// `scheduled_ns` before this one.
    #[inline]
    pub(crate) fn record(&mut self, sent_ns: u64, scheduled_ns: u64) {
        self.sent.record(sent_ns as f64);
        self.scheduled.record(scheduled_ns as f64);
    }

    /// Adds those of another sender, or of another time.
    pub(crate) fn add(&mut self, other: &Self) {
        self.sent.add(&other.sent);
        self.scheduled.add(&other.scheduled);
    }

    /// What they come to; `None` where there are fewer than two.
    pub(crate) fn summary(&self) -> Option<DepartureGaps> {
        (self.sent.count > 1).then(|| DepartureGaps {
            count: self.sent.count,
            mean_us: self.sent.mean() / 1000.0,
            cv: self.sent.cv(),
            scheduled_cv: self.scheduled.cv(),
        })
    }
}

impl Moments {
    #[inline]
    fn record(&mut self, value: f64) {
        self.count += 1;
        self.sum += value;
        self.squares += value * value;
    }

    fn add(&mut self, other: &Self) {
        self.count += other.count;
        self.sum += other.sum;
        self.squares += other.squares;
    }

    fn mean(&self) -> f64 {
        self.sum / self.count.max(1) as f64
    }

    fn cv(&self) -> f64 {
        let mean = self.mean();
        let variance = self.squares / self.count.max(1) as f64 - mean * mean;
        variance.max(0.0).sqrt() / mean.max(f64::MIN_POSITIVE)
    }
}

#[cfg(test)]
mod tests {
    use fastrand::Rng;

    use super::*;

    #[test]
    fn an_even_schedule_has_none_and_a_random_one_has_one() {
        let mut random = Rng::with_seed(7);
        let (mut even, mut poisson) = (Gaps::default(), Gaps::default());
        for _ in 0..100_000 {
            even.record(50_000, 50_000);
            let gap_ns = (-(1.0 - random.f64()).ln() * 50_000.0) as u64;
            poisson.record(gap_ns, gap_ns);
        }
        let even = even.summary().unwrap();
        assert!(
            even.cv < 1e-3 && (even.mean_us - 50.0).abs() < 1e-6,
            "{even:?}"
        );
        let poisson = poisson.summary().unwrap();
        assert!((poisson.cv - 1.0).abs() < 0.02, "{poisson:?}");
        assert_eq!(poisson.cv, poisson.scheduled_cv);
    }

    #[test]
    fn a_sender_that_stalls_and_catches_up_is_seen() {
        // Every tenth is late by five, and those due meanwhile leave with it.
        let mut gaps = Gaps::default();
        for _ in 0..1000 {
            for n in 0..10 {
                let sent_ns = match n {
                    0 => 600,
                    1..=5 => 0,
                    _ => 100,
                };
                gaps.record(sent_ns, 100);
            }
        }
        let mut sum = Gaps::default();
        sum.add(&gaps);
        let gaps = sum.summary().unwrap();
        assert!(gaps.scheduled_cv < 1e-3 && gaps.cv > 1.5, "{gaps:?}");
        assert_eq!(gaps.count, 10_000);
    }

    #[test]
    fn one_gap_tells_nothing() {
        let mut gaps = Gaps::default();
        gaps.record(1, 1);
        assert_eq!(gaps.summary(), None);
    }
}
