//! What an engine is asked for, and what it works with.

use std::sync::Arc;

use crate::datagram::Endpoint;
use crate::egress::{self, Detours, Egress};
use crate::socket::SocketPair;
use reflector_udp::mmsg::Calls;
use reflector_udp::wake::Wake;

/// How long `receive` may take.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wait {
    /// Until something arrives or the worker is woken.
    Idle,
    /// Not at all: only what is there.
    Never,
}

/// How a worker waits for datagrams.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Waiting {
    /// It sleeps at once.
    Block,
    /// It looks for some microseconds before it sleeps, where that has shown to cost nothing.
    #[default]
    Adaptive,
    /// It polls, and takes a whole CPU.
    Spin,
}

/// Which engine, once that is decided.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// io_uring.
    Uring,
    /// recvmmsg(2) and sendmmsg(2).
    Mmsg,
}

impl Kind {
    /// Its name in options and reports.
    pub fn name(self) -> &'static str {
        match self {
            Self::Uring => "uring",
            Self::Mmsg => "mmsg",
        }
    }
}

/// What an engine is asked for.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Which.
    pub kind: Kind,
    /// Whether recvmmsg(2) and sendmmsg(2) will do where the ring cannot be opened.
    pub may_fall_back: bool,
    /// Receive buffers of one worker.
    pub buffers: u16,
    /// How it waits.
    pub waiting: Waiting,
    /// Whether io_uring may receive from busy sockets without arming
    /// ([`keeps_unused_buffers`](crate::engine::probe::Abilities::keeps_unused_buffers)).
    pub busy_receive: bool,
    /// Whether a ring is made unable to do what the engine does not ask of it.
    pub restricted: bool,
    /// How replies are sent.
    pub egress: egress::Settings,
}

/// What the engines of one worker work with.
#[derive(Clone)]
pub struct Resources {
    /// The worker's sockets, opened by the server.
    pub sockets: Arc<[SocketPair]>,
    /// Where replies leave that they have no room for.
    pub detours: Arc<Detours>,
    /// What interrupts a wait.
    pub wake: Arc<Wake>,
}

impl Resources {
    /// What the datagram path needs to know of each.
    pub fn endpoints(&self) -> Vec<Endpoint> {
        self.sockets
            .iter()
            .map(|pair| pair.receiver.endpoint())
            .collect()
    }

    /// What makes messages of replies, for batches of up to `slots_max` slots.
    pub fn egress<C: Calls>(
        &self,
        calls: C,
        settings: egress::Settings,
        slots_max: usize,
    ) -> Egress<C> {
        let detours = Arc::clone(&self.detours);
        Egress::new(calls, settings, self.endpoints(), detours, slots_max)
    }
}
