//! recvmmsg(2) and sendmmsg(2): the engine for where io_uring is refused.
//!
//! Sends are over when the call returns, so buffers come back at once. The same code ends every
//! drain, whatever the engine was.

use std::hint;
use std::io;
use std::mem;
use std::os::fd::AsFd;
use std::time::Duration;

use crate::batch::Batch;
use crate::clock;
use crate::datagram::Endpoint;
use crate::egress::{self, Egress, errno};
use crate::engine::fault::{Health, PAUSE};
use crate::engine::look::{Glance, Look};
use crate::engine::reading::Reading;
use crate::engine::settings::{Resources, Settings, Wait, Waiting};
use crate::ingress;
use crate::stats::Stats;
use crate::stats::counters::Counters;
use reflector_udp::RECEIVE_MAX;
use reflector_udp::memory::Lease;
use reflector_udp::mmsg::{Calls, Inbox, Kernel, Poll};

/// Times that a spinning engine polls before it lets the worker look at its control.
const SPINS: usize = 256;

/// The distance between buffers: their room and an odd number of cache lines, so that their first
/// lines do not all compete for the same cache sets.
pub(super) const STRIDE: usize = 1027 * 64;

/// The engine of one worker.
pub struct Mmsg<C = Kernel> {
    resources: Resources,
    endpoints: Vec<Endpoint>,
    /// How receiving from each socket has been going.
    health: Vec<Health>,
    inbox: Inbox<C>,
    /// Buffers of unanswerable datagrams: given back only when the whole of a receive is taken out,
    /// since the inbox tells its messages apart by the number of free buffers.
    refused: Vec<Lease>,
    egress: Egress<C>,
    /// The worker's wake, then its sockets.
    poll: Poll<C>,
    /// Socket that is asked first: each in turn, so that none can starve the others of buffers.
    first: usize,
    waiting: Waiting,
    pub(super) look: Look,
    calls: C,
    /// Whether a receive has failed since the engine paused for it.
    has_failed: bool,
}

impl Mmsg {
    /// Allocates the buffers and everything else that it will ever need.
    ///
    /// # Errors
    /// `ENOMEM` (mmap(2)).
    pub fn open(settings: &Settings, resources: Resources) -> io::Result<Self> {
        Self::open_with(Kernel, settings, resources)
    }
}

impl<C: Calls> Mmsg<C> {
    /// The same with `calls` in the kernel's place.
    ///
    /// # Errors
    /// `ENOMEM` (mmap(2)).
    pub fn open_with(calls: C, settings: &Settings, resources: Resources) -> io::Result<Self> {
        let leases = Lease::carve(settings.buffers, RECEIVE_MAX, STRIDE)?;
        let slots_max = leases.len();
        let egress = resources.egress(calls.clone(), settings.egress, slots_max);
        Ok(Self::with(
            calls,
            leases,
            slots_max,
            egress,
            resources,
            settings.waiting,
        ))
    }

    /// An engine that goes on with the buffers and the egress of another; up to `buffers_max`
    /// come back.
    pub(super) fn with(
        calls: C,
        leases: Vec<Lease>,
        buffers_max: usize,
        egress: Egress<C>,
        resources: Resources,
        waiting: Waiting,
    ) -> Self {
        let sockets = resources.sockets.iter().map(|pair| pair.receiver.as_fd());
        let poll = Poll::new(
            calls.clone(),
            [resources.wake.as_fd()].into_iter().chain(sockets),
        );
        let endpoints = resources.endpoints();
        let refused = Vec::with_capacity(buffers_max);
        let inbox = Inbox::with(calls.clone(), leases, buffers_max);
        Self {
            resources,
            health: (endpoints.iter())
                .map(|endpoint| Health::new(endpoint.addr))
                .collect(),
            endpoints,
            inbox,
            refused,
            egress,
            poll,
            first: 0,
            waiting,
            look: Look::default(),
            calls,
            has_failed: false,
        }
    }

    /// Buffers that it has, besides those of a batch.
    #[cfg(test)]
    pub fn lease_count(&mut self) -> usize {
        self.inbox.free_count() + self.refused.len() + self.egress.outbox().lease_count()
    }

    /// See [`Moves::arm`](super::Moves::arm).
    ///
    /// # Errors
    /// As [`Health::failed_to_arm`] says.
    pub fn arm(&mut self, stats: &mut Stats) -> io::Result<()> {
        let pairs = self.resources.sockets.iter().zip(&mut self.health);
        for (socket, (pair, health)) in pairs.enumerate() {
            while let Err(error) = self.inbox.peek(pair.receiver.as_fd()) {
                if !health.failed_to_arm(errno(&error), stats.of(socket))? {
                    break;
                }
            }
        }
        Ok(())
    }

    /// The replies on their way out.
    pub fn egress(&mut self) -> &mut Egress<C> {
        &mut self.egress
    }

    /// See [`Moves::receive`](super::Moves::receive).
    ///
    /// # Errors
    /// What poll(2) says, or a receive that failed for good.
    pub fn receive(&mut self, batch: &mut Batch, stats: &mut Stats, wait: Wait) -> io::Result<()> {
        let is_learning = self.waiting == Waiting::Adaptive;
        let before = if is_learning { stats.received() } else { 0 };
        self.receive_now(batch, stats)?;
        let has_waited = wait == Wait::Idle && batch.is_empty();
        if has_waited {
            if mem::take(&mut self.has_failed) {
                self.resources.wake.wait(Some(PAUSE));
            }
            self.receive_waiting(batch, stats)?;
        }
        if is_learning {
            self.look.received(stats.received() - before);
            if has_waited {
                self.look.waited(|| Reading::now(&self.calls));
            }
        }
        Ok(())
    }

    /// Waits until something has come or the worker is woken, in the way asked for, and receives.
    fn receive_waiting(&mut self, batch: &mut Batch, stats: &mut Stats) -> io::Result<()> {
        match (self.waiting, self.look.limit()) {
            (Waiting::Spin, _) => {
                for _ in 0..SPINS {
                    self.receive_now(batch, stats)?;
                    if !batch.is_empty() {
                        break;
                    }
                    hint::spin_loop();
                }
                return Ok(());
            }
            (Waiting::Adaptive, Some(limit)) => {
                self.receive_looking(limit, batch, stats)?;
                if !batch.is_empty() || self.has_failed {
                    return Ok(());
                }
            }
            (Waiting::Adaptive | Waiting::Block, _) => {}
        }
        self.poll.wait()?;
        if self.poll.is_ready(0) {
            self.resources.wake.clear();
        }
        self.receive_now(batch, stats)
    }

    /// Receives without blocking, again and again for `limit`, until something has come.
    fn receive_looking(
        &mut self,
        limit: Duration,
        batch: &mut Batch,
        stats: &mut Stats,
    ) -> io::Result<()> {
        let mut glance = Glance::begin(limit, clock::monotonic());
        let mut goes_on = true;
        while goes_on && batch.is_empty() && !self.has_failed {
            hint::spin_loop();
            // First the clock: what came while the CPU was away is found.
            goes_on = glance.goes_on(clock::monotonic());
            self.receive_now(batch, stats)?;
        }
        self.look
            .looked(glance.outcome(!batch.is_empty()), glance.end());
        Ok(())
    }

    fn receive_now(&mut self, batch: &mut Batch, stats: &mut Stats) -> io::Result<()> {
        if let Some(socket) = self.egress.open_stamp() {
            let socket = self.resources.sockets[socket].receiver.as_fd();
            self.egress.take_stamp(socket, stats);
        }
        let count = self.endpoints.len();
        let first = self.first;
        self.first = (first + 1) % count;
        for socket in (first..count).chain(0..first) {
            if self.inbox.free_count() == 0 {
                break;
            }
            let health = &mut self.health[socket];
            let received = match self
                .inbox
                .receive(self.resources.sockets[socket].receiver.as_fd())
            {
                Ok(received) => {
                    health.worked();
                    received
                }
                Err(error) => {
                    if health.failed(errno(&error), stats.of(socket))? {
                        self.has_failed = true;
                    } else {
                        health.worked();
                    }
                    0
                }
            };
            let counters = stats.of(socket);
            for _ in 0..received {
                self.admit_next(socket, batch, counters);
            }
            self.refused
                .drain(..)
                .for_each(|lease| self.inbox.recycle(lease));
        }
        stats.batches.see_free(self.inbox.free_count());
        Ok(())
    }

    fn admit_next(&mut self, socket: usize, batch: &mut Batch, counters: &mut Counters) {
        let (lease, incoming) = self.inbox.take();
        let window = 0..lease.len() as u32;
        let endpoint = &self.endpoints[socket];
        let arrived = ingress::arrival(endpoint, &incoming, window.len(), batch.spare());
        let refused = ingress::admit(lease, window, socket, arrived, batch, counters);
        self.refused.extend(refused);
    }

    /// See [`Moves::transmit`](super::Moves::transmit).
    pub fn transmit(&mut self, batch: &mut Batch, stats: &mut Stats) {
        while !batch.is_empty() {
            self.egress.prepare(batch, stats);
            self.send(stats);
            self.egress.finish();
            while let Some(lease) = self.egress.release() {
                self.inbox.recycle(lease);
            }
        }
    }

    /// Sends this round's messages; one that fails does not keep the next from going.
    fn send(&mut self, stats: &mut Stats) {
        let mut next = 0;
        let count = self.egress.outbox().len();
        // Whether the kernel has refused the next message once, without saying why (sendmmsg(2)).
        let mut is_tried = false;
        while next < count {
            let index = self.egress.socket(next);
            let socket = self.resources.sockets[index].receiver.as_fd();
            let counters = stats.of(index);
            if self.egress.is_too_long(next) {
                self.egress.send_fragmented(next, counters);
                next += 1;
                continue;
            }
            let messages = self.egress.same_socket(next);
            let end = messages.end;
            let sent = self.egress.outbox().send(socket, messages);
            let has_no_room = sent.as_ref().map_or_else(egress::has_no_room, |_| true);
            counters.sends_without_room += u64::from(is_tried && has_no_room);
            is_tried = false;
            match sent {
                Ok(sent) => {
                    (next..next + sent).for_each(|message| self.egress.sent(message, counters));
                    next += sent;
                    is_tried = next < end;
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => {
                    self.egress.failed(next, errno(&error), socket, counters);
                    next += 1;
                }
            }
        }
    }
}
