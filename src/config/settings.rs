//! What a server starts from.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use core_affinity::CoreId;

use crate::engine::probe::Blocker;
use crate::engine::{self, Paths};
use crate::guard::{Limit, Rules};
use crate::mode::Mode;
use crate::socket;

/// The port that the reflector listens on unless told otherwise.
pub const DEFAULT_PORT: u16 = 9007;
/// Receive buffers of a worker unless told otherwise: few hot ones beat many (PERF.md).
pub const BUFFERS_DEFAULT: u16 = 64;
/// Bytes that each socket buffer is asked to have unless told otherwise.
pub const SOCKET_BUFFER_DEFAULT: usize = 8 << 20;
/// The longest wait for more datagrams: they wait, and so does whoever stops the worker.
pub const COALESCE_MAX: Duration = Duration::from_secs(10);
/// How long a drain may take unless told otherwise: a queue is answered in milliseconds.
pub(crate) const DRAIN_TIMEOUT_DEFAULT: Duration = Duration::from_secs(5);
/// A send buffer below this fits no more than a few trains; EAGAIN drops are to be expected.
pub(crate) const SEND_BUFFER_SMALL: usize = 512 * 1024;

/// An address to listen on, and what is done there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Listener {
    /// Address and port; port 0 leaves the choice to the kernel.
    pub addr: SocketAddr,
    /// What becomes of the datagrams that come there.
    pub mode: Mode,
    /// Skip this listener if the host has no IPv6.
    pub is_optional: bool,
}

impl Listener {
    /// Echoes at `addr`.
    pub fn new(addr: SocketAddr) -> Self {
        Self {
            addr,
            mode: Mode::default(),
            is_optional: false,
        }
    }
}

/// Opens the one who is asked for the way to a peer, once, on the thread that opens the server.
pub type OpenPaths = fn() -> io::Result<Box<dyn Paths>>;

/// Which engine is asked for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum EngineChoice {
    /// io_uring where it is available, else recvmmsg(2) and sendmmsg(2).
    #[default]
    Auto,
    /// io_uring or nothing.
    Uring,
    /// recvmmsg(2) and sendmmsg(2); no system call of io_uring is made.
    Mmsg,
}

/// Everything that the server starts from.
#[derive(Clone, Debug)]
pub struct Config {
    /// Where to listen; none covers another.
    pub(crate) listen: Vec<Listener>,
    /// One entry per worker: the CPU that it is pinned to, if to any.
    pub(crate) workers: Vec<Option<CoreId>>,
    /// What each socket is asked for.
    pub(crate) socket: socket::Settings,
    /// What each engine is asked for.
    pub(crate) engine: engine::Settings,
    /// Why the engine is not the one preferred.
    pub(crate) engine_blocker: Option<Blocker>,
    /// Whether datagrams go to the worker on the receiving CPU.
    pub(crate) steer_cpu: bool,
    /// How long a worker waits for more before it answers.
    pub(crate) coalesce: Duration,
    /// Opens the one who is asked for the way to a peer.
    pub(crate) paths: Option<OpenPaths>,
    /// What each worker calls once its engine is open.
    pub(crate) confine: Option<fn()>,
    /// Who is answered.
    pub(crate) rules: Rules,
    /// How much each source may send to a worker, if that is limited.
    pub(crate) rate_limit: Option<Limit>,
    /// How often to report; `None` only at the end.
    pub(crate) interval: Option<Duration>,
    /// How long replies go on after the order to stop, before the drain.
    pub(crate) drain_delay: Duration,
    /// How long the workers may take to answer what is queued at the end.
    pub(crate) drain_timeout: Duration,
    /// When to end by itself.
    pub(crate) duration: Option<Duration>,
    /// What is worth a warning, and no error.
    pub(crate) notes: Vec<String>,
}

impl Config {
    /// What sockets and engines are asked for, and who is answered.
    #[cfg(feature = "internals")]
    #[doc(hidden)]
    pub fn parts(&self) -> (&socket::Settings, &engine::Settings, &Rules) {
        (&self.socket, &self.engine, &self.rules)
    }

    /// Who is answered, until the server is told otherwise.
    pub fn rules(&self) -> &Rules {
        &self.rules
    }

    /// What is worth a warning, and no error; the server logs it when it starts.
    pub fn notes(&self) -> &[String] {
        &self.notes
    }
}
