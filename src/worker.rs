//! One core: pin, open, loop, drain.

pub mod control;

use std::io;
use std::net::{IpAddr, SocketAddr, SocketAddrV6};
use std::num::NonZero;
use std::sync::Arc;
use std::time::Duration;

use core_affinity::CoreId;

use crate::batch::{Answer, Batch};
use crate::datagram::{Arrival, DropReason, LocalAddr, Verdict};
use crate::engine::{self, Engine, Resources, Wait};
use crate::guard::Guard;
use crate::responder::{Request, Responder};
use crate::stats::Stats;
use control::{Command, Control, Obeyed, Reports, WorkerReport};

/// Everything that a worker starts with.
pub struct Worker<R> {
    /// Its number, from 0.
    pub index: usize,
    /// The CPU that it is pinned to, if to any.
    pub core: Option<CoreId>,
    /// How it moves datagrams.
    pub engine: engine::Settings,
    /// What it moves them with.
    pub resources: Resources,
    /// How long it waits for more before it answers.
    pub coalesce: Duration,
    /// What may be answered.
    pub guard: Guard,
    /// What is answered, by socket.
    pub responders: Vec<R>,
    /// What the server says, and where the counters are handed over.
    pub control: Arc<Control>,
    /// What the server hears.
    pub reports: Reports,
}

impl<R: Responder> Worker<R> {
    /// Reflects on the calling thread until told to drain. Returns the counts since they were last
    /// handed over.
    ///
    /// # Errors
    /// An engine that cannot be opened, a socket that cannot be received from, a ring that cannot
    /// be entered.
    pub fn run(mut self) -> io::Result<Stats> {
        let is_pinned = self.core.is_none_or(core_affinity::set_for_current);
        let slots_max = usize::from(self.engine.buffers);
        // Allocated after pinning, so that the memory is this core's.
        let mut batch = Batch::new(slots_max);
        let mut stats = Stats::new();
        let mut engine = Engine::open(&self.engine, self.resources.clone())?;
        if !self.coalesce.is_zero() {
            // Otherwise a sleep may last 50 µs longer than asked (PR_SET_TIMERSLACK(2const)).
            let _ = rustix::thread::set_current_timer_slack(Some(NonZero::<u64>::MIN));
        }
        engine.arm(&mut stats)?;
        // The server is there for as long as its workers are.
        let _ = self.reports.send(WorkerReport::Armed {
            worker: self.index,
            is_pinned,
        });

        let mut obeyed = Obeyed::default();
        let mut has_refused = false;
        while obeyed.read(&self.control, &mut self.guard) == Command::Run {
            engine.receive(&mut batch, &mut stats, Wait::Idle)?;
            if !self.coalesce.is_zero() && !batch.is_empty() {
                wait_for_more(self.coalesce);
                engine.receive(&mut batch, &mut stats, Wait::Never)?;
            }
            let refused = self.respond(&mut batch, &mut stats);
            engine.transmit(&mut batch, &mut stats)?;
            if self.control.counters.is_requested() {
                self.control.counters.publish(&mut stats);
                self.reports.published();
            }
            if let (Some(peer), false) = (refused, has_refused) {
                has_refused = self.reports.try_send(WorkerReport::Refused { peer });
            }
        }
        self.drain(engine, &mut obeyed, &mut batch, &mut stats)?;
        Ok(stats)
    }

    /// Answers what is queued. The server has shut the sockets to what is new.
    fn drain(
        &mut self,
        engine: Engine,
        obeyed: &mut Obeyed,
        batch: &mut Batch,
        stats: &mut Stats,
    ) -> io::Result<()> {
        let mut engine = engine.into_mmsg(batch, stats)?;
        loop {
            self.respond(batch, stats);
            engine.transmit(batch, stats);
            // A batch is empty as well where nothing in it can be answered; the queue goes on.
            let received = stats.counters.received;
            if obeyed.read(&self.control, &mut self.guard) == Command::Leave {
                return Ok(());
            }
            engine.receive(batch, stats, Wait::Never)?;
            if stats.counters.received == received {
                return Ok(());
            }
        }
    }

    /// Decides the answer of each slot. Returns a peer that the allow list refused.
    fn respond(&mut self, batch: &mut Batch, stats: &mut Stats) -> Option<IpAddr> {
        stats.counters.batches += u64::from(!batch.is_empty());
        let mut refused = None;
        let (slots, verdicts) = batch.parts_mut();
        for (slot, lease) in slots {
            let arrival = &slot.arrival;
            let socket = arrival.flow.socket as usize;
            let responder = &mut self.responders[socket];
            slot.answer = match self.guard.admit(arrival) {
                Err(reason) => {
                    let ip = arrival.flow.peer.ip();
                    // What is denied on purpose needs no remedy.
                    if reason == DropReason::NotAllowed && !self.guard.is_denied(ip) {
                        refused = Some(ip);
                    }
                    Answer::Drop(reason)
                }
                Ok(()) if responder.is_echo() => Answer::Whole,
                Ok(()) => {
                    let port = self.resources.sockets[socket]
                        .receiver
                        .endpoint()
                        .addr
                        .port();
                    let request = request(arrival, port, slot.count());
                    slot.attributes = responder.attributes(&request);
                    let first = verdicts.len() as u32;
                    let segment_len = arrival.segment_len as usize;
                    respond_each(responder, request, lease, segment_len, verdicts);
                    Answer::Each(first)
                }
            };
            slot.attributes = self.guard.limit(arrival, slot.attributes);
        }
        refused
    }
}

/// Leaves what is queued where it is, so that it can be joined by more.
#[allow(
    clippy::disallowed_methods,
    reason = "--coalesce is the wish to sleep with datagrams in hand"
)]
fn wait_for_more(coalesce: Duration) {
    std::thread::sleep(coalesce);
}

/// What the responder is told of an arrival of `count` datagrams on `port`.
fn request(arrival: &Arrival, port: u16, count: u64) -> Request {
    let LocalAddr { addr, interface } = arrival.flow.local;
    let local = match addr {
        IpAddr::V4(ip) => SocketAddr::from((ip, port)),
        IpAddr::V6(ip) => SocketAddrV6::new(ip, port, 0, interface).into(),
    };
    Request {
        received_ns: arrival.received_ns,
        hop_limit: arrival.attributes.hop_limit(),
        tos: arrival.attributes.tos(),
        count: count as u32,
        ..Request::new(arrival.flow.peer.addr(), local)
    }
}

/// One verdict for each datagram of a train; an empty datagram is one.
fn respond_each<R: Responder>(
    responder: &mut R,
    mut request: Request,
    train: &mut [u8],
    segment_len: usize,
    verdicts: &mut Vec<Verdict>,
) {
    if train.is_empty() {
        verdicts.push(responder.respond(&request, train));
    }
    for segment in train.chunks_mut(segment_len.max(1)) {
        verdicts.push(responder.respond(&request, segment));
        request.index += 1;
    }
}
