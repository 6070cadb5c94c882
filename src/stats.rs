//! What a worker counts: plain numbers, written by one thread, handed over to the server.

pub mod counters;
pub mod latency;
pub mod report;
pub mod snapshot;

use counters::Counters;
use latency::Latency;
use reflector_measure::handover;

/// The counters of one worker since it last handed them over.
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
}

impl handover::Counters for Stats {
    fn add(&mut self, other: &Self) {
        self.counters.add(&other.counters);
        self.latency.add(&other.latency);
    }

    /// Allocates nothing.
    fn reset(&mut self) {
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
