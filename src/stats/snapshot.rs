//! How a server is doing, for whoever asks while it runs.

use std::collections::BTreeMap;

use hdrhistogram::Histogram;

use super::Stats;
use super::counters::Counters;
use super::latency::Latency;
use super::report::{Summary, by_name};
use crate::datagram::DropReason;

/// Everything from the start until now, in all and by worker.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Snapshot {
    /// What a summary would say now.
    pub summary: Summary,
    /// What each worker has counted.
    pub workers: Vec<WorkerCounts>,
    /// Whether every worker has handed over its counters: one that has not within a quarter of a
    /// second is stuck or has no CPU, and what it has counted comes later.
    pub is_complete: bool,
    residence: Latency,
}

impl Snapshot {
    /// Of workers together that counted `total`.
    pub(crate) fn new(
        summary: Summary,
        workers: Vec<WorkerCounts>,
        is_complete: bool,
        total: Stats,
    ) -> Self {
        Self {
            summary,
            workers,
            is_complete,
            residence: total.latency,
        }
    }

    /// How long datagrams were here, in nanoseconds.
    pub fn residence_ns(&self) -> &Histogram<u64> {
        self.residence.residence_ns()
    }
}

/// What one worker has counted since the start.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct WorkerCounts {
    /// Its number.
    pub worker: usize,
    /// Datagrams received.
    pub received: u64,
    /// Replies that the kernel took.
    pub replied: u64,
    /// Payload bytes received.
    pub bytes_received: u64,
    /// Payload bytes of replies.
    pub bytes_replied: u64,
    /// Datagrams without a reply, by reason; every reason is there.
    pub dropped: BTreeMap<&'static str, u64>,
    /// Replies that the kernel refused, by error.
    pub send_errors: BTreeMap<String, u64>,
    /// Receives that failed, by error.
    pub receive_errors: BTreeMap<String, u64>,
    /// Datagrams in its buffers when it handed over.
    pub in_flight: u64,
    /// Buffers received, each with a datagram or a train.
    pub buffers: u64,
    /// Buffers received with several datagrams.
    pub trains_received: u64,
    /// Replies sent as trains.
    pub trains_sent: u64,
    /// Trains refused by the kernel, sent datagram by datagram.
    pub trains_refused: u64,
    /// Datagrams beyond the rate limit that were answered all the same.
    pub rate_excess: u64,
    /// Receives that brought something.
    pub batches: u64,
    /// Datagrams and trains, each of which counts once, that the kernel dropped at its sockets.
    pub trains_dropped: u64,
}

impl WorkerCounts {
    /// What `worker` has counted.
    pub(crate) fn new(worker: usize, counters: &Counters, trains_dropped: u64) -> Self {
        let dropped = counters.dropped();
        Self {
            worker,
            received: counters.received,
            replied: counters.replied,
            bytes_received: counters.bytes_received,
            bytes_replied: counters.bytes_replied,
            dropped: dropped
                .map(|(reason, it)| (DropReason::name(reason), it))
                .collect(),
            send_errors: by_name(counters.send_errors()),
            receive_errors: by_name(counters.receive_errors()),
            in_flight: counters.in_flight.unsigned_abs(),
            buffers: counters.buffers,
            trains_received: counters.trains_received,
            trains_sent: counters.trains_sent,
            trains_refused: counters.trains_refused,
            rate_excess: counters.rate_excess,
            batches: counters.batches,
            trains_dropped,
        }
    }
}
