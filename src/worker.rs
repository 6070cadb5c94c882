//! One core: pin, open, loop, drain.

pub mod control;
mod in_flight;

use std::io;
use std::net::{IpAddr, SocketAddr, SocketAddrV6};
use std::num::NonZero;
use std::sync::Arc;
use std::time::{Duration, Instant};

use core_affinity::CoreId;

use crate::batch::{Answer, Batch};
use crate::clock;
use crate::datagram::{Arrival, DropReason, LocalAddr, Verdict};
use crate::engine::{self, Engine, Kind, Moves, Resources, Wait};
use crate::guard::Guard;
use crate::guard::limiter::Limiter;
use crate::responder::{Request, Responder};
use crate::stats::Stats;
use crate::stats::counters::Counters;
use control::{Command, Control, Obeyed, Reports, WorkerReport};
use in_flight::InFlight;

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
    /// What is called on its thread once it is ready to receive.
    pub confine: Option<fn()>,
    /// How long it waits for more before it answers.
    pub coalesce: Duration,
    /// What may be answered.
    pub guard: Guard,
    /// How much of it, if that is limited.
    pub limiter: Option<Limiter>,
    /// What is answered, by socket.
    pub responders: Vec<R>,
    /// What the server says, and where the counters are handed over.
    pub control: Arc<Control>,
    /// What the server hears.
    pub reports: Reports,
}

impl<R: Responder> Worker<R> {
    /// Reflects on the calling thread until told to drain, and counts into `stats` what has not
    /// been handed over.
    ///
    /// # Errors
    /// An engine that cannot be opened, a socket that cannot be received from, a ring that cannot
    /// be entered.
    pub fn run(self, stats: &mut Stats) -> io::Result<()> {
        self.control.set_thread();
        let is_pinned = self.core.is_none_or(core_affinity::set_for_current);
        // Opened after pinning, so that the memory is this core's.
        let engine = self.open_engine()?;
        if !self.coalesce.is_zero() {
            // Otherwise a sleep may last 50 µs longer than asked (PR_SET_TIMERSLACK(2const)).
            let _ = rustix::thread::set_current_timer_slack(Some(NonZero::<u64>::MIN));
        }
        self.reflect(engine, is_pinned, stats)
    }

    /// Reflects by `engine`.
    ///
    /// # Errors
    /// Those of [`run`](Self::run), once it is opened.
    pub fn reflect(
        mut self,
        mut engine: impl Moves,
        is_pinned: bool,
        stats: &mut Stats,
    ) -> io::Result<()> {
        let mut batch = Batch::new(usize::from(self.engine.buffers));
        engine.arm(&self.resources.sockets, stats)?;
        if let Some(confine) = self.confine {
            confine();
        }
        // The server is there for as long as its workers are.
        let _ = self.reports.send(WorkerReport::Armed {
            worker: self.index,
            is_pinned,
        });

        let mut obeyed = Obeyed::default();
        let mut told = Reasons::default();
        let mut sampled = Sampled::new(&self.resources);
        let mut in_flight = InFlight::default();
        // What it is told for as long as it is to go on.
        let mut going_on = Command::Run;
        loop {
            let command = obeyed.read(&self.control, &mut self.guard);
            if command != going_on {
                if command != Command::RunWithoutRing {
                    break;
                }
                going_on = command;
                engine = engine.without_ring(&mut batch, stats)?;
            }
            if let Some(routes) = obeyed.routes.take() {
                engine.set_routes(routes);
            }
            engine.receive(&mut batch, stats, Wait::Idle)?;
            if !self.coalesce.is_zero() && !batch.is_empty() {
                self.wait_for_more(&mut obeyed, &batch, &mut in_flight, stats);
                engine.receive(&mut batch, stats, Wait::Never)?;
            }
            let refused = self.respond(&mut batch, stats, told);
            if let Some(report) = sampled.of(&mut batch) {
                // Another one comes in a second.
                let _ = self.reports.try_send(report);
            }
            engine.transmit(&mut batch, stats)?;
            self.hand_over(stats, &mut in_flight, || engine.in_flight());
            if let Some((peer, reason)) = refused
                && self
                    .reports
                    .try_send(WorkerReport::Refused { peer, reason })
            {
                told = told.with(reason);
            }
        }
        self.drain(engine, &mut obeyed, &mut batch, stats)?;
        in_flight.count(batch.in_flight(), stats);
        Ok(())
    }

    /// Opens the engine, or the one that needs no ring where that is allowed; the server is told.
    fn open_engine(&self) -> io::Result<Engine> {
        let error = match Engine::open(&self.engine, self.resources.clone()) {
            Err(error) if self.engine.kind == Kind::Uring && self.engine.may_fall_back => error,
            result => return result,
        };
        let worker = self.index;
        // The server is there for as long as its workers are.
        let _ = self.reports.send(WorkerReport::NoRing { worker, error });
        let settings = engine::Settings {
            kind: Kind::Mmsg,
            ..self.engine.clone()
        };
        Engine::open(&settings, self.resources.clone())
    }

    /// Hands over the counters if they are asked for, with `now_in_flight`.
    fn hand_over(
        &self,
        stats: &mut Stats,
        in_flight: &mut InFlight,
        now_in_flight: impl FnOnce() -> u64,
    ) {
        if self.control.counters.is_requested() {
            in_flight.count(now_in_flight(), stats);
            self.control.counters.publish(stats);
            self.reports.published();
        }
    }

    /// Sleeps for as long as is waited for more datagrams, less if there is an order to end.
    fn wait_for_more(
        &mut self,
        obeyed: &mut Obeyed,
        batch: &Batch,
        in_flight: &mut InFlight,
        stats: &mut Stats,
    ) {
        let until = clock::monotonic() + self.coalesce;
        loop {
            // Before the orders are read: those that come from now on wake anew.
            self.resources.wake.clear();
            if obeyed.read(&self.control, &mut self.guard).is_end() {
                return;
            }
            // Nothing is on its way out: what was, is settled by each receive.
            self.hand_over(stats, in_flight, || batch.in_flight());
            let left = until.saturating_duration_since(clock::monotonic());
            if left.is_zero() {
                return;
            }
            self.resources.wake.wait(Some(left));
        }
    }

    /// Answers what was received, and what is queued unless that is left to others. Where it is
    /// not, the server has shut the sockets to what is new.
    fn drain(
        &mut self,
        engine: impl Moves,
        obeyed: &mut Obeyed,
        batch: &mut Batch,
        stats: &mut Stats,
    ) -> io::Result<()> {
        let mut engine = engine.without_ring(batch, stats)?;
        loop {
            self.respond(batch, stats, Reasons::ALL);
            engine.transmit(batch, stats)?;
            // A batch is empty as well where nothing in it can be answered, or a receive has
            // failed; the queue goes on.
            let before = progress(stats);
            match obeyed.read(&self.control, &mut self.guard) {
                Command::LeaveQueue | Command::Leave => return Ok(()),
                _ => {}
            }
            engine.receive(batch, stats, Wait::Never)?;
            if progress(stats) == before {
                return Ok(());
            }
        }
    }

    /// Decides the answer of each slot. Returns a peer that the guard refused for a reason that is
    /// not in `told`.
    fn respond(
        &mut self,
        batch: &mut Batch,
        stats: &mut Stats,
        told: Reasons,
    ) -> Option<(SocketAddr, DropReason)> {
        stats.batches.brought(batch.len());
        let limiter = self.limiter.as_mut();
        let mut limiter = limiter.map(|limiter| (limiter, clock::monotonic()));
        let mut refused = None;
        let (slots, verdicts) = batch.parts_mut();
        for (slot, lease) in slots {
            let arrival = &slot.arrival;
            let peer = &arrival.flow.peer;
            let socket = arrival.flow.socket as usize;
            let responder = &mut self.responders[socket];
            let count = slot.count();
            let admitted = match (self.guard.admit(arrival), &mut limiter) {
                (Err(reason), _) => Err(reason),
                (Ok(()), None) => Ok(count),
                (Ok(()), Some((limiter, now))) => Ok(within_limit(
                    limiter,
                    peer.ip(),
                    count,
                    *now,
                    stats.of(socket),
                )),
            };
            let reason = match admitted {
                Err(reason) => Some(reason),
                Ok(admitted) => (admitted < count).then_some(DropReason::RateLimited),
            };
            // What is denied on purpose needs no remedy.
            if let Some(reason) = reason
                && !told.has(reason)
                && !self.guard.is_denied(peer.ip())
            {
                refused = Some((peer.addr(), reason));
            }
            slot.answer = match admitted {
                Err(reason) => Answer::Drop(reason),
                Ok(0) => Answer::Drop(DropReason::RateLimited),
                Ok(admitted) if admitted == count && responder.is_echo() => Answer::Whole,
                Ok(admitted) => {
                    let bound = self.resources.sockets[socket].receiver.endpoint().addr;
                    let request = request(arrival, bound, count);
                    slot.attributes = responder.attributes(&request);
                    let first = verdicts.len() as u32;
                    let segment_len = arrival.segment_len as usize;
                    respond_each(responder, request, lease, segment_len, admitted, verdicts);
                    Answer::Each(first)
                }
            };
            slot.attributes = self.guard.limit(arrival, slot.attributes);
        }
        refused
    }
}

/// Where datagrams came by whose replies leave by the same interface: one IPv4 peer a second, since
/// the kernel sends to it there without a route as well.
struct Sampled {
    is_on: bool,
    due: Instant,
}

impl Sampled {
    fn new(resources: &Resources) -> Self {
        let endpoints = resources.endpoints();
        Self {
            is_on: endpoints.iter().any(|endpoint| endpoint.same_interface),
            due: clock::monotonic(),
        }
    }

    fn of(&mut self, batch: &mut Batch) -> Option<WorkerReport> {
        if !self.is_on || batch.is_empty() || clock::monotonic() < self.due {
            return None;
        }
        let (slots, _) = batch.parts_mut();
        let flow = slots.map(|(slot, _)| &slot.arrival.flow);
        let flow = flow.filter(|flow| flow.peer.ip().is_ipv4()).last()?;
        self.due = clock::monotonic() + Duration::from_secs(1);
        Some(WorkerReport::CameBy {
            peer: flow.peer.addr(),
            interface: flow.local.interface,
        })
    }
}

/// How many of the `count` datagrams of `source` are answered.
fn within_limit(
    limiter: &mut Limiter,
    source: IpAddr,
    count: u64,
    now: Instant,
    counters: &mut Counters,
) -> u64 {
    let within = limiter.admit(source, count as u32, now).into();
    if limiter.is_dry_run() {
        counters.rate_excess += count - within;
        return count;
    }
    within
}

/// Reasons to drop a datagram.
#[derive(Clone, Copy, Default)]
struct Reasons(u16);

const _: () = assert!(DropReason::ALL.len() <= u16::BITS as usize);

impl Reasons {
    const ALL: Self = Self(u16::MAX);

    fn has(self, reason: DropReason) -> bool {
        self.0 & (1 << reason as u16) != 0
    }

    fn with(self, reason: DropReason) -> Self {
        Self(self.0 | (1 << reason as u16))
    }
}

/// Datagrams received and receives that failed: while one of them goes up, there may be more.
fn progress(stats: &Stats) -> (u64, u64) {
    let all = stats.sockets().iter();
    all.fold((0, 0), |(received, errors), it| {
        (received + it.received, errors + it.receive_errors_total())
    })
}

/// What the responder is told of an arrival of `count` datagrams at the socket bound to `bound`.
fn request(arrival: &Arrival, bound: SocketAddr, count: u64) -> Request {
    let LocalAddr { addr, interface } = arrival.flow.local;
    let local = match (addr, bound) {
        (IpAddr::V4(ip), _) => SocketAddr::from((ip, bound.port())),
        // Bound to that address, so the kernel does not tell the interface again.
        (IpAddr::V6(ip), SocketAddr::V6(bound)) if interface == 0 && *bound.ip() == ip => {
            bound.into()
        }
        (IpAddr::V6(ip), _) => {
            let scope_id = if ip.is_unicast_link_local() {
                interface
            } else {
                0
            };
            SocketAddrV6::new(ip, bound.port(), 0, scope_id).into()
        }
    };
    Request {
        received_ns: arrival.received_ns,
        hop_limit: arrival.attributes.hop_limit(),
        tos: arrival.attributes.tos(),
        count: count as u32,
        ..Request::new(arrival.flow.peer.addr(), local)
    }
}

/// One verdict for each datagram of a train; an empty datagram is one. Only of the first `admitted`
/// the responder is asked.
fn respond_each<R: Responder>(
    responder: &mut R,
    mut request: Request,
    train: &mut [u8],
    segment_len: usize,
    admitted: u64,
    verdicts: &mut Vec<Verdict>,
) {
    if train.is_empty() {
        verdicts.push(responder.respond(&request, train));
    }
    for (segment, number) in train.chunks_mut(segment_len.max(1)).zip(0..) {
        verdicts.push(if number < admitted {
            responder.respond(&request, segment)
        } else {
            Verdict::Drop(DropReason::RateLimited)
        });
        request.index += 1;
    }
}
