//! Settings, validated: what is typed becomes what can be done, and every limit is summed in the
//! open.

use std::collections::BTreeSet;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use core_affinity::CoreId;
use ipnet::IpNet;

use crate::datagram::SEGMENTS_MAX;
use crate::egress;
use crate::engine::probe::{self, Blocker};
use crate::engine::{self, Kind};
use crate::guard::{Prefixes, Rules};
use crate::mode::Mode;
use crate::socket;
use crate::stats::latency::HISTOGRAM_BYTES;
use reflector_measure::error::Error;
use reflector_measure::host::kernel_is_at_least;

/// The port that the reflector listens on unless told otherwise.
pub const DEFAULT_PORT: u16 = 9007;
/// Receive buffers of a worker unless told otherwise: few hot ones beat many (PERF.md).
pub const BUFFERS_DEFAULT: u16 = 64;
/// Bytes that each socket buffer is asked to have unless told otherwise.
pub const SOCKET_BUFFER_DEFAULT: usize = 8 << 20;
/// The longest wait for more datagrams: they wait, and so does whoever stops the worker.
const COALESCE_MAX: Duration = Duration::from_secs(10);
/// A send buffer below this fits no more than a few trains; EAGAIN drops are to be expected.
pub const SEND_BUFFER_SMALL: usize = 512 * 1024;
/// Segments that a train may have before Linux 6.9 (linux/udp.h).
const SEGMENTS_MAX_OLD: usize = 64;

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
    /// Who is answered.
    pub(crate) rules: Rules,
    /// How often to report; `None` only at the end.
    pub(crate) interval: Option<Duration>,
    /// When to end by itself.
    pub(crate) duration: Option<Duration>,
    /// What is worth a warning, and no error.
    pub(crate) notes: Vec<String>,
}

impl Config {
    /// Settings to start from, each with its default.
    pub fn builder() -> Builder {
        Builder::default()
    }

    /// What sockets and engines are asked for, and who is answered.
    #[cfg(feature = "internals")]
    #[doc(hidden)]
    pub fn parts(&self) -> (&socket::Settings, &engine::Settings, &Rules) {
        (&self.socket, &self.engine, &self.rules)
    }

    /// What is worth a warning, and no error; the server logs it when it starts.
    pub fn notes(&self) -> &[String] {
        &self.notes
    }

    /// The memory that this configuration may touch.
    pub(crate) fn memory(&self) -> MemoryBudget {
        let buffers = usize::from(self.engine.buffers);
        let messages = egress::Egress::messages_max(buffers);
        let mut worker = 0;
        // Receive buffers, as if every one had held the largest datagram or train.
        worker += buffers * engine::uring::buffers::STRIDE;
        // Slots, and the verdicts of their segments.
        worker += buffers * size_of::<crate::batch::Slot>();
        worker += buffers * SEGMENTS_MAX * size_of::<crate::datagram::Verdict>();
        // Outbox and trains: header, name, control, iovec, train, piece, hash entries per message.
        worker += messages * 512;
        // Submission and completion queue.
        worker += messages.next_power_of_two() * 64 + (2 * buffers + messages) * 2 * 16;
        // Histograms: counting, published, and the server's sum for the worker.
        worker += 3 * HISTOGRAM_BYTES;
        // Source ports of the guard, stack.
        worker += 8 * 1024 + 64 * 1024;
        MemoryBudget {
            base: MEMORY_BASE,
            worker,
            workers: self.workers.len(),
        }
    }
}

/// Program, allocator, server thread and its histograms, measured with room to spare.
const MEMORY_BASE: usize = 12 << 20;

/// Resident memory that may be touched, in bytes. Socket buffers are the kernel's and come on top.
#[derive(Clone, Copy, Debug)]
pub(crate) struct MemoryBudget {
    /// Whatever the number of workers.
    pub base: usize,
    /// For each worker.
    pub worker: usize,
    /// Number of workers.
    pub workers: usize,
}

impl MemoryBudget {
    /// All of it.
    pub fn total(&self) -> usize {
        self.base + self.worker * self.workers
    }
}

/// Which engine is asked for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum EngineChoice {
    /// io_uring where it is available, else recvmmsg(2) and sendmmsg(2).
    #[default]
    Auto,
    /// io_uring or nothing.
    Uring,
    /// recvmmsg(2) and sendmmsg(2); no system call of io_uring is made.
    Mmsg,
}

/// Settings as asked for. [`build`](Self::build) makes sense of them on this machine.
///
/// A method is named like the option of the program that it stands for, so that a remedy in an
/// error helps both.
#[derive(Clone, Debug)]
#[must_use]
pub struct Builder {
    listen: Vec<Listener>,
    cores: Option<u16>,
    cpus: Option<Vec<usize>>,
    engine: EngineChoice,
    steer_cpu: bool,
    spin: bool,
    coalesce: Duration,
    buffers: u16,
    gso: bool,
    latency: bool,
    socket: socket::Settings,
    rules: Rules,
    interval: Option<Duration>,
    duration: Option<Duration>,
}

impl Default for Builder {
    fn default() -> Self {
        Self {
            listen: Vec::new(),
            cores: None,
            cpus: None,
            engine: EngineChoice::Auto,
            steer_cpu: false,
            spin: false,
            coalesce: Duration::ZERO,
            buffers: BUFFERS_DEFAULT,
            gso: true,
            latency: true,
            socket: socket::Settings {
                gro: true,
                receive_buffer_len: Some(SOCKET_BUFFER_DEFAULT),
                send_buffer_len: Some(SOCKET_BUFFER_DEFAULT),
                ..socket::Settings::default()
            },
            rules: Rules::default(),
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
    pub fn listen_as(mut self, addr: SocketAddr, mode: Mode) -> Self {
        self.listen.push(Listener {
            mode,
            ..Listener::new(addr)
        });
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

    /// Polls instead of sleeping.
    pub fn spin(mut self, is_on: bool) -> Self {
        self.spin = is_on;
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

    /// Reports this often; `None` only at the end.
    pub fn interval(mut self, interval: Option<Duration>) -> Self {
        self.interval = interval;
        self
    }

    /// Ends after this long.
    pub fn duration(mut self, duration: Duration) -> Self {
        self.duration = Some(duration);
        self
    }

    /// Makes sense of the settings on this machine. Tries io_uring out unless told not to.
    ///
    /// # Errors
    /// A [usage](Error::is_usage) error where settings contradict each other, and what was demanded
    /// and is not available here.
    pub fn build(self) -> Result<Config, Error> {
        let mut notes = Vec::new();
        let workers = self.workers(&mut notes)?;
        let listen = self.listeners()?;
        if self.coalesce > COALESCE_MAX {
            return Err(Error::usage(
                format!("cannot wait {:?} for more datagrams", self.coalesce),
                format!("--coalesce takes at most {COALESCE_MAX:?}"),
            ));
        }
        let (kind, abilities, engine_blocker) = choose_engine(self.engine)?;
        let buffers = self.rounded_buffers(&mut notes);
        Ok(Config {
            socket: socket::Settings {
                is_grouped: workers.len() > 1,
                timestamps: self.latency,
                hop_limits: self.rules.loop_guard,
                ..self.socket
            },
            engine: engine::Settings {
                kind,
                buffers,
                spin: self.spin,
                busy_receive: abilities.keeps_unused_buffers,
                egress: egress::Settings {
                    gso: self.gso,
                    segments_max: segments_max(),
                    latency: self.latency,
                },
            },
            engine_blocker,
            steer_cpu: self.steer_cpu,
            coalesce: self.coalesce,
            rules: self.rules,
            interval: self.interval.filter(|interval| !interval.is_zero()),
            duration: self.duration,
            listen,
            workers,
            notes,
        })
    }

    fn workers(&self, notes: &mut Vec<String>) -> Result<Vec<Option<CoreId>>, Error> {
        let allowed = core_affinity::get_core_ids().unwrap_or_default();
        if let Some(cpus) = &self.cpus {
            return on_cpus(cpus, &allowed, notes);
        }
        let quota = std::thread::available_parallelism().map_or(1, usize::from);
        if allowed.is_empty() {
            let count = self.cores.map_or(quota, usize::from);
            notes.push(format!(
                "the CPUs of this process cannot be read (sched_getaffinity), perhaps for a \
                 seccomp profile: {count} workers run, not pinned"
            ));
            return Ok(vec![None; count]);
        }
        let Some(count) = self.cores.map(usize::from) else {
            if quota < allowed.len() {
                notes.push(format!(
                    "the cgroup's quota allows {quota} of {} CPUs: the workers are not pinned, so \
                     that containers do not meet on the same cores; --cpus pins them",
                    allowed.len()
                ));
                return Ok(vec![None; quota]);
            }
            return Ok(allowed.into_iter().map(Some).collect());
        };
        note_sharing(count, allowed.len(), notes);
        Ok((0..count)
            .map(|worker| allowed.get(worker % allowed.len()).copied())
            .collect())
    }

    fn listeners(&self) -> Result<Vec<Listener>, Error> {
        let dual_stack = self.socket.dual_stack;
        if self.listen.is_empty() {
            return Ok(default_listeners(dual_stack));
        }
        let mut listen: Vec<Listener> = Vec::new();
        for listener in &self.listen {
            let addr = canonical(listener.addr);
            check_listener(addr, dual_stack)?;
            if let Some(other) = listen.iter().find(|other| covers(other.addr, addr)) {
                return Err(Error::usage(
                    format!("cannot reflect on {addr}"),
                    format!("--listen {} covers it already", other.addr),
                ));
            }
            listen.push(Listener { addr, ..*listener });
        }
        Ok(listen)
    }

    fn rounded_buffers(&self, notes: &mut Vec<String>) -> u16 {
        let buffers = self.buffers.max(1).next_power_of_two();
        if buffers != self.buffers {
            notes.push(format!(
                "--buffers {} is rounded up to {buffers}",
                self.buffers
            ));
        }
        buffers
    }
}

fn on_cpus(
    cpus: &[usize],
    allowed: &[CoreId],
    notes: &mut Vec<String>,
) -> Result<Vec<Option<CoreId>>, Error> {
    let is_missing = |cpu: &&usize| !allowed.iter().any(|it| it.id == **cpu);
    if let Some(missing) = cpus.iter().find(is_missing) {
        let list: Vec<_> = allowed.iter().map(|core| core.id.to_string()).collect();
        return Err(Error::usage(
            format!("cannot run on CPU {missing}"),
            format!("this process may use CPUs {}", list.join(",")),
        ));
    }
    let distinct: BTreeSet<_> = cpus.iter().collect();
    note_sharing(cpus.len(), distinct.len(), notes);
    Ok(cpus.iter().map(|&id| Some(CoreId { id })).collect())
}

fn note_sharing(workers: usize, cpus: usize, notes: &mut Vec<String>) {
    if workers > cpus {
        let s = if cpus == 1 { "" } else { "s" };
        notes.push(format!(
            "{workers} workers share {cpus} CPU{s}: they take turns, which costs latency"
        ));
    }
}

fn default_listeners(dual_stack: bool) -> Vec<Listener> {
    let v4 = Listener::new((Ipv4Addr::UNSPECIFIED, DEFAULT_PORT).into());
    let v6 = Listener {
        is_optional: !dual_stack,
        ..Listener::new((Ipv6Addr::UNSPECIFIED, DEFAULT_PORT).into())
    };
    if dual_stack { vec![v6] } else { vec![v4, v6] }
}

/// `addr`, as IPv4 where it is v4-mapped: `[::ffff:0.0.0.0]` is a wildcard that does not look like
/// one.
fn canonical(addr: SocketAddr) -> SocketAddr {
    match addr {
        SocketAddr::V6(v6) if v6.ip().to_ipv4_mapped().is_some() => {
            SocketAddr::new(addr.ip().to_canonical(), addr.port())
        }
        _ => addr,
    }
}

fn check_listener(addr: SocketAddr, dual_stack: bool) -> Result<(), Error> {
    let refuse = |said: &str| Err(Error::usage(format!("cannot reflect on {addr}"), said));
    if addr.ip().is_multicast() || addr.ip() == Ipv4Addr::BROADCAST {
        return refuse(
            "no reply can come from a multicast or broadcast address; listen on a unicast address \
             or a wildcard",
        );
    }
    if dual_stack && !(addr.is_ipv6() && addr.ip().is_unspecified()) {
        return refuse("--dual-stack is for the wildcard [::] only");
    }
    Ok(())
}

/// Whether one of the two receives what is sent to the other.
fn covers(a: SocketAddr, b: SocketAddr) -> bool {
    let same_port = a.port() == b.port() && a.port() != 0;
    let scope = |addr| match addr {
        SocketAddr::V6(v6) => v6.scope_id(),
        SocketAddr::V4(_) => 0,
    };
    let is_same = a.ip() == b.ip() && scope(a) == scope(b);
    let meets = is_same || a.ip().is_unspecified() || b.ip().is_unspecified();
    same_port && a.is_ipv4() == b.is_ipv4() && meets
}

fn choose_engine(choice: EngineChoice) -> Result<(Kind, probe::Abilities, Option<Blocker>), Error> {
    let without_ring = |blocker| (Kind::Mmsg, probe::Abilities::default(), blocker);
    if choice == EngineChoice::Mmsg {
        // Without any io_uring system call, since some profiles kill for one.
        return Ok(without_ring(None));
    }
    match probe::probe() {
        Ok(abilities) => Ok((Kind::Uring, abilities, None)),
        Err(blocker) if choice == EngineChoice::Auto => Ok(without_ring(Some(blocker))),
        Err(Blocker { what, remedy }) => {
            Err(Error::new("cannot use io_uring", what).try_this(remedy))
        }
    }
}

fn segments_max() -> usize {
    if kernel_is_at_least(6, 9) {
        SEGMENTS_MAX
    } else {
        SEGMENTS_MAX_OLD
    }
}

#[cfg(test)]
mod tests {
    use seccompiler::{BpfProgram, SeccompAction, SeccompFilter};

    use super::*;

    fn mmsg() -> Builder {
        Config::builder().engine(EngineChoice::Mmsg)
    }

    fn listening(addrs: &[&str]) -> Builder {
        let addrs = addrs.iter().map(|addr| addr.parse().unwrap());
        addrs.fold(mmsg(), Builder::listen)
    }

    fn said(builder: Builder) -> String {
        let error = builder.build().unwrap_err();
        assert!(error.is_usage());
        error.to_string()
    }

    #[test]
    fn listening_twice_on_the_same_is_refused() {
        let text = said(listening(&["0.0.0.0:9", "10.0.0.1:9"]));
        assert_eq!(
            text,
            "cannot reflect on 10.0.0.1:9: --listen 0.0.0.0:9 covers it already"
        );
        assert!(said(listening(&["0.0.0.0:9", "[::ffff:0.0.0.0]:9"])).contains("covers"));
        assert!(listening(&["0.0.0.0:9", "[::]:9"]).build().is_ok());
        assert!(listening(&["10.0.0.1:9", "10.0.0.2:9"]).build().is_ok());
        assert!(
            listening(&["[fe80::1%1]:9", "[fe80::1%2]:9"])
                .build()
                .is_ok()
        );
    }

    #[test]
    fn multicast_and_specific_dual_stack_are_refused() {
        assert!(said(listening(&["224.0.0.1:9"])).contains("unicast"));
        assert!(said(listening(&["10.0.0.1:9"]).dual_stack(true)).contains("wildcard"));
    }

    #[test]
    fn a_cpu_that_is_not_ours_is_refused() {
        assert!(said(mmsg().cpus([4000])).starts_with("cannot run on CPU 4000: this process may"));
    }

    /// A container's seccomp profile may refuse it.
    #[test]
    fn workers_run_unpinned_where_the_cpus_cannot_be_read() {
        let refuse = SeccompFilter::new(
            [(libc::SYS_sched_getaffinity, vec![])].into(),
            SeccompAction::Allow,
            SeccompAction::Errno(libc::EPERM as u32),
            std::env::consts::ARCH.try_into().unwrap(),
        );
        let refuse = BpfProgram::try_from(refuse.unwrap()).unwrap();
        let workers = |cores: Option<u16>| {
            let refuse = &refuse;
            // A filter stays with its thread.
            let thread = move || {
                seccompiler::apply_filter(refuse).unwrap();
                let builder = cores.into_iter().fold(mmsg(), Builder::cores);
                let config = builder.build().unwrap();
                assert!(
                    config.notes[0].starts_with("the CPUs"),
                    "{:?}",
                    config.notes
                );
                config.workers
            };
            std::thread::scope(|scope| scope.spawn(thread).join().unwrap())
        };
        assert_eq!(workers(Some(3)), [None; 3]);
        let by_default = workers(None);
        assert!(!by_default.is_empty());
        assert!(by_default.iter().all(Option::is_none));
    }

    #[test]
    fn more_workers_than_cpus_run_with_a_warning() {
        let config = mmsg().cores(1000).build().unwrap();
        assert_eq!(config.workers.len(), 1000);
        assert!(config.notes[0].contains("1000 workers share"));
    }

    #[test]
    fn the_memory_of_a_worker_stays_below_its_limit() {
        let with_gro = mmsg().cores(1).build().unwrap().memory();
        assert!(with_gro.worker <= 6 << 20, "{with_gro:?}");
        assert!(with_gro.base <= 16 << 20);
    }

    #[test]
    fn odd_buffer_counts_are_rounded_up() {
        assert_eq!(mmsg().buffers(100).build().unwrap().engine.buffers, 128);
    }
}
