//! What a server reports, as values; whoever observes it writes them down.
//!
//! `received` and `replied` count datagrams, not buffers. Serialised, every time carries its unit
//! in the key.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::Duration;

use hdrhistogram::Histogram;
use serde::Serialize;

use reflector_measure::clock::Span;
use reflector_measure::drops::Drops;
use reflector_measure::errno;
use reflector_measure::quantiles::Quantiles;

use super::Stats;
use super::latency::Latency;
pub use super::share::{ListenerShare, WorkerShare};

/// The reflector is listening: every worker has an armed receive on each of its sockets.
#[derive(Clone, Debug, Serialize)]
#[non_exhaustive]
pub struct Ready {
    /// Where.
    pub listen: Vec<SocketAddr>,
    /// How many workers.
    pub workers: usize,
    /// Which engine.
    pub engine: &'static str,
    /// Why it is not the preferred one.
    pub engine_reason: Option<String>,
    /// What becomes of the datagrams: the names of the responders.
    pub mode: String,
    /// Effective receive buffer of each socket, as the kernel counts it.
    pub receive_buffer_bytes: usize,
    /// Effective send buffer of each socket.
    pub send_buffer_bytes: usize,
}

/// What the kernel lost before it reached us or after it left us.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct KernelLoss {
    /// What was dropped at our sockets, for want of receive buffer.
    #[serde(flatten)]
    pub drops: Drops,
    /// The UDP `SndbufErrors` of this network namespace, ours and others', without those messages
    /// for which one of our sockets had no room: datagrams and trains, each of which counts once,
    /// that a full device queue lost after their send had succeeded count here.
    pub sndbuf_errors: u64,
    /// Packets that the queues of all devices of this network namespace dropped, ours and others':
    /// a train once, unless its queue cut it. `None` where nobody was there to be asked.
    pub queue_drops: Option<u64>,
}

impl KernelLoss {
    /// Whether nothing was lost, as far as that is known.
    pub fn is_none(&self) -> bool {
        let known = Self {
            queue_drops: self.queue_drops.filter(|&drops| drops > 0),
            ..*self
        };
        known == Self::default()
    }
}

/// Counts over some time.
#[derive(Clone, Debug, Default, Serialize)]
#[non_exhaustive]
pub struct Totals {
    /// How long.
    pub seconds: f64,
    /// When.
    #[serde(flatten)]
    pub span: Span,
    /// Datagrams received.
    pub received: u64,
    /// Replies that the kernel took.
    pub replied: u64,
    /// Datagrams in buffers of the workers when they handed over their counters, at the end of the
    /// time.
    pub in_flight: u64,
    /// Payload bytes received.
    pub bytes_received: u64,
    /// Payload bytes of replies.
    pub bytes_replied: u64,
    /// Datagrams without a reply, by reason.
    pub dropped: BTreeMap<&'static str, u64>,
    /// Replies that the kernel refused, by error.
    pub send_errors: BTreeMap<String, u64>,
    /// Receives that failed, by error.
    pub receive_errors: BTreeMap<String, u64>,
    /// What the kernel lost.
    #[serde(flatten)]
    pub kernel: KernelLoss,
    /// Buffers received with several datagrams.
    pub trains_received: u64,
    /// Replies sent as trains.
    pub trains_sent: u64,
    /// Trains refused by the kernel, sent datagram by datagram.
    pub trains_refused: u64,
    /// Datagrams beyond the rate limit that were answered all the same, with
    /// `--rate-limit-dry-run`.
    pub rate_excess: u64,
    /// Receives that brought something.
    pub batches: u64,
    /// Residence times lost to a clock that was set.
    pub clock_stepped: u64,
    /// Residence times, in microseconds.
    pub residence_us: Quantiles,
}

impl Totals {
    /// The counts in `stats`, taken over `seconds`.
    pub(crate) fn new(seconds: f64, stats: &Stats, in_flight: u64, kernel: KernelLoss) -> Self {
        let counters = &stats.counters();
        let others = kernel
            .sndbuf_errors
            .saturating_sub(counters.sends_without_room);
        let kernel = KernelLoss {
            sndbuf_errors: others,
            ..kernel
        };
        Self {
            seconds,
            span: Span::default(),
            received: counters.received,
            replied: counters.replied,
            in_flight,
            bytes_received: counters.bytes_received,
            bytes_replied: counters.bytes_replied,
            dropped: counters
                .dropped()
                .map(|(reason, count)| (reason.name(), count))
                .collect(),
            send_errors: by_name(counters.send_errors()),
            receive_errors: by_name(counters.receive_errors()),
            kernel,
            trains_received: counters.trains_received.count_above_one(),
            trains_sent: counters.trains_sent.count_above_one(),
            trains_refused: counters.trains_refused,
            rate_excess: counters.rate_excess,
            batches: stats.batches.lengths.count(),
            clock_stepped: stats.latency.clock_stepped,
            residence_us: Quantiles::from_ns(stats.latency.residence_ns()),
        }
    }
}

pub(super) fn by_name(errors: impl Iterator<Item = (i32, u64)>) -> BTreeMap<String, u64> {
    errors
        .map(|(errno, count)| (errno::name(errno), count))
        .collect()
}

/// Everything since the start, in all, by worker and by listener.
#[derive(Clone, Debug, Default, Serialize)]
#[non_exhaustive]
pub struct Summary {
    /// In all.
    #[serde(flatten)]
    pub totals: Totals,
    /// Datagrams received of which nobody knows what became, below 0 if some are counted twice: 0,
    /// unless a worker died with datagrams in its buffers, or this program has a fault.
    pub unaccounted: i64,
    /// By worker.
    pub per_worker: Vec<WorkerShare>,
    /// By listener.
    pub per_listener: Vec<ListenerShare>,
}

/// The counters of an interval.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Interval {
    /// In all.
    pub totals: Totals,
    pub(crate) latency: Latency,
    /// When it began, since the server was ready.
    pub start: Duration,
    /// How long it was.
    pub length: Duration,
    /// Whether it is what was left when the server ended.
    pub is_last: bool,
}

impl Interval {
    /// How long datagrams were here, in nanoseconds.
    pub fn residence_ns(&self) -> &Histogram<u64> {
        self.latency.residence_ns()
    }
}

/// What a server reports while it runs.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub enum Report<'a> {
    /// It is listening.
    Ready(&'a Ready),
    /// An interval is over.
    Interval(&'a Interval),
    /// It has been told to end: it goes on for as long as it is to wait
    /// ([`drain_delay`](crate::config::Builder::drain_delay)), then it replies to what it has
    /// received.
    Stopping,
    /// It has ended.
    Summary(&'a Summary),
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::datagram::DropReason;

    #[test]
    fn totals_say_every_reason_and_the_errors_that_occurred() {
        let mut stats = Stats::new(1);
        stats.of(0).receive(32, 2048);
        stats.of(0).reply(30, 1920);
        stats.of(0).drop(DropReason::NotAllowed, 1);
        stats.of(0).send_error(libc::ENETUNREACH, 1);
        stats.latency.record(5_000, 30);
        let totals = Totals::new(2.0, &stats, 0, KernelLoss::default());
        let value = serde_json::to_value(&totals).unwrap();
        assert_eq!(value["received"], 32);
        assert_eq!(value["dropped"]["not_allowed"], 1);
        assert_eq!(
            value["dropped"].as_object().unwrap().len(),
            DropReason::ALL.len()
        );
        assert_eq!(value["send_errors"]["ENETUNREACH"], 1);
        assert_eq!(value["residence_us"]["count"], 30);
        assert_eq!(value["in_flight"], 0);
    }
}
