//! The two ways of moving datagrams, behind one enum.
//!
//! An engine knows sockets, buffers and messages. It does not know what is answered, or why: it
//! never sees a responder or the guard, and they cannot tell which engine runs them.

pub mod settings;

pub mod fault;
pub mod look;
pub mod mmsg;
pub mod probe;
mod reading;
#[expect(
    unsafe_code,
    reason = "memory shared with the kernel; each block carries its proof"
)]
pub mod uring;

use std::io;
use std::os::fd::AsFd;
use std::sync::Arc;

use crate::batch::Batch;
use crate::egress::Egress;
pub use crate::egress::{Detours, LANES, Paths, RouteMtus, Routes};
use crate::socket::SocketPair;
use crate::stats::Stats;
use mmsg::Mmsg;
use reflector_measure::errno;
use reflector_udp::mmsg::{self as mmsg_calls, Calls, Kernel};
pub use settings::{Kind, Resources, Settings, Wait, Waiting};
use uring::{KernelRing, Ring, Uring};

/// One worker's way of moving datagrams.
pub enum Engine<R = KernelRing, C = Kernel> {
    /// Multishot receives into provided buffers, batched sends.
    Uring(Uring<R, C>),
    /// recvmmsg(2) and sendmmsg(2).
    Mmsg(Mmsg<C>),
}

impl Engine {
    /// Opens an engine on the calling thread, which becomes its only user.
    ///
    /// For a ring that has just been closed, memory stays locked for some milliseconds: that is
    /// waited for.
    ///
    /// # Errors
    /// `ENOMEM`; for a ring also what [`probe`](probe::probe) tells apart.
    pub fn open(settings: &Settings, resources: Resources) -> io::Result<Self> {
        Ok(match settings.kind {
            Kind::Uring => {
                let wake = Arc::clone(&resources.wake);
                let open = || Uring::open(settings, resources.clone());
                Self::Uring(probe::with_patience(&wake, open)?)
            }
            Kind::Mmsg => Self::Mmsg(Mmsg::open(settings, resources)?),
        })
    }
}

impl<R: Ring, C: Calls> Engine<R, C> {
    fn egress(&mut self) -> &mut Egress<C> {
        match self {
            Self::Uring(engine) => engine.egress(),
            Self::Mmsg(engine) => engine.egress(),
        }
    }
}

/// What a worker needs of its engine. The tests have one that looks on.
pub trait Moves: Sized {
    /// Gets ready to receive, and proves it of every socket, so that nothing that arrives from now
    /// on has to wait. Proves as well that this process may make the system calls that either
    /// engine needs: io_uring's for trains that are refused, and for the drain.
    ///
    /// # Errors
    /// A socket that cannot be received from, or a call that is refused, with what the kernel said;
    /// the engine is of no use then.
    fn arm(&mut self, sockets: &[SocketPair], stats: &mut Stats) -> io::Result<()>;

    /// From now on the routes have these MTUs.
    fn set_routes(&mut self, routes: Routes);

    /// Datagrams in messages of which the kernel has not yet said what became of them.
    fn in_flight(&mut self) -> u64;

    /// Brings what has arrived into `batch`, which may stay empty. A receive that fails is counted
    /// by its errno.
    ///
    /// # Errors
    /// A receive that failed for good, or for too long; the engine is of no use then.
    fn receive(&mut self, batch: &mut Batch, stats: &mut Stats, wait: Wait) -> io::Result<()>;

    /// Sends the answers of all slots of `batch`, which is empty afterwards.
    ///
    /// # Errors
    /// A ring that cannot be entered, or a receive that failed for good; what the kernel refuses of
    /// a reply is counted.
    fn transmit(&mut self, batch: &mut Batch, stats: &mut Stats) -> io::Result<()>;

    /// The same without a ring, for the last part of a drain or for good: armed receives are
    /// cancelled, what they brought is in `batch`, and the rest of the queues is left to plain
    /// system calls.
    ///
    /// # Errors
    /// Of io_uring only: a ring that cannot be entered or unregistered, or a receive that failed
    /// for good.
    fn without_ring(self, batch: &mut Batch, stats: &mut Stats) -> io::Result<Self>;
}

impl<R: Ring, C: Calls> Moves for Engine<R, C> {
    fn arm(&mut self, sockets: &[SocketPair], stats: &mut Stats) -> io::Result<()> {
        match self {
            Self::Uring(engine) => engine.arm(stats),
            Self::Mmsg(engine) => engine.arm(stats),
        }?;
        prove_calls(sockets)
    }

    fn set_routes(&mut self, routes: Routes) {
        self.egress().set_routes(routes);
    }

    fn in_flight(&mut self) -> u64 {
        self.egress().in_flight()
    }

    fn receive(&mut self, batch: &mut Batch, stats: &mut Stats, wait: Wait) -> io::Result<()> {
        match self {
            Self::Uring(engine) => engine.receive(batch, stats, wait),
            Self::Mmsg(engine) => engine.receive(batch, stats, wait),
        }
    }

    fn transmit(&mut self, batch: &mut Batch, stats: &mut Stats) -> io::Result<()> {
        match self {
            Self::Uring(engine) => engine.transmit(batch, stats),
            Self::Mmsg(engine) => {
                engine.transmit(batch, stats);
                Ok(())
            }
        }
    }

    fn without_ring(self, batch: &mut Batch, stats: &mut Stats) -> io::Result<Self> {
        match self {
            Self::Uring(engine) => Ok(Self::Mmsg(engine.into_mmsg(batch, stats)?)),
            Self::Mmsg(_) => Ok(self),
        }
    }
}

fn prove_calls(sockets: &[SocketPair]) -> io::Result<()> {
    let Some(pair) = sockets.first() else {
        return Ok(());
    };
    mmsg_calls::prove(pair.receiver.as_fd()).map_err(|(call, error)| {
        let name = errno::name(error.raw_os_error().unwrap_or(0));
        let what = format!("this process may not call {call}, which a seccomp profile decides");
        io::Error::new(error.kind(), format!("{what}: {error} ({name})"))
    })
}
