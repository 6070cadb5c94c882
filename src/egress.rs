//! Replies → trains → messages.
//!
//! Replies of one batch that go to the same peer, from the same local address, by the same socket
//! are joined into one message, gathered from the buffers they lie in and cut apart by the kernel
//! (`UDP_SEGMENT`, udp(7)). They need not be neighbours. The open train of a peer closes where a
//! reply does not fit, so that the order per peer is kept.
//!
//! A refused train loses nothing and touches no other peer: its datagrams are sent singly, and the
//! reason is remembered for that path (`refused`).

mod address;
mod detour;
mod refused;
mod residences;
mod routes;
mod settle;
mod stamps;
mod trains;

use std::io;
use std::ops::Range;
use std::os::fd::BorrowedFd;
use std::sync::Arc;

use crate::batch::{Answer, Batch, Slot};
use crate::datagram::{Attributes, DropReason, Endpoint, Flow, SEGMENTS_MAX, Verdict};
use crate::stats::Stats;
use address::address;
pub use detour::{Detours, LANES, Paths};
use reflector_measure::clock;
use reflector_udp::memory::Lease;
use reflector_udp::mmsg::{Calls, Kernel, Outbox};
use refused::Refused;
use residences::Residences;
pub use routes::{RouteMtus, Routes};
use stamps::Stamps;
use trains::{Run, Trains};

/// How replies are sent.
#[derive(Clone, Copy, Debug)]
pub struct Settings {
    /// Whether replies may travel in trains.
    pub gso: bool,
    /// Datagrams that one train may have, at most [`SEGMENTS_MAX`].
    pub segments_max: usize,
    /// Whether residence times are recorded, up to here.
    pub latency: bool,
    /// Whether they are recorded up to the device, of a sample.
    pub wire: bool,
}

/// Replies on their way out: from the slots of a batch to messages that an engine sends.
///
/// One round is [`gather`](Self::gather), sending [`outbox`](Self::outbox), then
/// [`sent`](Self::sent) or [`failed`](Self::failed) for each message, and
/// [`finish`](Self::finish). A batch is over when `gather` has left no slot in it; then the
/// buffers are taken back by [`release`](Self::release).
pub struct Egress<C = Kernel> {
    settings: Settings,
    endpoints: Vec<Endpoint>,
    trains: Trains,
    outbox: Outbox<C>,
    refused: Refused,
    detours: Arc<Detours>,
    said: detour::Said,
    routes: Routes,
    /// What replaces them with the next round: messages of this one may wait for their socket.
    next_routes: Option<Routes>,
    /// By message of this round, where any route has an MTU: whether it is too long for its route.
    too_long: Vec<bool>,
    /// Whether the last round was the last of its batch.
    is_over: bool,
    residences: Residences,
    stamps: Stamps,
}

impl<C: Calls> Egress<C> {
    /// An egress for batches of up to `slots_max` slots, whose messages are sent by `calls`;
    /// allocates all that it needs while sockets have room.
    pub fn new(
        calls: C,
        settings: Settings,
        endpoints: Vec<Endpoint>,
        detours: Arc<Detours>,
        slots_max: usize,
    ) -> Self {
        // One slot can take a message and a piece for each of its segments, so a round goes on
        // only while there is room for that; whole slots take one each.
        let messages_max = messages_max(slots_max);
        Self {
            settings,
            endpoints,
            trains: Trains::new(messages_max),
            outbox: Outbox::with(calls, slots_max, messages_max, messages_max),
            refused: Refused::new(),
            detours,
            said: detour::Said::default(),
            routes: Routes::default(),
            next_routes: None,
            too_long: Vec::with_capacity(messages_max),
            is_over: true,
            residences: Residences::new(slots_max),
            stamps: Stamps::new(settings.wire),
        }
    }

    /// From the next round on the routes have these MTUs.
    pub fn set_routes(&mut self, routes: Routes) {
        self.next_routes = Some(routes);
    }

    /// Makes the messages of the next round, sealed in the outbox, and records how long their
    /// datagrams were here until now. Stops early where another round is needed.
    pub fn prepare(&mut self, batch: &mut Batch, stats: &mut Stats) {
        self.gather(batch, stats);
        if !self.residences.is_empty() {
            self.record_residences(clock::realtime_ns(), stats);
        }
    }

    /// Takes slots out of `batch`, counts the dropped, and makes messages of the replies, sealed
    /// in the outbox. Stops early where another round is needed.
    pub fn gather(&mut self, batch: &mut Batch, stats: &mut Stats) {
        self.refused.expire();
        if let Some(routes) = self.next_routes.take() {
            self.routes = routes;
        }
        self.outbox.adopt_all(batch.leases_mut());
        while self.trains.has_room() {
            let Some((index, slot, verdicts)) = batch.take() else {
                break;
            };
            self.add(index, slot, verdicts, stats);
        }
        self.is_over = batch.is_empty();
        let (count, trains) = (self.trains.len(), &self.trains);
        let mut is_stamped = (self.stamps).begin(count, || trains.get(0).flow.socket as usize);
        for (train, pieces) in trains.iter() {
            let (name, control) = self.outbox.push(pieces);
            let endpoint = &self.endpoints[train.flow.socket as usize];
            address(endpoint.has_pktinfo, train, name, control, is_stamped);
            is_stamped = false;
        }
        if !self.routes.mtus.is_empty() {
            self.find_too_long();
        }
        self.outbox.seal();
    }

    /// Finds the messages that are too long for their route, which leave by another socket; that
    /// has another address, so they name their source.
    #[cold]
    fn find_too_long(&mut self) {
        for message in 0..self.trains.len() {
            let train = self.trains.get(message);
            let Flow { peer, socket, .. } = &train.flow;
            let len = train.segment_len();
            let is_too_long = self.routes.is_too_long(peer.ip(), len, *socket as usize);
            if is_too_long {
                (self.outbox).rewrite(message, |name, control| {
                    address(true, train, name, control, false);
                });
            }
            self.too_long.push(is_too_long);
        }
    }

    /// Whether a message is too long for its route, so that it has to be sent by
    /// [`send_fragmented`](Self::send_fragmented).
    #[inline]
    pub fn is_too_long(&self, message: usize) -> bool {
        !self.too_long.is_empty() && self.too_long[message]
    }

    fn add(&mut self, index: usize, slot: &Slot, verdicts: &[Verdict], stats: &mut Stats) {
        let arrival = &slot.arrival;
        let count = slot.count();
        let run = Run {
            lease: index as u32,
            start: 0,
            len: slot.len,
            segment_len: arrival.segment_len,
        };
        if let Answer::Drop(reason) = slot.answer {
            return stats.of(arrival.flow.socket as usize).drop(reason, count);
        }
        let replied = if let Answer::Each(first) = slot.answer {
            let verdicts = &verdicts[first as usize..][..count as usize];
            self.join_each(&arrival.flow, slot.attributes, run, verdicts, stats)
        } else {
            self.join(&arrival.flow, slot.attributes, run);
            count
        };
        if let Some(received_ns) = arrival.received_ns
            && replied > 0
        {
            if self.settings.latency {
                self.residences.push(received_ns, replied);
            } else if self.settings.wire {
                self.stamps.see(received_ns);
            }
        }
    }

    fn join(&mut self, flow: &Flow, attributes: Attributes, run: Run) {
        let limit = self.train_limit(flow);
        self.trains.join(flow, attributes, run, &limit);
    }

    /// Joins the replied segments of a train: runs of full segments stay together, a shortened one
    /// ends its run. Returns how many are replied.
    fn join_each(
        &mut self,
        flow: &Flow,
        attributes: Attributes,
        train: Run,
        verdicts: &[Verdict],
        stats: &mut Stats,
    ) -> u64 {
        let counters = stats.of(flow.socket as usize);
        let mut replied = 0;
        let mut run: Option<Run> = None;
        for (segment, verdict) in train.segments().zip(verdicts) {
            let len = match *verdict {
                Verdict::Reply { len } if len <= segment.len as usize => len as u32,
                Verdict::Reply { .. } => {
                    counters.drop(DropReason::ReplyTooLong, 1);
                    continue;
                }
                Verdict::Drop(reason) => {
                    counters.drop(reason, 1);
                    continue;
                }
            };
            replied += 1;
            match &mut run {
                Some(run) if run.can_extend(&segment, len) => run.len += len,
                _ => {
                    if let Some(run) = run.take() {
                        self.join(flow, attributes, run);
                    }
                    run = Some(Run {
                        len,
                        segment_len: len,
                        ..segment
                    });
                }
            }
        }
        if let Some(run) = run {
            self.join(flow, attributes, run);
        }
        replied
    }

    fn train_limit(&self, flow: &Flow) -> trains::Limit {
        let segments_max = if self.settings.gso {
            self.settings.segments_max
        } else {
            1
        };
        trains::Limit {
            segments_max,
            segment_len_max: self.refused.segment_len_max(flow),
        }
    }

    /// Records how long the datagrams of this round stayed until `now_ns`, which is to be read just
    /// before the messages are handed over.
    pub fn record_residences(&mut self, now_ns: u64, stats: &mut Stats) {
        self.residences.record(now_ns, stats);
    }

    /// The messages of this round.
    pub fn outbox(&mut self) -> &mut Outbox<C> {
        &mut self.outbox
    }

    /// Datagrams of this round's messages: none once it is finished.
    pub fn in_flight(&self) -> u64 {
        self.trains
            .iter()
            .map(|(train, _)| u64::from(train.count))
            .sum()
    }

    /// The socket that a message leaves by.
    pub fn socket(&self, message: usize) -> usize {
        self.trains.get(message).flow.socket as usize
    }

    /// Messages from `first` on that leave by the same socket and in the same way, one after the
    /// other.
    pub fn same_socket(&self, first: usize) -> Range<usize> {
        let socket = self.socket(first);
        let count = (first..self.trains.len())
            .take_while(|&it| self.socket(it) == socket && !self.is_too_long(it))
            .count();
        first..first + count
    }

    /// The socket at which a stamp of the sample is waited for.
    #[inline]
    pub fn open_stamp(&self) -> Option<usize> {
        self.stamps.open()
    }

    /// Takes that stamp from the error queue of the `socket` that the message left by.
    pub fn take_stamp(&mut self, socket: BorrowedFd<'_>, stats: &mut Stats) {
        self.stamps.take(socket, stats);
    }

    /// Ends a round: every message is settled.
    pub fn finish(&mut self) {
        self.trains.clear();
        self.outbox.clear();
        self.too_long.clear();
    }

    /// One of the batch's buffers, until all have come back; none while some of its replies have
    /// not been gathered.
    pub fn release(&mut self) -> Option<Lease> {
        if self.is_over {
            self.outbox.release()
        } else {
            None
        }
    }
}

/// Messages that one round of a batch of up to `slots_max` slots can have.
pub fn messages_max(slots_max: usize) -> usize {
    slots_max + SEGMENTS_MAX
}

/// The error number of `error`, 0 where there is none.
pub fn errno(error: &io::Error) -> i32 {
    error.raw_os_error().unwrap_or(0)
}

/// Whether a socket has no room for a message.
pub fn has_no_room(error: &io::Error) -> bool {
    matches!(errno(error), libc::EAGAIN | libc::ENOBUFS)
}
