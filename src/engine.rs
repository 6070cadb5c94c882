//! The two ways of moving datagrams, behind one enum.
//!
//! An engine knows sockets, buffers and messages. It does not know what is answered, or why: it
//! never sees a responder or the guard, and they cannot tell which engine runs them.

pub mod settings;

pub mod fault;
pub mod mmsg;
pub mod probe;
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
use reflector_udp::mmsg as mmsg_calls;
pub use settings::{Kind, Resources, Settings, Wait};
use uring::Uring;

/// One worker's way of moving datagrams.
#[expect(
    clippy::large_enum_variant,
    reason = "there is one per worker, and it is never moved"
)]
pub enum Engine {
    /// Multishot receives into provided buffers, batched sends.
    Uring(Uring),
    /// recvmmsg(2) and sendmmsg(2).
    Mmsg(Mmsg),
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

    /// Gets ready to receive, and proves it of every socket, so that nothing that arrives from now
    /// on has to wait. Proves as well that this process may make the system calls that either
    /// engine needs: io_uring's for trains that are refused, and for the drain.
    ///
    /// # Errors
    /// A socket that cannot be received from, or a call that is refused, with what the kernel said;
    /// the engine is of no use then.
    pub fn arm(&mut self, sockets: &[SocketPair], stats: &mut Stats) -> io::Result<()> {
        match self {
            Self::Uring(engine) => engine.arm(stats),
            Self::Mmsg(engine) => engine.arm(stats),
        }?;
        prove_calls(sockets)
    }

    /// From now on the routes have these MTUs.
    pub fn set_routes(&mut self, routes: Routes) {
        self.egress().set_routes(routes);
    }

    /// Datagrams in messages of which the kernel has not yet said what became of them.
    pub fn in_flight(&mut self) -> u64 {
        self.egress().in_flight()
    }

    fn egress(&mut self) -> &mut Egress {
        match self {
            Self::Uring(engine) => engine.egress(),
            Self::Mmsg(engine) => engine.egress(),
        }
    }

    /// Brings what has arrived into `batch`, which may stay empty. A receive that fails is counted
    /// by its errno.
    ///
    /// # Errors
    /// A receive that failed for good, or for too long; the engine is of no use then.
    pub fn receive(&mut self, batch: &mut Batch, stats: &mut Stats, wait: Wait) -> io::Result<()> {
        match self {
            Self::Uring(engine) => engine.receive(batch, stats, wait),
            Self::Mmsg(engine) => engine.receive(batch, stats, wait),
        }
    }

    /// Sends the answers of all slots of `batch`, which is empty afterwards.
    ///
    /// # Errors
    /// A ring that cannot be entered, or a receive that failed for good; what the kernel refuses of
    /// a reply is counted.
    pub fn transmit(&mut self, batch: &mut Batch, stats: &mut Stats) -> io::Result<()> {
        match self {
            Self::Uring(engine) => engine.transmit(batch, stats),
            Self::Mmsg(engine) => {
                engine.transmit(batch, stats);
                Ok(())
            }
        }
    }

    /// Ends the engine for the last part of a drain: armed receives are cancelled, what they
    /// brought is in `batch`, and the rest of the queues is left to plain system calls.
    ///
    /// # Errors
    /// Of io_uring only: a ring that cannot be entered or unregistered, or a receive that failed
    /// for good.
    pub fn into_mmsg(self, batch: &mut Batch, stats: &mut Stats) -> io::Result<Mmsg> {
        match self {
            Self::Uring(engine) => engine.into_mmsg(batch, stats),
            Self::Mmsg(engine) => Ok(engine),
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
