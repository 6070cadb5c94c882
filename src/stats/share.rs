//! The parts of a summary: what each worker and each listener has done.

use std::net::SocketAddr;

use serde::Serialize;

use super::Stats;
use super::counters::Counters;

/// One worker's part of the summary.
#[derive(Clone, Copy, Debug, Serialize)]
#[non_exhaustive]
pub struct WorkerShare {
    /// Its number.
    pub worker: usize,
    /// The CPU it is pinned to.
    pub cpu: Option<usize>,
    /// Datagrams received.
    pub received: u64,
    /// Replies that the kernel took.
    pub replied: u64,
    /// Receives that brought something.
    pub batches: u64,
    /// Datagrams and trains, each of which counts once, that the kernel dropped at its sockets.
    pub trains_dropped: u64,
}

impl WorkerShare {
    /// The share in `stats`.
    pub(crate) fn new(
        worker: usize,
        cpu: Option<usize>,
        stats: &Stats,
        trains_dropped: u64,
    ) -> Self {
        let Counters {
            received, replied, ..
        } = stats.counters();
        Self {
            worker,
            cpu,
            received,
            replied,
            batches: stats.batches.lengths.count(),
            trains_dropped,
        }
    }
}

/// One listener's part of the summary, of all workers together.
#[derive(Clone, Copy, Debug, Serialize)]
#[non_exhaustive]
pub struct ListenerShare {
    /// The address that is listened on, with the port that the kernel chose if 0 was asked for.
    pub listen: SocketAddr,
    /// Datagrams received.
    pub received: u64,
    /// Replies that the kernel took.
    pub replied: u64,
    /// Datagrams without a reply, for whichever reason.
    pub dropped: u64,
    /// Replies that the kernel refused.
    pub send_errors: u64,
    /// Receives that failed.
    pub receive_errors: u64,
    /// Datagrams and trains, each of which counts once, that the kernel dropped at its sockets.
    pub trains_dropped: u64,
}

impl ListenerShare {
    /// The share in `counters`.
    pub(crate) fn new(listen: SocketAddr, counters: &Counters, trains_dropped: u64) -> Self {
        Self {
            listen,
            received: counters.received,
            replied: counters.replied,
            dropped: counters.dropped_total(),
            send_errors: counters.send_errors_total(),
            receive_errors: counters.receive_errors_total(),
            trains_dropped,
        }
    }
}
