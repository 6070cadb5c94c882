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

    /// How long those frames were in the program that were timed, one in 64: the end of a bucket in
    /// nanoseconds, which is an eighth of a power of two wide, and how many fell into it.
    pub fn residence_ns(&self) -> impl Iterator<Item = (u64, u64)> {
        let buckets = self.buckets.iter().enumerate();
        buckets
            .filter(|(_, count)| **count > 0)
            .map(|(bucket, count)| (bucket_end_ns(bucket), *count))
    }
}
