//! Native histograms of Prometheus: buckets whose edges grow by one factor, of which only those
//! exist that something is in.

use std::collections::BTreeMap;

use hdrhistogram::Histogram;

/// So many buckets, as a power of two, from a number to twice it: each edge is 9 % above the one
/// before, which is the resolution that Prometheus' own client has by default (a factor of 1.1).
pub const SCHEMA: i32 = 3;
/// What is not above it has no logarithm, and a bucket of its own: 2⁻¹²⁸, which is the usual one.
pub const ZERO_THRESHOLD: f64 = 2.938_735_877_055_719e-39;

/// The buckets of a native histogram.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Native {
    /// Values that are zero.
    pub zero_count: u64,
    /// Rows of buckets: the gap to the row before, of the first one its index, and how many.
    pub spans: Vec<(i32, u32)>,
    /// How many more values each bucket has than the one before.
    pub deltas: Vec<i64>,
}

impl Native {
    /// Times that were recorded in nanoseconds, in seconds. A value near an edge may be in the
    /// bucket beside it, since the histogram tells values apart to 0.1 %.
    pub fn of_times(ns: &Histogram<u64>) -> Self {
        let mut zero_count = 0;
        let mut counts = BTreeMap::new();
        for value in ns.iter_recorded() {
            let (ns, count) = (
                value.value_iterated_to(),
                value.count_since_last_iteration(),
            );
            match ns {
                0 => zero_count += count,
                _ => *counts.entry(index(ns as f64 / 1e9)).or_insert(0) += count,
            }
        }
        let mut native = Self {
            zero_count,
            ..Self::default()
        };
        native.add_rows(&counts);
        native
    }

    fn add_rows(&mut self, counts: &BTreeMap<i32, u64>) {
        let mut last_count = 0;
        // Behind the bucket before.
        let mut next = 0;
        for (&index, &count) in counts {
            match self.spans.last_mut() {
                Some((_, len)) if index == next => *len += 1,
                _ => self.spans.push((index - next, 1)),
            }
            self.deltas.push(count as i64 - last_count);
            last_count = count as i64;
            next = index + 1;
        }
        if self.spans.is_empty() {
            // Says that it is a native one, though nothing is in it.
            self.spans.push((0, 0));
        }
    }
}

/// The bucket of a value: the one whose upper edge, a power of 2^(1/8), is the least that is not
/// below it.
fn index(value: f64) -> i32 {
    (value.log2() * f64::from(1 << SCHEMA)).ceil() as i32
}

#[cfg(test)]
mod tests {
    use super::*;

    fn histogram(times: &[u64]) -> Histogram<u64> {
        let mut ns = Histogram::new_with_bounds(1, 10_000_000_000, 3).unwrap();
        times.iter().for_each(|&time| ns.record(time).unwrap());
        ns
    }

    #[test]
    fn a_value_is_in_the_bucket_that_ends_at_it_or_above() {
        let ends = |index: i32| 2_f64.powf(f64::from(index) / 8.0);
        for value in [1e-9, 1e-6, 0.000_123, 0.5, 1.0, 1.01, 2.0, 9.9] {
            let index = index(value);
            assert!(value <= ends(index) && value > ends(index - 1), "{value}");
        }
        assert_eq!((index(1.0), index(2.0), index(0.5)), (0, 8, -8));
    }

    #[test]
    fn rows_of_buckets_are_told_with_the_gaps_between_them() {
        let mut native = Native::default();
        native.add_rows(&BTreeMap::from([(-5, 3), (-4, 1), (2, 7)]));
        assert_eq!(native.spans, [(-5, 2), (5, 1)]);
        assert_eq!(native.deltas, [3, -2, 6]);
    }

    #[test]
    fn times_are_all_there() {
        let native = Native::of_times(&histogram(&[0, 500, 1_000, 1_500, 2_000_000_000]));
        let counts = native.deltas.iter().scan(0, |count, delta| {
            *count += delta;
            Some(*count)
        });
        assert_eq!((native.zero_count, counts.sum::<i64>()), (1, 4));
        let last: i32 = native
            .spans
            .iter()
            .map(|&(gap, len)| gap + len as i32)
            .sum();
        // Two seconds, and what the histogram cannot tell from them, are at the edge of bucket 8.
        assert!((8..=9).contains(&(last - 1)), "{native:?}");
    }

    #[test]
    fn without_a_value_it_is_a_native_one_all_the_same() {
        let native = Native::of_times(&histogram(&[]));
        assert_eq!((native.spans, native.deltas), (vec![(0, 0)], vec![]));
    }
}
