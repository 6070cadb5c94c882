//! What the program has counted.

use crate::layout::{BUCKETS, Counts, bucket_end_ns};

/// What has been answered in the kernel since the start.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Counters {
    /// Datagrams, those of trains included.
    pub datagrams: u64,
    /// Their payloads.
    pub bytes: u64,
    /// Trains.
    pub trains: u64,
    buckets: [u64; BUCKETS],
}

impl Default for Counters {
    fn default() -> Self {
        Self {
            datagrams: 0,
            bytes: 0,
            trains: 0,
            buckets: [0; BUCKETS],
        }
    }
}

impl Counters {
    pub(crate) fn add(&mut self, counts: &Counts) {
        self.datagrams += counts[0];
        self.bytes += counts[1];
        self.trains += counts[2];
        for (sum, count) in self.buckets.iter_mut().zip(&counts[4..]) {
            *sum += count;
        }
    }

    /// What has been answered since there were `earlier` ones.
    #[must_use]
    pub fn since(&self, earlier: &Self) -> Self {
        let buckets = self.buckets.iter().zip(&earlier.buckets);
        let mut buckets = buckets.map(|(now, then)| now - then);
        Self {
            datagrams: self.datagrams - earlier.datagrams,
            bytes: self.bytes - earlier.bytes,
            trains: self.trains - earlier.trains,
            buckets: std::array::from_fn(|_| buckets.next().unwrap_or_default()),
        }
    }

    /// How long those frames were in the program that were timed, one in 64: the end of a bucket in
    /// nanoseconds, which is an eighth of a power of two wide, and how many fell into it.
    pub fn residence_ns(&self) -> impl Iterator<Item = (u64, u64)> {
        let buckets = self.buckets.iter().enumerate();
        buckets
            .filter(|(_, count)| **count > 0)
            .map(|(bucket, count)| (bucket_end_ns(bucket), *count))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cpus_add_up_and_intervals_are_differences() {
        let mut counts = [0; size_of::<Counts>() / 8];
        (counts[0], counts[1], counts[2], counts[3]) = (40, 4000, 1, 9);
        (counts[4 + 5], counts[4 + 100]) = (2, 1);
        let mut earlier = Counters::default();
        earlier.add(&counts);
        let mut now = earlier.clone();
        now.add(&counts);
        assert_eq!((now.datagrams, now.bytes, now.trains), (80, 8000, 2));
        assert_eq!(now.since(&earlier), earlier);
        let times: Vec<_> = now.residence_ns().collect();
        assert_eq!(times, [(5, 4), (bucket_end_ns(100), 2)]);
    }
}
