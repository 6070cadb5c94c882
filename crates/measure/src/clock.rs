//! The only file that reads a clock.
//!
//! Residence times are taken on `CLOCK_REALTIME`, since that is what the kernel stamps with, and
//! that clock can be set. [`StepWatch`] tells a step from a long stay.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use serde::Serialize;

/// Now, on the clock that never steps.
#[expect(
    clippy::disallowed_methods,
    reason = "this is the file that reads clocks"
)]
#[inline]
pub fn monotonic() -> Instant {
    Instant::now()
}

/// Now, nanoseconds of `CLOCK_REALTIME` since 1970; 0 before.
#[expect(
    clippy::disallowed_methods,
    reason = "this is the file that reads clocks"
)]
#[inline]
pub fn realtime_ns() -> u64 {
    let since_epoch = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or(Duration::ZERO);
    since_epoch.as_nanos() as u64
}

/// From when until when something was counted, in seconds of the Unix epoch.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
#[non_exhaustive]
pub struct Span {
    /// When it began.
    pub start_unix_seconds: f64,
    /// When it ended.
    pub end_unix_seconds: f64,
}

impl Span {
    /// From `start` to `end`, by what `CLOCK_REALTIME` says now.
    pub fn between(start: Instant, end: Instant) -> Self {
        let (now, now_ns) = (monotonic(), realtime_ns());
        // To the millisecond: no reader needs more, and no host keeps it.
        let at = |instant: Instant| {
            let since = now.saturating_duration_since(instant).as_nanos() as u64;
            let until = instant.saturating_duration_since(now).as_nanos() as u64;
            (now_ns.saturating_sub(since) + until).div_euclid(1_000_000) as f64 / 1000.0
        };
        Self {
            start_unix_seconds: at(start),
            end_unix_seconds: at(end),
        }
    }
}

/// `CLOCK_REALTIME` as it was when it was read once, carried on by the clock that never steps.
///
/// NTP slews both clocks alike, so the kernel's stamps stay comparable for as long as nobody sets
/// the clock; [`Timeline::step_ns`] tells if somebody did.
#[derive(Clone, Copy, Debug)]
pub struct Timeline {
    origin: Instant,
    origin_ns: u64,
}

/// Readings of both clocks, of which the closest pair counts.
const READINGS: usize = 16;

impl Timeline {
    /// A timeline that begins now.
    pub fn start() -> Self {
        let read = |_| {
            let before = monotonic();
            let origin_ns = realtime_ns();
            let width = before.elapsed();
            let origin = before + width / 2;
            (width, Self { origin, origin_ns })
        };
        let readings = (0..READINGS).map(read);
        let (_, closest) = readings
            .min_by_key(|&(width, _)| width)
            .expect("there are readings");
        closest
    }

    /// Now, in nanoseconds since 1970.
    #[inline]
    pub fn now_ns(&self) -> u64 {
        self.origin_ns
            + monotonic()
                .saturating_duration_since(self.origin)
                .as_nanos() as u64
    }

    /// By how much `CLOCK_REALTIME` has been set since the start, in nanoseconds; 0 for what is
    /// within the error of reading two clocks.
    pub fn step_ns(&self) -> i64 {
        let step_ns = realtime_ns().wrapping_sub(self.now_ns()) as i64;
        if i128::from(step_ns).abs() > DRIFT_NS_MAX {
            step_ns
        } else {
            0
        }
    }
}

/// A residence time above which a step of the clock is considered.
const SUSPICIOUS_NS: u64 = 1_000_000_000;
/// How far the clocks may drift apart between two readings without a step: NTP slews both alike,
/// and a reading can be interrupted in the middle.
const DRIFT_NS_MAX: i128 = 1_000_000;

/// Tells a residence time from a clock that was set meanwhile.
#[derive(Debug)]
pub struct StepWatch {
    origin: Instant,
    /// `CLOCK_REALTIME` minus `CLOCK_MONOTONIC`, which only a step changes.
    offset_ns: i128,
}

impl StepWatch {
    /// Starts watching now.
    pub fn new() -> Self {
        let origin = monotonic();
        Self {
            origin,
            offset_ns: offset_ns(origin),
        }
    }

    /// How long a datagram stayed that was received at `received_ns`, in nanoseconds; `None` if
    /// the clock was set meanwhile.
    ///
    /// The clocks are compared only where the time is negative or suspiciously long.
    #[inline]
    pub fn residence_ns(&mut self, received_ns: u64, now_ns: u64) -> Option<u64> {
        match now_ns.checked_sub(received_ns) {
            Some(residence_ns) if residence_ns < SUSPICIOUS_NS => Some(residence_ns),
            Some(residence_ns) if !self.has_stepped() => Some(residence_ns),
            _ => None,
        }
    }

    fn has_stepped(&self) -> bool {
        (offset_ns(self.origin) - self.offset_ns).abs() > DRIFT_NS_MAX
    }

    /// Takes the clock as it is now for the right one. Called once a batch's times are settled.
    pub fn accept(&mut self) {
        self.offset_ns = offset_ns(self.origin);
    }
}

impl Default for StepWatch {
    fn default() -> Self {
        Self::new()
    }
}

fn offset_ns(origin: Instant) -> i128 {
    i128::from(realtime_ns()) - monotonic().duration_since(origin).as_nanos() as i128
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn short_stays_are_taken_as_they_are() {
        assert_eq!(StepWatch::new().residence_ns(1_000, 6_000), Some(5_000));
    }

    #[test]
    fn a_timeline_runs_beside_the_clock_and_tells_when_that_was_set() {
        let mut timeline = Timeline::start();
        let first = timeline.now_ns();
        assert!(timeline.now_ns() >= first);
        timeline.origin_ns -= 5_000_000_000;
        assert!((4_000_000_000..6_000_000_000).contains(&timeline.step_ns()));
    }

    #[test]
    fn a_stamp_from_the_future_is_a_step() {
        assert_eq!(StepWatch::new().residence_ns(6_000, 1_000), None);
    }

    #[test]
    fn a_long_stay_counts_unless_the_clock_was_set() {
        let mut watch = StepWatch::new();
        assert_eq!(watch.residence_ns(0, 3_000_000_000), Some(3_000_000_000));
        watch.offset_ns -= 3_000_000_000;
        assert_eq!(watch.residence_ns(0, 3_000_000_000), None);
        watch.accept();
        assert_eq!(watch.residence_ns(0, 3_000_000_000), Some(3_000_000_000));
    }

    #[test]
    fn a_span_is_told_in_seconds_of_the_epoch() {
        let now = monotonic();
        let span = Span::between(now - Duration::from_secs(10), now);
        let seconds = span.end_unix_seconds - span.start_unix_seconds;
        assert!((seconds - 10.0).abs() < 0.01, "{span:?}");
        let now = realtime_ns() as f64 / 1e9;
        assert!((now - span.end_unix_seconds).abs() < 60.0, "{span:?}");
    }
}
