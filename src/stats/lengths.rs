//! How long trains and batches are, in buckets that end at powers of two.

/// How many had which length: up to 1, up to 2, up to 4, and so on; in the last bucket of `BUCKETS`
/// is whatever is longer.
#[derive(Clone, Debug)]
pub struct Lengths<const BUCKETS: usize> {
    counts: [u64; BUCKETS],
}

impl<const BUCKETS: usize> Lengths<BUCKETS> {
    /// Counts one of `len`.
    #[inline]
    pub fn record(&mut self, len: u64) {
        // Most are no train: a comparison costs less than to find out the bucket.
        let index = if len <= 1 { 0 } else { Self::index(len) };
        self.counts[index] += 1;
    }

    /// The bucket of `len`: twice the length less one has its highest bit where that is.
    fn index(len: u64) -> usize {
        let bits = len.saturating_mul(2) - 1;
        (bits.ilog2() as usize).min(BUCKETS - 1)
    }

    /// Number of all.
    pub fn count(&self) -> u64 {
        self.counts.iter().sum()
    }

    /// Number of those that are longer than 1.
    pub fn count_above_one(&self) -> u64 {
        self.counts[1..].iter().sum()
    }

    /// The longest that each bucket counts, `None` for the last, and how many it does that the ones
    /// before do not.
    pub fn buckets(&self) -> impl Iterator<Item = (Option<u64>, u64)> {
        let edge = |index: usize| (index + 1 < BUCKETS).then_some(1 << index);
        (0..BUCKETS).map(edge).zip(self.counts)
    }

    /// Adds `other`.
    pub fn add(&mut self, other: &Self) {
        let both = self.counts.iter_mut().zip(other.counts);
        both.for_each(|(sum, more)| *sum += more);
    }
}

impl<const BUCKETS: usize> Default for Lengths<BUCKETS> {
    fn default() -> Self {
        Self { counts: [0; _] }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_length_is_in_the_bucket_that_ends_at_it_or_above() {
        let mut lengths = Lengths::<5>::default();
        (1..=20).for_each(|len| lengths.record(len));
        let expected = [(Some(1), 1), (Some(2), 1), (Some(4), 2), (Some(8), 4)];
        let buckets: Vec<_> = lengths.buckets().collect();
        assert_eq!(buckets[..4], expected);
        assert_eq!(buckets[4], (None, 12), "what is longer than 8");
        assert_eq!((lengths.count(), lengths.count_above_one()), (20, 19));
    }

    #[test]
    fn the_longest_has_a_place() {
        let mut lengths = Lengths::<14>::default();
        for len in [4096, 4097, u64::MAX / 2, u64::MAX] {
            lengths.record(len);
        }
        let buckets: Vec<_> = lengths.buckets().collect();
        assert_eq!(buckets[12..], [(Some(4096), 1), (None, 3)]);
    }
}
