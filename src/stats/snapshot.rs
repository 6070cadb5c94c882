//! How a server is doing, for whoever asks while it runs.

use std::collections::BTreeMap;
use std::net::SocketAddr;

use hdrhistogram::Histogram;

use super::Stats;
use super::counters::Counters;
use super::latency::Latency;
use super::lengths;
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
    /// What it has counted of each listener.
    pub listeners: Vec<ListenerCounts>,
    /// Datagrams in its buffers when it handed over.
    pub in_flight: u64,
    /// Buffers that it receives into.
    pub buffers: usize,
    /// The fewest of them that were free after a receive.
    pub buffers_free_min: usize,
    /// Receives that brought something, by the number of buffers.
    pub batches: Lengths,
    /// Buffers received, by the number of datagrams in each.
    pub trains_received: Lengths,
    /// Messages that replies left in, by the number of datagrams in each.
    pub trains_sent: Lengths,
}

/// What a worker has counted of one listener since the start.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct ListenerCounts {
    /// The address that is listened on, with the port that the kernel chose if 0 was asked for.
    pub listen: SocketAddr,
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
    /// Datagrams and trains, each of which counts once, that the kernel dropped at its sockets.
    pub trains_dropped: u64,
}

/// How many had which length.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Lengths {
    /// The longest that each bucket counts, a power of two, and how many it does that the ones
    /// before do not. The last counts whatever is longer, and has no longest.
    pub buckets: Vec<(Option<u64>, u64)>,
    /// All lengths together.
    pub sum: u64,
}

impl WorkerCounts {
    /// What `worker`, which has `buffers`, has counted in `stats`.
    pub(crate) fn new(
        worker: usize,
        buffers: usize,
        stats: &Stats,
        listeners: Vec<ListenerCounts>,
    ) -> Self {
        let counters = stats.counters();
        Self {
            worker,
            listeners,
            in_flight: stats.in_flight.unsigned_abs(),
            buffers,
            buffers_free_min: stats.batches.free_min(buffers),
            batches: Lengths::new(&stats.batches.lengths, stats.batches.buffers),
            trains_received: Lengths::new(&counters.trains_received, counters.received),
            trains_sent: Lengths::new(&counters.trains_sent, counters.replied),
        }
    }
}

impl ListenerCounts {
    /// What was counted of `listen`.
    pub(crate) fn new(listen: SocketAddr, counters: &Counters, trains_dropped: u64) -> Self {
        let dropped = counters.dropped();
        Self {
            listen,
            received: counters.received,
            replied: counters.replied,
            bytes_received: counters.bytes_received,
            bytes_replied: counters.bytes_replied,
            dropped: dropped
                .map(|(reason, it)| (DropReason::name(reason), it))
                .collect(),
            send_errors: by_name(counters.send_errors()),
            receive_errors: by_name(counters.receive_errors()),
            buffers: counters.trains_received.count(),
            trains_received: counters.trains_received.count_above_one(),
            trains_sent: counters.trains_sent.count_above_one(),
            trains_refused: counters.trains_refused,
            rate_excess: counters.rate_excess,
            trains_dropped,
        }
    }
}

impl Lengths {
    fn new<const BUCKETS: usize>(lengths: &lengths::Lengths<BUCKETS>, sum: u64) -> Self {
        Self {
            buckets: lengths.buckets().collect(),
            sum,
        }
    }
}
