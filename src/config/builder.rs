//! Settings as asked for.

use std::net::SocketAddr;
use std::time::Duration;

use ipnet::IpNet;

use super::settings::{
    BUFFERS_DEFAULT, Config, DRAIN_TIMEOUT_DEFAULT, EngineChoice, Listener, OpenPaths,
    SOCKET_BUFFER_DEFAULT,
};
use crate::engine::Waiting;
use crate::guard::{Limit, Prefixes, Rules};
use crate::mode::Mode;
use crate::socket;

impl Config {
    /// Settings to start from, each with its default.
    pub fn builder() -> Builder {
        Builder::default()
    }
}

/// Settings as asked for. [`build`](Self::build) makes sense of them on this machine.
///
/// A method is named like the option of the program that it stands for, so that a remedy in an
/// error helps both.
#[derive(Clone, Debug)]
#[must_use]
pub struct Builder {
    pub(super) listen: Vec<Listener>,
    pub(super) cores: Option<u16>,
    pub(super) cpus: Option<Vec<usize>>,
    pub(super) engine: EngineChoice,
    pub(super) steer_cpu: bool,
    pub(super) waiting: Waiting,
    pub(super) coalesce: Duration,
    pub(super) buffers: u16,
    pub(super) gso: bool,
    pub(super) latency: bool,
    pub(super) wire: bool,
    pub(super) socket: socket::Settings,
    pub(super) paths: Option<OpenPaths>,
    pub(super) restrict_rings: bool,
    pub(super) confine: Option<fn()>,
    pub(super) rules: Rules,
    pub(super) drain_delay: Duration,
    pub(super) rate_limit: Option<Limit>,
    pub(super) drain_timeout: Duration,
    pub(super) interval: Option<Duration>,
    pub(super) duration: Option<Duration>,
}

impl Default for Builder {
    fn default() -> Self {
        Self {
            listen: Vec::new(),
            cores: None,
            cpus: None,
            engine: EngineChoice::Auto,
            steer_cpu: false,
            waiting: Waiting::default(),
            coalesce: Duration::ZERO,
            buffers: BUFFERS_DEFAULT,
            gso: true,
            latency: true,
            wire: false,
            socket: socket::Settings {
                gro: true,
                receive_buffer_len: Some(SOCKET_BUFFER_DEFAULT),
                send_buffer_len: Some(SOCKET_BUFFER_DEFAULT),
                ..socket::Settings::default()
            },
            paths: None,
            restrict_rings: true,
            confine: None,
            rules: Rules::default(),
            drain_delay: Duration::ZERO,
            rate_limit: None,
            drain_timeout: DRAIN_TIMEOUT_DEFAULT,
            interval: Some(Duration::from_secs(1)),
            duration: None,
        }
    }
}

impl Builder {
    /// Echoes at `addr`, besides what was named before; port 0 leaves the choice to the kernel.
    ///
    /// Without any listener it is `0.0.0.0:9007`, and `[::]:9007` where the host has IPv6.
    pub fn listen(self, addr: SocketAddr) -> Self {
        self.listen_as(addr, Mode::Echo)
    }

    /// Listens at `addr` as [`listen`](Self::listen) does, in another mode. A server of your own
    /// responder looks at no mode.
    pub fn listen_as(self, addr: SocketAddr, mode: Mode) -> Self {
        self.listener(Listener {
            mode,
            ..Listener::new(addr)
        })
    }

    /// Listens as `listener` says, besides what was named before.
    pub fn listener(mut self, listener: Listener) -> Self {
        self.listen.push(listener);
        self
    }

    /// Serves IPv4 and IPv6 peers by one `[::]` socket.
    pub fn dual_stack(mut self, is_on: bool) -> Self {
        self.socket.dual_stack = is_on;
        self
    }

    /// Receives and sends through the interface `name` only (SO_BINDTODEVICE, socket(7)).
    pub fn device(mut self, name: impl Into<String>) -> Self {
        self.socket.device = Some(name.into());
        self
    }

    /// Lets a reply leave by the interface that its request came by, whatever the routes say.
    pub fn same_interface(mut self, is_on: bool) -> Self {
        self.socket.same_interface = is_on;
        self
    }

    /// Binds addresses that this host does not have yet.
    pub fn freebind(mut self, is_on: bool) -> Self {
        self.socket.freebind = is_on;
        self
    }

    /// Shares the port with programs that agree to.
    pub fn share_port(mut self, is_on: bool) -> Self {
        self.socket.share_port = is_on;
        self
    }

    /// Runs `count` workers, one per core while there are cores. Default: as many as CPU affinity
    /// and cgroup allow.
    pub fn cores(mut self, count: u16) -> Self {
        self.cores = Some(count);
        self
    }

    /// Runs one worker on each of these CPUs, which wins over [`cores`](Self::cores).
    pub fn cpus(mut self, cpus: impl Into<Vec<usize>>) -> Self {
        self.cpus = Some(cpus.into());
        self
    }

    /// Asks for an engine.
    pub fn engine(mut self, choice: EngineChoice) -> Self {
        self.engine = choice;
        self
    }

    /// Gives a datagram to the worker on the CPU that received it, instead of one for each flow.
    pub fn steer_cpu(mut self, is_on: bool) -> Self {
        self.steer_cpu = is_on;
        self
    }

    /// How workers wait for datagrams.
    pub fn wait(mut self, waiting: Waiting) -> Self {
        self.waiting = waiting;
        self
    }

    /// Receives datagrams of one peer together (UDP_GRO, udp(7)).
    pub fn gro(mut self, is_on: bool) -> Self {
        self.socket.gro = is_on;
        self
    }

    /// Sends replies to one peer together (UDP_SEGMENT, udp(7)).
    pub fn gso(mut self, is_on: bool) -> Self {
        self.gso = is_on;
        self
    }

    /// Waits this long for more datagrams before answering, at most ten seconds.
    pub fn coalesce(mut self, wait: Duration) -> Self {
        self.coalesce = wait;
        self
    }

    /// Receive buffers of each worker, rounded up to a power of two.
    pub fn buffers(mut self, count: u16) -> Self {
        self.buffers = count;
        self
    }

    /// Bytes that each socket's receive buffer is asked to have.
    pub fn receive_buffer_len(mut self, len: usize) -> Self {
        self.socket.receive_buffer_len = Some(len);
        self
    }

    /// Bytes that each socket's send buffer is asked to have.
    pub fn send_buffer_len(mut self, len: usize) -> Self {
        self.socket.send_buffer_len = Some(len);
        self
    }

    /// Never fragments replies (IP_PMTUDISC_PROBE, ip(7)).
    pub fn df(mut self, is_on: bool) -> Self {
        self.socket.df = is_on;
        self
    }

    /// Opens with `open` the one who is asked for the way to a peer when its socket has no room for
    /// a reply. Without it a neighbour that does not resolve costs other peers replies.
    pub fn paths(mut self, open: OpenPaths) -> Self {
        self.paths = Some(open);
        self
    }

    /// Makes each ring unable to do what the engine does not ask of it, which is the default.
    pub fn restrict_rings(mut self, is_on: bool) -> Self {
        self.restrict_rings = is_on;
        self
    }

    /// Has each worker call `confine` on its own thread, once its engine is open and can receive.
    /// From then on it opens nothing: what moves datagrams is there, and the rest may be taken away
    /// from it.
    pub fn confine(mut self, confine: fn()) -> Self {
        self.confine = Some(confine);
        self
    }

    /// Answers by `rules`, instead of those that were named before.
    pub fn rules(mut self, rules: Rules) -> Self {
        self.rules = rules;
        self
    }

    /// Answers only peers in these prefixes, instead of those in
    /// [`DEFAULT_ALLOW`](crate::guard::DEFAULT_ALLOW).
    pub fn allow(mut self, prefixes: impl IntoIterator<Item = IpNet>) -> Self {
        self.rules.allow = Prefixes::new(prefixes);
        self
    }

    /// Never answers peers in these prefixes, whatever is allowed.
    pub fn deny(mut self, prefixes: impl IntoIterator<Item = IpNet>) -> Self {
        self.rules.deny = Prefixes::new(prefixes);
        self
    }

    /// Source ports that get no answer, instead of
    /// [`DEFAULT_DENY_PORTS`](crate::guard::DEFAULT_DENY_PORTS).
    pub fn deny_ports(mut self, ports: impl Into<Vec<u16>>) -> Self {
        self.rules.deny_ports = ports.into();
        self
    }

    /// Limits what each source may send to a worker, and each network of sources.
    pub fn rate_limit(mut self, limit: Limit) -> Self {
        self.rate_limit = Some(limit);
        self
    }

    /// Sends each reply with one hop less to go than its request had left.
    pub fn loop_guard(mut self, is_on: bool) -> Self {
        self.rules.loop_guard = is_on;
        self
    }

    /// Measures residence times, from the kernel's receive stamp to the reply.
    pub fn latency(mut self, is_on: bool) -> Self {
        self.latency = is_on;
        self
    }

    /// Measures residence times up to the device, by the kernel's transmit timestamps, of one
    /// message in 64; it takes Linux 6.12.
    pub fn wire_latency(mut self, is_on: bool) -> Self {
        self.wire = is_on;
        self
    }

    /// Reports this often; `None` only at the end.
    pub fn interval(mut self, interval: Option<Duration>) -> Self {
        self.interval = interval;
        self
    }

    /// Goes on for this long when the server is stopped, for peers that have not yet heard of it;
    /// then it drains. A second stop ends the delay.
    pub fn drain_delay(mut self, delay: Duration) -> Self {
        self.drain_delay = delay;
        self
    }

    /// Gives the workers this long to answer what is queued when the server is stopped, five
    /// seconds unless told otherwise; one that takes longer is stuck, and is not waited for.
    pub fn drain_timeout(mut self, timeout: Duration) -> Self {
        self.drain_timeout = timeout;
        self
    }

    /// Ends after this long.
    pub fn duration(mut self, duration: Duration) -> Self {
        self.duration = Some(duration);
        self
    }
}
