//! The io_uring engine: receives into provided buffers, sends that are over when `io_uring_enter`
//! returns.
//!
//! One `enter` submits the last batch's replies and brings the next batch. Sends carry
//! `MSG_DONTWAIT` and `IOSQE_CQE_SKIP_SUCCESS`: each has either gone silently or left one error
//! completion by the time the submission returns, so buffers come back without send completions.
//! That proof needs the ring's flags, which [`KernelRing`] states; where they are not
//! available, neither is the engine.
//!
//! Receives are multishot, armed or non-blocking, as `receive` says.
//!
//! A buffer is in exactly one place: the kernel's ring, a slot of the batch, or an unfinished send
//! (the outbox). It is published again only after the error completions of its round have been
//! reaped, since a refused train is sent again from the same buffers. When the kernel is short of
//! buffers, the sends are submitted and settled first, and received is afterwards.

mod arrived;
pub mod buffers;
#[cfg(test)]
mod fake;
mod receive;
mod restricted;
mod ring;
mod wait;

use std::collections::VecDeque;
use std::io;
use std::os::fd::AsFd;

use arrived::Arrived;
use receive::{Reception, entries_max};
pub use ring::KernelRing;
pub(super) use ring::{Completion, FdPair, Ring};

use crate::batch::Batch;
use crate::datagram::Endpoint;
use crate::egress::{self, Egress};
use crate::engine::fault::{Health, PAUSE};
use crate::engine::look::Look;
use crate::engine::mmsg::Mmsg;
use crate::engine::reading::Reading;
use crate::engine::settings::{Resources, Settings, Wait, Waiting};
use crate::stats::Stats;
use reflector_udp::mmsg::{Calls, Kernel};

/// The engine of one worker.
pub struct Uring<R = KernelRing, C = Kernel> {
    ring: R,
    resources: Resources,
    endpoints: Vec<Endpoint>,
    /// How each socket is received from.
    receptions: Vec<Reception>,
    /// Socket that is asked first: each in turn, so that none can starve the others of buffers.
    first: usize,
    is_wake_armed: bool,
    /// Buffers that the kernel has.
    in_kernel: usize,
    /// Received, not yet in a batch.
    arrived: VecDeque<Arrived>,
    egress: Egress<C>,
    /// One entry for each message that was submitted and not settled: its error number, 0 if none
    /// has been heard of.
    outcomes: Vec<i32>,
    waiting: Waiting,
    look: Look,
    busy_receive: bool,
    calls: C,
}

/// No errno, but a message that is too long for its route: it has not been submitted.
const TOO_LONG: i32 = -1;

impl Uring {
    /// Opens the ring on the calling thread and allocates everything that it will ever need.
    ///
    /// # Errors
    /// `ENOMEM` for buffers or ring, `EMFILE`; others are for the [`probe`](super::probe) to find.
    pub fn open(settings: &Settings, resources: Resources) -> io::Result<Self> {
        let leases = buffers::carve(settings.buffers)?;
        let sockets = &resources.sockets;
        let pairs: Vec<_> = (sockets.iter())
            .map(|pair| FdPair {
                receiver: pair.receiver.as_fd(),
                sender: pair.sender().as_fd(),
            })
            .collect();
        let entries = entries_max::<KernelRing>(leases.len(), sockets.len());
        let (wake, restricted) = (resources.wake.as_fd(), settings.restricted);
        let ring = KernelRing::open(&pairs, wake, leases, entries, restricted)?;
        Ok(Self::with(Kernel, ring, settings, resources))
    }
}

impl<R: Ring, C: Calls> Uring<R, C> {
    /// Ends the ring in the order that leaves nothing behind (receives cancelled and reaped, the
    /// buffer ring unregistered, the ring closed) and goes on with plain system calls.
    ///
    /// # Errors
    /// A ring that cannot be entered or unregistered, or a receive that failed for good.
    pub fn into_mmsg(mut self, batch: &mut Batch, stats: &mut Stats) -> io::Result<Mmsg<C>> {
        self.exchange(Wait::Never, stats)?;
        self.settle(stats);
        self.ring.cancel();
        while self.is_wake_armed || self.receptions.iter().any(Reception::is_armed) {
            self.exchange(Wait::Idle, stats)?;
        }
        self.take_arrived(batch, stats);
        let buffers = self.ring.into_leases()?;
        let buffers_max = buffers.len() + batch.len();
        Ok(Mmsg::with(
            self.calls,
            buffers,
            buffers_max,
            self.egress,
            self.resources,
            self.waiting,
        ))
    }

    fn with(calls: C, ring: R, settings: &Settings, resources: Resources) -> Self {
        let slots_max = usize::from(settings.buffers);
        let endpoints = resources.endpoints();
        Self {
            ring,
            receptions: (endpoints.iter())
                .map(|endpoint| Reception::new(Health::new(endpoint.addr)))
                .collect(),
            first: 0,
            is_wake_armed: false,
            in_kernel: slots_max,
            arrived: VecDeque::with_capacity(slots_max),
            egress: resources.egress(calls.clone(), settings.egress, slots_max),
            outcomes: Vec::with_capacity(egress::messages_max(slots_max)),
            waiting: settings.waiting,
            look: Look::default(),
            busy_receive: settings.busy_receive,
            endpoints,
            resources,
            calls,
        }
    }

    /// See [`Moves::arm`](super::Moves::arm).
    ///
    /// # Errors
    /// What io_uring_enter(2) says, or a receive that failed: the socket is not served then.
    pub fn arm(&mut self, stats: &mut Stats) -> io::Result<()> {
        loop {
            self.queue_receives();
            if !self.has_to_arm_again(stats)? {
                return Ok(());
            }
        }
    }

    /// Submits what is queued, and says whether a receive has ended with an error that is over.
    fn has_to_arm_again(&mut self, stats: &mut Stats) -> io::Result<bool> {
        let mut again = false;
        loop {
            self.enter(false)?;
            while let Some(completion) = self.ring.reap() {
                if let Completion::Received {
                    socket,
                    result: Err(errno),
                    ..
                } = completion
                {
                    let reception = &mut self.receptions[socket];
                    again |= reception.failed_to_arm(errno, stats.of(socket))?;
                    reception.ended();
                } else {
                    self.note(completion, stats)?;
                }
            }
            // What has been submitted in part may still fail.
            if !self.ring.is_behind() {
                return Ok(again);
            }
        }
    }

    /// The replies on their way out.
    pub fn egress(&mut self) -> &mut Egress<C> {
        &mut self.egress
    }

    /// See [`Moves::receive`](super::Moves::receive).
    ///
    /// # Errors
    /// What io_uring_enter(2) says, or a receive that failed for good.
    pub fn receive(&mut self, batch: &mut Batch, stats: &mut Stats, wait: Wait) -> io::Result<()> {
        if self.is_short() {
            self.exchange(Wait::Never, stats)?;
            self.settle(stats);
        }
        self.queue_receives();
        if !self.is_wake_armed {
            self.ring.arm_wake();
            self.is_wake_armed = true;
        }
        let is_busy = self.busy_receive && self.receptions.iter().any(Reception::is_busy);
        let may_wait = wait == Wait::Idle && !is_busy;
        let has_waited = may_wait && self.arrived.is_empty() && batch.is_empty();
        if has_waited {
            self.exchange_waiting(stats)?;
        } else {
            self.exchange(Wait::Never, stats)?;
        }
        stats.batches.see_free(self.in_kernel);
        self.settle(stats);
        let has_failed = self.receptions.iter().any(Reception::has_failed);
        self.receptions.iter_mut().for_each(Reception::close);
        let is_learning = self.waiting == Waiting::Adaptive;
        let before = if is_learning { stats.received() } else { 0 };
        self.take_arrived(batch, stats);
        if is_learning {
            self.look.received(stats.received() - before);
            if has_waited {
                self.look.waited(|| Reading::now(&self.calls));
            }
        }
        if has_failed && batch.is_empty() {
            self.resources.wake.wait(Some(PAUSE));
        }
        Ok(())
    }

    /// See [`Moves::transmit`](super::Moves::transmit). The messages go with the next `enter`.
    ///
    /// # Errors
    /// A ring that cannot be entered, or a receive that failed for good.
    pub fn transmit(&mut self, batch: &mut Batch, stats: &mut Stats) -> io::Result<()> {
        while !batch.is_empty() {
            self.egress.prepare(batch, stats);
            for message in 0..self.egress.outbox().len() {
                if self.egress.is_too_long(message) {
                    self.outcomes.push(TOO_LONG);
                    continue;
                }
                let socket = self.egress.socket(message);
                self.ring
                    .send(socket, message, self.egress.outbox().header(message));
                self.outcomes.push(0);
            }
            if !batch.is_empty() {
                self.exchange(Wait::Never, stats)?;
                self.settle(stats);
            }
        }
        Ok(())
    }

    /// Whether the kernel has no more buffers left than the last receive took, so that those of its
    /// batch have to come back first: a receive that runs out of buffers makes a short batch.
    fn is_short(&self) -> bool {
        self.in_kernel <= self.receptions.iter().map(Reception::last_count).sum()
    }

    /// Queues what each socket is to be received from by.
    fn queue_receives(&mut self) {
        for socket in self.in_turn() {
            let reception = &mut self.receptions[socket];
            let plan = reception.plan(self.busy_receive, self.in_kernel, R::RECEIVED_MAX);
            if plan.disarm {
                self.ring.disarm(socket);
            }
            (0..plan.receives).for_each(|_| self.ring.receive(socket));
            if plan.arm {
                self.ring.arm_receive(socket);
            }
        }
    }

    /// Every socket, another one first each time.
    fn in_turn(&mut self) -> impl Iterator<Item = usize> + use<R, C> {
        let (first, count) = (self.first, self.receptions.len());
        self.first = (first + 1) % count;
        (first..count).chain(0..first)
    }

    /// Submits what is queued, reaps what is complete, and says whether anything was. All sends are
    /// over afterwards.
    fn exchange(&mut self, wait: Wait, stats: &mut Stats) -> io::Result<bool> {
        let mut wait = wait == Wait::Idle;
        let mut has_completed = false;
        loop {
            self.enter(wait)?;
            while let Some(completion) = self.ring.reap() {
                has_completed = true;
                self.note(completion, stats)?;
            }
            if !self.ring.is_behind() {
                return Ok(has_completed);
            }
            wait = false;
        }
    }

    fn enter(&mut self, wait: bool) -> io::Result<()> {
        match self.ring.enter(wait) {
            // Interrupted, or completions have to be reaped before more is accepted.
            Err(error)
                if matches!(
                    error.raw_os_error(),
                    Some(libc::EINTR | libc::EBUSY | libc::EAGAIN)
                ) =>
            {
                Ok(())
            }
            result => result,
        }
    }

    fn note(&mut self, completion: Completion, stats: &mut Stats) -> io::Result<()> {
        match completion {
            Completion::Received {
                socket,
                result,
                has_ended,
            } => {
                let reception = &mut self.receptions[socket];
                if has_ended {
                    reception.ended();
                }
                match result {
                    Ok((id, len)) => {
                        reception.brought();
                        self.in_kernel -= 1;
                        self.arrived.push_back(Arrived {
                            id,
                            socket: socket as u16,
                            len,
                        });
                    }
                    Err(errno) => reception.failed(errno, stats.of(socket))?,
                }
            }
            Completion::SendFailed { message, errno } => self.outcomes[message] = errno,
            Completion::Woken => {
                self.is_wake_armed = false;
                self.resources.wake.clear();
            }
            Completion::Other => {}
        }
        Ok(())
    }

    /// Settles every message that was submitted, and only then gives its buffers back.
    fn settle(&mut self, stats: &mut Stats) {
        let sockets = &self.resources.sockets;
        for (message, &outcome) in self.outcomes.iter().enumerate() {
            let socket = self.egress.socket(message);
            let counters = stats.of(socket);
            match outcome {
                0 => self.egress.sent(message, counters),
                TOO_LONG => self.egress.send_fragmented(message, counters),
                errno => {
                    let socket = sockets[socket].receiver.as_fd();
                    self.egress.failed(message, errno, socket, counters);
                }
            }
        }
        self.outcomes.clear();
        if let Some(socket) = self.egress.open_stamp() {
            self.egress
                .take_stamp(sockets[socket].sender().as_fd(), stats);
        }
        self.egress.finish();
        while let Some(lease) = self.egress.release() {
            self.ring.recycle(lease);
            self.in_kernel += 1;
        }
        self.ring.commit();
    }

    /// Moves what has arrived into the batch.
    fn take_arrived(&mut self, batch: &mut Batch, stats: &mut Stats) {
        let (arrived, ring) = (&mut self.arrived, &mut self.ring);
        self.in_kernel += arrived::take_all(arrived, ring, &self.endpoints, batch, stats);
    }
}
