//! What the loop of a worker was like: how much each receive brought, and how close it came to
//! having no buffer left.

use super::lengths::Lengths;

/// Buckets of batches, the last but one of which ends at the largest number of buffers that there
/// may be.
pub const BUCKETS: usize = 14;

/// Batches since the worker last handed over.
#[derive(Clone, Debug)]
pub struct Batches {
    /// Receives that brought something, by the number of buffers.
    pub lengths: Lengths<BUCKETS>,
    /// Buffers that they brought.
    pub buffers: u64,
    /// The fewest buffers that could be received into after a receive.
    free_min: usize,
}

impl Batches {
    /// A receive has brought `buffers`, with a datagram or a train each, or none.
    #[inline]
    pub fn brought(&mut self, buffers: usize) {
        if buffers > 0 {
            self.lengths.record(buffers as u64);
            self.buffers += buffers as u64;
        }
    }

    /// `free` buffers could be received into.
    #[inline]
    pub fn see_free(&mut self, free: usize) {
        self.free_min = self.free_min.min(free);
    }

    /// The fewest free buffers of `count`.
    pub fn free_min(&self, count: usize) -> usize {
        self.free_min.min(count)
    }

    /// Adds `other`.
    pub fn add(&mut self, other: &Self) {
        self.lengths.add(&other.lengths);
        self.buffers += other.buffers;
        self.see_free(other.free_min);
    }
}

impl Default for Batches {
    fn default() -> Self {
        Self {
            lengths: Lengths::default(),
            buffers: 0,
            free_min: usize::MAX,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_mark_only_falls() {
        let mut batches = Batches::default();
        assert_eq!(batches.free_min(64), 64, "nothing was received");
        batches.see_free(7);
        batches.see_free(60);
        let mut sum = Batches::default();
        sum.add(&batches);
        sum.add(&Batches::default());
        assert_eq!(sum.free_min(64), 7);
    }
}
