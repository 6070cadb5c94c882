//! The memory that a server may touch, summed in the open.

use super::settings::Config;
use crate::batch::Slot;
use crate::datagram::{SEGMENTS_MAX, Verdict};
use crate::egress;
use crate::engine::uring::buffers::STRIDE;
use crate::guard::limiter::Limiter;
use crate::mode::Mode;
use crate::responder::echo_info::EchoInfo;
use crate::stats::counters::Counters;
use crate::stats::latency::HISTOGRAM_BYTES;

impl Config {
    /// The memory that this configuration may touch.
    pub(crate) fn memory(&self) -> MemoryBudget {
        let buffers = usize::from(self.engine.buffers);
        let messages = egress::messages_max(buffers);
        let mut worker = 0;
        // Receive buffers, as if every one had held the largest datagram or train.
        worker += buffers * STRIDE;
        // Slots, and the verdicts of their segments.
        worker += buffers * size_of::<Slot>();
        worker += buffers * SEGMENTS_MAX * size_of::<Verdict>();
        // Outbox and trains: header, name, control, iovec, train, piece, hash entries per message.
        worker += messages * 512;
        // Submission and completion queue.
        worker += messages.next_power_of_two() * 64 + (2 * buffers + messages) * 2 * 16;
        // Histograms: counting, published, and the server's sum for the worker.
        worker += 3 * HISTOGRAM_BYTES;
        // The counters of its sockets, as often: that of each listener, and where others are taken
        // over by fewer workers, more, which is not foreseen here.
        worker += 3 * self.listen.len() * size_of::<Counters>();
        // The rate limiter, whatever it sees.
        worker += self.rate_limit.as_ref().map_or(0, |_| Limiter::LEN);
        // What responders of a mode keep.
        let counting = self.listen.iter().filter(|it| it.mode == Mode::EchoInfo);
        worker += counting.count() * EchoInfo::LEN;
        // Source ports of the guard, stack.
        worker += 8 * 1024 + 64 * 1024;
        MemoryBudget {
            base: MEMORY_BASE,
            worker,
            workers: self.workers.len(),
        }
    }
}

/// Program, allocator, server thread and its histograms, measured with room to spare.
const MEMORY_BASE: usize = 12 << 20;

/// Resident memory that may be touched, in bytes. Socket buffers are the kernel's and come on top.
#[derive(Clone, Copy, Debug)]
pub(crate) struct MemoryBudget {
    /// Whatever the number of workers.
    pub base: usize,
    /// For each worker.
    pub worker: usize,
    /// Number of workers.
    pub workers: usize,
}

impl MemoryBudget {
    /// All of it.
    pub fn total(&self) -> usize {
        self.base + self.worker * self.workers
    }
}
