//! Values in buckets: how many there are up to each edge.

use hdrhistogram::Histogram;

use crate::native::Native;

/// The upper edges of the buckets of times, in seconds: 1 µs to 1 s, three a decade.
///
/// As literals, since a product of floats would print one bit off, and a query for the edge would
/// find nothing.
pub const EDGES: [f64; 19] = [
    0.000_001, 0.000_002, 0.000_005, 0.000_01, 0.000_02, 0.000_05, 0.000_1, 0.000_2, 0.000_5,
    0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0,
];

/// Values in buckets, the last of which has no edge.
#[derive(Clone, Debug, PartialEq)]
pub struct Buckets {
    /// All values together.
    pub sum: f64,
    /// Number of values.
    pub count: u64,
    /// Each bucket's upper edge, and how many values it has that the ones before do not.
    pub buckets: Vec<(f64, u64)>,
    /// The same as a native histogram has them, if it is to be one as well.
    pub native: Option<Native>,
}

impl Buckets {
    /// Times that were recorded in nanoseconds, in seconds, by [`EDGES`].
    pub fn of_times(ns: &Histogram<u64>) -> Self {
        let mut buckets = Vec::with_capacity(EDGES.len() + 1);
        let mut below = 0;
        for edge in EDGES {
            let edge_ns = (edge * 1e9).round() as u64;
            // Counts of values that the histogram does not tell from the edge are in.
            let until = ns.count_between(0, edge_ns);
            buckets.push((edge, until - below));
            below = until;
        }
        buckets.push((f64::INFINITY, ns.len() - below));
        let sum_ns = |value: hdrhistogram::iterators::IterationValue<u64>| {
            value.count_at_value() as f64 * ns.median_equivalent(value.value_iterated_to()) as f64
        };
        Self {
            sum: ns.iter_recorded().map(sum_ns).sum::<f64>() / 1e9,
            count: ns.len(),
            buckets,
            native: Some(Native::of_times(ns)),
        }
    }

    /// Lengths that add up to `sum`, by edges of whole numbers; without one, it is the last bucket.
    pub fn of_lengths(sum: u64, buckets: impl IntoIterator<Item = (Option<u64>, u64)>) -> Self {
        let edge = |(edge, count): (Option<u64>, u64)| {
            (edge.map_or(f64::INFINITY, |edge| edge as f64), count)
        };
        let buckets: Vec<_> = buckets.into_iter().map(edge).collect();
        Self {
            sum: sum as f64,
            count: buckets.iter().map(|it| it.1).sum(),
            buckets,
            native: None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_counted_up_to_each_edge_and_the_longest_beyond() {
        let mut ns = Histogram::new_with_bounds(1, 10_000_000_000, 3).unwrap();
        for time in [500, 1_000, 1_500, 2_000_000_000] {
            ns.record(time).unwrap();
        }
        let times = Buckets::of_times(&ns);
        assert_eq!(times.buckets[..3], [(1e-6, 2), (2e-6, 1), (5e-6, 0)]);
        assert_eq!(times.buckets.last(), Some(&(f64::INFINITY, 1)));
        assert_eq!(times.count, 4);
        assert!((times.sum - 2.000_003).abs() < 0.002, "{}", times.sum);
    }

    #[test]
    fn lengths_have_the_edges_that_they_were_counted_by() {
        let lengths = Buckets::of_lengths(40, [(Some(1), 3), (Some(2), 0), (None, 1)]);
        assert_eq!(lengths.buckets, [(1.0, 3), (2.0, 0), (f64::INFINITY, 1)]);
        assert_eq!((lengths.sum, lengths.count), (40.0, 4));
    }
}
