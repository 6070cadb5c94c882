//! When a log was written: its stamps as times of day, and how much of the time it covers.

use crate::hdr_log::line::{Interval, Second};

/// Seconds of a year, by which a stamp is told from a time of day.
const YEAR: f64 = 365.0 * 24.0 * 3600.0;
/// Stretches of time without a gap that are kept apart.
const STRETCHES_MAX: usize = 1 << 16;
/// Seconds between two intervals that are none: the writers round to a millisecond.
const ROUNDING: f64 = 0.002;

/// What the head of a log says of its times.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(crate) struct Head {
    /// When it begins.
    pub(crate) start_time: Option<f64>,
    /// What the stamps are counted from; of a log that does not say so it is found out at its first
    /// interval.
    pub(crate) base_time: Option<f64>,
    /// What the second column is; said to be an end, it is a length all the same where it is below
    /// the beginning of its interval.
    pub(crate) second: Second,
}

impl Head {
    /// When an interval began, in seconds of the Unix epoch, or of whatever the stamps are counted
    /// from. Where a log does not say what that is, stamps that are long before its beginning are
    /// counted from there, as other readers take them.
    pub(crate) fn start(&mut self, interval: &Interval<'_>) -> f64 {
        let begins = self.start_time.unwrap_or_default();
        let is_counted = interval.start < begins - YEAR;
        let base = *self
            .base_time
            .get_or_insert(if is_counted { begins } else { 0.0 });
        base + interval.start
    }
}

/// The times of intervals, whichever of the two their second column is.
#[derive(Clone, Debug, Default)]
pub(crate) struct Covers {
    lengths: Cover,
    ends: Cover,
}

impl Covers {
    /// Adds `interval`, which began at `start`.
    ///
    /// # Errors
    /// As [`Cover::add`].
    pub(crate) fn add(&mut self, interval: &Interval<'_>, start: f64) -> Result<(), String> {
        self.lengths.add((start, start + interval.second))?;
        let length = (interval.second - interval.start).max(0.0);
        self.ends.add((start, start + length))
    }

    /// Those that the second column says.
    pub(crate) fn of(&self, second: Second) -> &Cover {
        match second {
            Second::Length => &self.lengths,
            Second::End => &self.ends,
        }
    }
}

/// The times of intervals put together, those that overlap once.
#[derive(Clone, Debug, Default)]
pub(crate) struct Cover(Vec<Stretch>);

/// Intervals one behind the other.
#[derive(Clone, Copy, Debug)]
struct Stretch {
    start: f64,
    end: f64,
    seconds: f64,
}

impl Stretch {
    /// Adds what begins in it, or just behind; `false` if `next` does not.
    fn add(&mut self, next: Self) -> bool {
        let is_of = self.start <= next.start && next.start <= self.end + ROUNDING;
        if is_of {
            let overlap = (self.end - next.start).clamp(0.0, next.seconds);
            self.seconds += next.seconds - overlap;
            self.end = self.end.max(next.end);
        }
        is_of
    }
}

impl Cover {
    /// Adds an interval.
    ///
    /// # Errors
    /// In words: they have too many gaps.
    pub(crate) fn add(&mut self, (start, end): (f64, f64)) -> Result<(), String> {
        let seconds = end - start;
        let next = Stretch {
            start,
            end,
            seconds,
        };
        if self.0.last_mut().is_some_and(|last| last.add(next)) {
            return Ok(());
        }
        if self.0.len() == STRETCHES_MAX {
            self.0 = self.stretches();
        }
        if self.0.len() == STRETCHES_MAX {
            return Err(format!("its times have more than {STRETCHES_MAX} gaps"));
        }
        self.0.push(next);
        Ok(())
    }

    /// Whether `start` is before the end of the last one.
    pub(crate) fn is_before_end(&self, start: f64) -> bool {
        self.0
            .last()
            .is_some_and(|last| start < last.end - ROUNDING)
    }

    /// How many seconds they are.
    pub(crate) fn seconds(&self) -> f64 {
        self.stretches().iter().map(|it| it.seconds).sum()
    }

    /// When the first begins and the last ends; `None` where the stamps are no times of day.
    pub(crate) fn span(&self) -> Option<(f64, f64)> {
        let start = self.0.iter().map(|it| it.start).reduce(f64::min)?;
        let end = self.0.iter().map(|it| it.end).reduce(f64::max)?;
        (start >= YEAR).then_some((start, end))
    }

    fn stretches(&self) -> Vec<Stretch> {
        let mut sorted = self.0.clone();
        sorted.sort_by(|a, b| a.start.total_cmp(&b.start));
        let mut put_together: Vec<Stretch> = Vec::new();
        for next in sorted {
            if !put_together.last_mut().is_some_and(|last| last.add(next)) {
                put_together.push(next);
            }
        }
        put_together
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: f64 = 1_700_000_000.0;

    fn interval(start: f64, second: f64) -> Interval<'static> {
        Interval {
            tag: "",
            start,
            second,
            encoded: "",
        }
    }

    #[test]
    fn stamps_are_counted_from_the_beginning_or_are_times_of_day() {
        let begins = |base_time| Head {
            start_time: Some(NOW),
            base_time,
            second: Second::Length,
        };
        let at = |head: &mut Head, start| head.start(&interval(start, 1.0));
        assert_eq!(at(&mut begins(None), 5.0), NOW + 5.0);
        assert_eq!(at(&mut begins(None), NOW + 5.0), NOW + 5.0);
        assert_eq!(at(&mut begins(Some(NOW - 100.0)), 5.0), NOW - 95.0);
        // What was found out once holds for all lines.
        let mut head = begins(None);
        assert_eq!(at(&mut head, -0.25), NOW - 0.25);
        assert_eq!(at(&mut head, 3.0), NOW + 3.0);
        assert_eq!(at(&mut Head::default(), 5.0), 5.0);
    }

    #[test]
    fn a_second_column_is_an_end_or_a_length() {
        let mut covers = Covers::default();
        for start in [NOW, NOW + 1.0] {
            covers.add(&interval(start, start + 1.0), start).unwrap();
        }
        assert_eq!(covers.of(Second::End).seconds(), 2.0);
        assert_eq!(covers.of(Second::End).span(), Some((NOW, NOW + 2.0)));
        assert!(covers.of(Second::Length).seconds() > NOW);
    }

    fn cover(intervals: &[(f64, f64)]) -> Cover {
        let mut cover = Cover::default();
        for &it in intervals {
            cover.add(it).unwrap();
        }
        cover
    }

    #[test]
    fn what_overlaps_counts_once_in_any_order() {
        for (intervals, seconds) in [
            (&[(0.0, 1.0), (1.001, 2.0), (5.0, 6.0)][..], 2.999),
            (&[(0.0, 10.0), (2.0, 3.0), (0.0, 10.0)], 10.0),
            (&[(5.0, 7.0), (0.0, 2.0), (1.0, 6.0)], 7.0),
        ] {
            let found = cover(intervals).seconds();
            assert!((found - seconds).abs() < 1e-9, "{intervals:?}: {found}");
        }
    }

    #[test]
    fn a_span_is_one_of_times_of_day() {
        assert_eq!(cover(&[(0.0, 5.0)]).span(), None);
        let twice = cover(&[(NOW + 9.0, NOW + 10.0), (NOW, NOW + 1.0)]);
        assert_eq!(twice.span(), Some((NOW, NOW + 10.0)));
        assert_eq!(cover(&[]).span(), None);
    }

    #[test]
    fn gaps_without_end_are_refused() {
        let mut cover = Cover::default();
        let mut at = 0.0;
        while cover.add((at, at + 0.5)).is_ok() {
            at += 1.0;
        }
        assert_eq!(at, STRETCHES_MAX as f64);
    }
}
