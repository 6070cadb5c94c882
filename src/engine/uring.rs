//! The io_uring engine: multishot receives into provided buffers, sends that are over when
//! `io_uring_enter` returns.
//!
//! One `enter` submits the last batch's replies and waits for the next batch. Sends carry
//! `MSG_DONTWAIT` and `IOSQE_CQE_SKIP_SUCCESS`: each has either gone silently or left one error
//! completion by the time the submission returns, so buffers go home without send completions.
//! That proof needs the ring's flags, which [`KernelRing`] states; where they cannot be had,
//! neither can the engine.
//!
//! A buffer is in exactly one place: the kernel's ring, a slot of the batch, or an unfinished send
//! (the outbox). It is published again only after the error completions of its round have been
//! reaped, since a refused train is sent again from the same buffers. When a receive has run out
//! of buffers, the sends are submitted and settled first and the receive is armed afterwards.

pub mod buffers;
#[cfg(test)]
mod fake;
mod ring;

use std::collections::VecDeque;
use std::io;
use std::os::fd::AsFd;

pub use ring::KernelRing;
pub(super) use ring::{Completion, Ring, Way};

use super::mmsg::Mmsg;
use super::{Resources, Settings, Wait, admit, prepare};
use crate::batch::Batch;
use crate::datagram::Endpoint;
use crate::egress::Egress;
use crate::ingress;
use crate::socket::Socket;
use crate::stats::Stats;

/// Times that a spinning engine looks before it lets the worker look at its control.
const SPINS: usize = 4096;

/// The engine of one worker.
pub struct Uring<R = KernelRing> {
    ring: R,
    resources: Resources,
    #[expect(
        dead_code,
        reason = "held so that `ss` tells whose they are; the ring has them open by itself"
    )]
    senders: Vec<Option<Socket>>,
    endpoints: Vec<Endpoint>,
    /// Which sockets have a live multishot receive.
    armed: Vec<bool>,
    /// Socket that is armed first: each in turn, so that none can starve the others of buffers.
    first: usize,
    is_wake_armed: bool,
    /// A receive ended for want of buffers: those of the last batch must go home before re-arming.
    is_starved: bool,
    /// Received, not yet in a batch.
    arrived: VecDeque<Arrived>,
    egress: Egress,
    /// One entry for each message that was submitted and not settled: its error number, 0 if none
    /// has been heard of.
    outcomes: Vec<i32>,
    spin: bool,
}

/// A buffer that a receive has filled.
#[derive(Clone, Copy)]
struct Arrived {
    /// Which.
    id: u16,
    /// Of which socket.
    socket: u16,
    /// Bytes used.
    len: u32,
}

impl Uring {
    /// Opens the ring on the calling thread and allocates everything that it will ever need.
    ///
    /// # Errors
    /// What the kernel refused.
    pub fn open(settings: &Settings, resources: Resources) -> io::Result<Self> {
        let leases = buffers::carve(settings.buffers)?;
        let sockets = &resources.sockets;
        let senders: Vec<_> = sockets.iter().map(open_sender).collect();
        let ways: Vec<_> = (sockets.iter().zip(&senders))
            .map(|(socket, sender)| Way {
                receiver: socket.as_fd(),
                sender: sender.as_ref().unwrap_or(socket).as_fd(),
            })
            .collect();
        let messages_max = Egress::messages_max(leases.len());
        let ring = KernelRing::open(&ways, resources.wake.as_fd(), leases, messages_max)?;
        Ok(Self {
            senders,
            ..Self::with(ring, settings, resources)
        })
    }

    /// Ends the ring in the order that leaves nothing behind (receives cancelled and reaped, the
    /// buffer ring unregistered, the ring closed) and goes on with plain system calls.
    ///
    /// # Errors
    /// What the kernel refused.
    pub fn into_mmsg(mut self, batch: &mut Batch, stats: &mut Stats) -> io::Result<Mmsg> {
        self.exchange(Wait::Never)?;
        self.settle(stats);
        self.ring.cancel();
        while self.is_wake_armed || self.armed.contains(&true) {
            self.exchange(Wait::Idle)?;
        }
        self.take_arrived(batch, stats);
        let buffers = self.ring.into_leases()?;
        let buffers_max = buffers.len() + batch.len();
        Ok(Mmsg::with(
            buffers,
            buffers_max,
            self.egress,
            self.resources,
            false,
        ))
    }
}

/// Where there is none, replies leave by the socket itself, only a little later.
fn open_sender(socket: &Socket) -> Option<Socket> {
    socket.open_sender().unwrap_or_else(|error| {
        tracing::debug!("no socket of their own for replies: {error}");
        None
    })
}

impl<R: Ring> Uring<R> {
    fn with(ring: R, settings: &Settings, resources: Resources) -> Self {
        let slots_max = usize::from(settings.buffers);
        let endpoints = resources.endpoints();
        Self {
            ring,
            senders: Vec::new(),
            armed: vec![false; endpoints.len()],
            first: 0,
            is_wake_armed: false,
            is_starved: false,
            arrived: VecDeque::with_capacity(slots_max),
            egress: Egress::new(settings.egress, endpoints.clone(), slots_max),
            outcomes: Vec::with_capacity(Egress::messages_max(slots_max)),
            spin: settings.spin,
            endpoints,
            resources,
        }
    }

    /// See [`Engine::arm`](super::Engine::arm).
    ///
    /// # Errors
    /// What the kernel refused.
    pub fn arm(&mut self) -> io::Result<()> {
        self.queue_receives();
        self.exchange(Wait::Never)
    }

    /// See [`Engine::receive`](super::Engine::receive).
    ///
    /// # Errors
    /// What the kernel refused.
    pub fn receive(&mut self, batch: &mut Batch, stats: &mut Stats, wait: Wait) -> io::Result<()> {
        if self.is_starved {
            self.exchange(Wait::Never)?;
            self.settle(stats);
            self.is_starved = false;
        }
        self.queue_receives();
        if wait == Wait::Never || !self.arrived.is_empty() || !batch.is_empty() {
            self.exchange(Wait::Never)?;
        } else if self.spin {
            self.exchange_spinning()?;
        } else {
            self.exchange(Wait::Idle)?;
        }
        self.settle(stats);
        self.take_arrived(batch, stats);
        Ok(())
    }

    /// See [`Engine::transmit`](super::Engine::transmit). The messages go with the next `enter`.
    ///
    /// # Errors
    /// What the kernel refused.
    pub fn transmit(&mut self, batch: &mut Batch, stats: &mut Stats) -> io::Result<()> {
        while !batch.is_empty() {
            prepare(&mut self.egress, batch, stats);
            for message in 0..self.egress.outbox().len() {
                let socket = self.egress.socket(message);
                self.ring
                    .send(socket, message, self.egress.outbox().header(message));
                self.outcomes.push(0);
            }
            if !batch.is_empty() {
                self.exchange(Wait::Never)?;
                self.settle(stats);
            }
        }
        Ok(())
    }

    /// Arms every receive that is not, and the wake.
    fn queue_receives(&mut self) {
        let count = self.armed.len();
        for socket in (self.first..count).chain(0..self.first) {
            if !self.armed[socket] {
                self.ring.arm_receive(socket);
                self.armed[socket] = true;
            }
        }
        self.first = (self.first + 1) % count;
        if !self.is_wake_armed {
            self.ring.arm_wake();
            self.is_wake_armed = true;
        }
    }

    fn exchange_spinning(&mut self) -> io::Result<()> {
        self.exchange(Wait::Never)?;
        for _ in 0..SPINS {
            if !self.arrived.is_empty() {
                break;
            }
            if self.ring.has_work() {
                self.exchange(Wait::Never)?;
            }
            std::hint::spin_loop();
        }
        Ok(())
    }

    /// Submits what is queued, reaps what is complete. All sends are over afterwards.
    fn exchange(&mut self, mut wait: Wait) -> io::Result<()> {
        loop {
            match self.ring.enter(wait == Wait::Idle) {
                Ok(()) => {}
                // Interrupted, or completions have to be reaped before more is accepted.
                Err(error)
                    if matches!(
                        error.raw_os_error(),
                        Some(libc::EINTR | libc::EBUSY | libc::EAGAIN)
                    ) => {}
                Err(error) => return Err(error),
            }
            while let Some(completion) = self.ring.reap() {
                self.note(completion);
            }
            if !self.ring.is_behind() {
                return Ok(());
            }
            wait = Wait::Never;
        }
    }

    fn note(&mut self, completion: Completion) {
        match completion {
            Completion::Received {
                socket,
                result,
                is_live,
            } => {
                self.armed[socket] = is_live;
                match result {
                    Ok((id, len)) => self.arrived.push_back(Arrived {
                        id,
                        socket: socket as u16,
                        len,
                    }),
                    Err(libc::ENOBUFS) => self.is_starved = true,
                    // Cancelled, or out of memory: not live any more, and armed again next time.
                    Err(_) => {}
                }
            }
            Completion::SendFailed { message, errno } => self.outcomes[message] = errno,
            Completion::Woken => {
                self.is_wake_armed = false;
                self.resources.wake.clear();
            }
            Completion::Other => {}
        }
    }

    /// Settles every message that was submitted, and only then lets its buffers go home.
    fn settle(&mut self, stats: &mut Stats) {
        for message in 0..self.outcomes.len() {
            match self.outcomes[message] {
                0 => self.egress.sent(message, stats),
                errno => {
                    let socket = self.resources.sockets[self.egress.socket(message)].as_fd();
                    self.egress.failed(message, errno, socket, stats);
                }
            }
        }
        self.outcomes.clear();
        self.egress.finish();
        while let Some(lease) = self.egress.release() {
            self.ring.recycle(lease);
        }
        self.ring.commit();
    }

    /// Moves what has arrived into the batch, in the order of arrival.
    fn take_arrived(&mut self, batch: &mut Batch, stats: &mut Stats) {
        let mut has_refused = false;
        while let Some(Arrived { id, socket, len }) = self.arrived.pop_front() {
            let lease = self.ring.take(id);
            let (incoming, window) = buffers::parse(&lease, len);
            let socket = usize::from(socket);
            let endpoint = &self.endpoints[socket];
            let arrived = ingress::arrival(endpoint, &incoming, window.len(), batch.spare());
            if let Some(lease) = admit(lease, window, socket, arrived, batch, stats) {
                self.ring.recycle(lease);
                has_refused = true;
            }
        }
        if has_refused {
            self.ring.commit();
        }
    }
}
