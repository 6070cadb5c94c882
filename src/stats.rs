//! What a worker counts. Plain numbers, written by one thread; the server gathers them by swapping.

pub mod counters;
pub mod latency;
pub mod report;

use counters::Counters;
use latency::Latency;

/// The counts of one worker since they were last gathered.
///
/// Aligned to two cache lines, so that no worker's counters share a line (or the pair that the
/// prefetcher fetches) with another's.
#[derive(Debug)]
#[repr(align(128))]
pub struct Stats {
    /// How many.
    pub counters: Counters,
    /// How long.
    pub latency: Latency,
}

impl Stats {
    /// All zero; allocates the histogram.
    pub fn new() -> Self {
        Self {
            counters: Counters::default(),
            latency: Latency::new(),
        }
    }

    /// Adds `other`.
    pub fn add(&mut self, other: &Self) {
        self.counters.add(&other.counters);
        self.latency.add(&other.latency);
    }

    /// Makes all zero again, without allocating.
    pub fn reset(&mut self) {
        self.counters = Counters::default();
        self.latency.reset();
    }
}

impl Default for Stats {
    fn default() -> Self {
        Self::new()
    }
}

const _: () = assert!(align_of::<Stats>() == 128 && size_of::<Stats>().is_multiple_of(128));
