//! Settings, validated: what is typed becomes what can be done, and every limit is summed in the
//! open.

use std::collections::BTreeSet;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use core_affinity::CoreId;
use ipnet::{IpNet, Ipv4Net, Ipv6Net};

use crate::cli::{
    self, LatencySource, LoopGuard, Prefix, ReplyInterface, ServeArgs, Steer, Switch,
};
use crate::datagram::SEGMENTS_MAX;
use crate::egress;
use crate::engine::probe::{self, Blocker};
use crate::engine::{self, Kind};
use crate::guard::{DEFAULT_ALLOW, DEFAULT_DENY_PORTS, Prefixes};
use crate::socket;
use crate::stats::latency::HISTOGRAM_BYTES;
use reflector_measure::error::Error;

/// The port that the reflector listens on unless told otherwise.
pub const DEFAULT_PORT: u16 = 9007;
/// Receive buffers of a worker unless told otherwise: few hot ones beat many (PERF.md).
pub const BUFFERS_DEFAULT: u16 = 64;
/// The longest wait for more datagrams: they wait, and so does whoever stops the worker.
const COALESCE_MAX: Duration = Duration::from_secs(10);
/// A send buffer below this fits no more than a few trains; EAGAIN drops are to be expected.
pub const SEND_BUFFER_SMALL: usize = 512 * 1024;
/// Segments that a train may have before Linux 6.9 (linux/udp.h).
const SEGMENTS_MAX_OLD: usize = 64;

/// An address to listen on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Listen {
    /// Address and port; port 0 leaves the choice to the kernel.
    pub addr: SocketAddr,
    /// Whether to do without it where the host has no IPv6.
    pub is_optional: bool,
}

/// Everything that the server starts from.
#[derive(Clone, Debug)]
pub struct Config {
    /// Where to listen; none covers another.
    pub listen: Vec<Listen>,
    /// One entry per worker: the CPU that it is pinned to, if to any.
    pub workers: Vec<Option<CoreId>>,
    /// What each socket is asked for.
    pub socket: socket::Settings,
    /// What each engine is asked for.
    pub engine: engine::Settings,
    /// Why the engine is not the one preferred.
    pub engine_blocker: Option<Blocker>,
    /// Whether datagrams go to the worker on the receiving CPU.
    pub steer_cpu: bool,
    /// How long a worker waits for more before it answers.
    pub coalesce: Duration,
    /// Who is answered.
    pub allow: Prefixes,
    /// Who is not, whatever `allow` says.
    pub deny: Prefixes,
    /// Source ports that get no answer.
    pub deny_ports: Vec<u16>,
    /// How often to report; `None` only at the end.
    pub interval: Option<Duration>,
    /// When to end by itself.
    pub duration: Option<Duration>,
    /// Reports as JSON lines.
    pub json: bool,
    /// Where residence times are logged.
    pub hdr: Option<PathBuf>,
    /// Whether to say more.
    pub is_verbose: bool,
    /// What is worth a warning, and no error.
    pub notes: Vec<String>,
}

impl Config {
    /// Makes sense of `args` on this machine; tries io_uring out unless told not to.
    ///
    /// # Errors
    /// What contradicts itself, and what was demanded and cannot be had.
    pub fn new(args: &ServeArgs) -> Result<Self, Error> {
        let mut notes = Vec::new();
        let workers = workers(args, &mut notes)?;
        let listen = listen(args)?;
        if args.coalesce > COALESCE_MAX {
            return Err(Error::usage(
                format!("cannot wait {:?} for more datagrams", args.coalesce),
                format!("--coalesce takes at most {COALESCE_MAX:?}"),
            ));
        }
        let (kind, abilities, engine_blocker) = choose_engine(args.engine)?;
        let buffers = buffers(args, &mut notes);
        let is_latency_on = args.latency == LatencySource::Kernel;
        let loop_guard = args.loop_guard == LoopGuard::Ttl;
        Ok(Self {
            socket: socket::Settings {
                dual_stack: args.dual_stack,
                is_grouped: workers.len() > 1,
                share_port: args.share_port,
                gro: args.gro == Switch::On,
                timestamps: is_latency_on,
                hop_limits: loop_guard,
                same_interface: args.reply_interface == ReplyInterface::Same,
                df: args.df,
                freebind: args.freebind,
                receive_buffer_len: Some(args.rcvbuf.as_u64() as usize),
                send_buffer_len: Some(args.sndbuf.as_u64() as usize),
                device: args.device.clone(),
            },
            engine: engine::Settings {
                kind,
                buffers,
                spin: args.spin,
                looks: abilities.keeps_unused_buffers,
                egress: egress::Settings {
                    gso: args.gso == Switch::On,
                    segments_max: segments_max(),
                    loop_guard,
                    latency: is_latency_on,
                },
            },
            engine_blocker,
            steer_cpu: args.steer == Steer::Cpu,
            coalesce: args.coalesce,
            allow: allow(&args.allow)?,
            deny: prefixes(&args.deny),
            deny_ports: match &args.deny_port {
                Some(ports) => ports.0.clone(),
                None => DEFAULT_DENY_PORTS.to_vec(),
            },
            interval: (!args.interval.is_zero()).then_some(args.interval),
            duration: args.duration,
            json: args.json,
            hdr: args.hdr.clone(),
            is_verbose: args.verbose,
            listen,
            workers,
            notes,
        })
    }

    /// The memory that this configuration may touch.
    pub fn memory(&self) -> MemoryBudget {
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
pub struct MemoryBudget {
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

fn workers(args: &ServeArgs, notes: &mut Vec<String>) -> Result<Vec<Option<CoreId>>, Error> {
    let allowed = core_affinity::get_core_ids().unwrap_or_default();
    if let Some(cli::CpuList(cpus)) = &args.cpus {
        if let Some(missing) = cpus
            .iter()
            .find(|&&cpu| !allowed.iter().any(|it| it.id == cpu))
        {
            let list: Vec<_> = allowed.iter().map(|core| core.id.to_string()).collect();
            return Err(Error::usage(
                format!("cannot run on CPU {missing}"),
                format!("this process may use CPUs {}", list.join(",")),
            ));
        }
        let distinct: BTreeSet<_> = cpus.iter().collect();
        note_sharing(cpus.len(), distinct.len(), notes);
        return Ok(cpus.iter().map(|&id| Some(CoreId { id })).collect());
    }
    let quota = std::thread::available_parallelism().map_or(1, usize::from);
    if allowed.is_empty() {
        let count = args.cores.map_or(quota, usize::from);
        notes.push(format!(
            "the CPUs of this process cannot be read (sched_getaffinity), perhaps for a seccomp \
             profile: {count} workers run, not pinned"
        ));
        return Ok(vec![None; count]);
    }
    let Some(count) = args.cores.map(usize::from) else {
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
        .map(|worker| allowed.get(worker % allowed.len().max(1)).copied())
        .collect())
}

fn note_sharing(workers: usize, cpus: usize, notes: &mut Vec<String>) {
    if workers > cpus {
        let s = if cpus == 1 { "" } else { "s" };
        notes.push(format!(
            "{workers} workers share {cpus} CPU{s}: they take turns, which costs latency"
        ));
    }
}

fn listen(args: &ServeArgs) -> Result<Vec<Listen>, Error> {
    let v4 = SocketAddr::from((Ipv4Addr::UNSPECIFIED, DEFAULT_PORT));
    let v6 = SocketAddr::from((Ipv6Addr::UNSPECIFIED, DEFAULT_PORT));
    if args.listen.is_empty() {
        let required = |addr| Listen {
            addr,
            is_optional: false,
        };
        return Ok(if args.dual_stack {
            vec![required(v6)]
        } else {
            vec![
                required(v4),
                Listen {
                    addr: v6,
                    is_optional: true,
                },
            ]
        });
    }
    let mut listen: Vec<Listen> = Vec::new();
    for &addr in &args.listen {
        // `[::ffff:0.0.0.0]` is a wildcard that does not look like one.
        let addr = SocketAddr::new(addr.ip().to_canonical(), addr.port()).with_scope_of(addr);
        if addr.ip().is_multicast() || addr.ip() == Ipv4Addr::BROADCAST {
            return Err(Error::usage(
                format!("cannot reflect on {addr}"),
                "no reply can come from a multicast or broadcast address; listen on a unicast address \
                 or a wildcard",
            ));
        }
        if args.dual_stack && !(addr.is_ipv6() && addr.ip().is_unspecified()) {
            return Err(Error::usage(
                format!("cannot reflect on {addr}"),
                "--dual-stack is for the wildcard [::] only",
            ));
        }
        if let Some(other) = listen.iter().find(|other| covers(other.addr, addr)) {
            return Err(Error::usage(
                format!("cannot reflect on {addr}"),
                format!("--listen {} covers it already", other.addr),
            ));
        }
        listen.push(Listen {
            addr,
            is_optional: false,
        });
    }
    Ok(listen)
}

trait WithScope {
    fn with_scope_of(self, other: SocketAddr) -> Self;
}

impl WithScope for SocketAddr {
    fn with_scope_of(mut self, other: SocketAddr) -> Self {
        if let (SocketAddr::V6(this), SocketAddr::V6(other)) = (&mut self, other) {
            this.set_scope_id(other.scope_id());
        }
        self
    }
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

fn choose_engine(
    choice: cli::EngineChoice,
) -> Result<(Kind, probe::Abilities, Option<Blocker>), Error> {
    let without_ring = |blocker| (Kind::Mmsg, probe::Abilities::default(), blocker);
    if choice == cli::EngineChoice::Mmsg {
        // Without any io_uring system call, since some profiles kill for one.
        return Ok(without_ring(None));
    }
    match probe::probe() {
        Ok(abilities) => Ok((Kind::Uring, abilities, None)),
        Err(blocker) if choice == cli::EngineChoice::Auto => Ok(without_ring(Some(blocker))),
        Err(Blocker { what, remedy }) => {
            Err(Error::new("cannot use io_uring", what).try_this(remedy))
        }
    }
}

fn buffers(args: &ServeArgs, notes: &mut Vec<String>) -> u16 {
    let buffers = args.buffers.next_power_of_two();
    if buffers != args.buffers {
        notes.push(format!(
            "--buffers {} is rounded up to {buffers}",
            args.buffers
        ));
    }
    buffers
}

fn segments_max() -> usize {
    if probe::kernel_is_at_least(6, 9) {
        SEGMENTS_MAX
    } else {
        SEGMENTS_MAX_OLD
    }
}

fn allow(asked: &[Prefix]) -> Result<Prefixes, Error> {
    if asked.is_empty() {
        let parse = |text: &str| text.parse::<IpNet>().expect("the defaults are prefixes");
        return Ok(Prefixes::new(DEFAULT_ALLOW.map(parse)));
    }
    Ok(prefixes(asked))
}

fn prefixes(asked: &[Prefix]) -> Prefixes {
    Prefixes::new(asked.iter().flat_map(|prefix| match *prefix {
        Prefix::Any => {
            vec![IpNet::V4(Ipv4Net::default()), IpNet::V6(Ipv6Net::default())]
        }
        Prefix::Net(net) => vec![net],
    }))
}

#[cfg(test)]
mod tests {
    use clap::Parser;
    use seccompiler::{BpfProgram, SeccompAction, SeccompFilter};

    use super::*;
    use crate::cli::Cli;

    fn config(args: &[&str]) -> Result<Config, Error> {
        let args = ["reflector", "--engine", "mmsg"].iter().chain(args);
        Config::new(&Cli::try_parse_from(args).unwrap().serve)
    }

    fn said(args: &[&str]) -> String {
        let error = config(args).unwrap_err();
        assert!(error.is_usage());
        error.to_string()
    }

    #[test]
    fn listening_twice_on_the_same_is_refused() {
        let text = said(&["--listen", "0.0.0.0:9", "--listen", "10.0.0.1:9"]);
        assert_eq!(
            text,
            "cannot reflect on 10.0.0.1:9: --listen 0.0.0.0:9 covers it already"
        );
        assert!(
            said(&["--listen", "0.0.0.0:9", "--listen", "[::ffff:0.0.0.0]:9"]).contains("covers")
        );
        assert!(config(&["--listen", "0.0.0.0:9", "--listen", "[::]:9"]).is_ok());
        assert!(config(&["--listen", "10.0.0.1:9", "--listen", "10.0.0.2:9"]).is_ok());
        assert!(config(&["--listen", "[fe80::1%1]:9", "--listen", "[fe80::1%2]:9"]).is_ok());
    }

    #[test]
    fn multicast_and_specific_dual_stack_are_refused() {
        assert!(said(&["--listen", "224.0.0.1:9"]).contains("unicast"));
        assert!(said(&["--dual-stack", "--listen", "10.0.0.1:9"]).contains("wildcard"));
    }

    #[test]
    fn a_cpu_that_is_not_ours_is_refused() {
        assert!(said(&["--cpus", "4000"]).starts_with("cannot run on CPU 4000: this process may"));
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
        let workers = |args: &'static [&str]| {
            let refuse = &refuse;
            // A filter stays with its thread.
            let thread = move || {
                seccompiler::apply_filter(refuse).unwrap();
                let config = config(args).unwrap();
                assert!(
                    config.notes[0].starts_with("the CPUs"),
                    "{:?}",
                    config.notes
                );
                config.workers
            };
            std::thread::scope(|scope| scope.spawn(thread).join().unwrap())
        };
        assert_eq!(workers(&["--cores", "3"]), [None; 3]);
        let by_default = workers(&[]);
        assert!(!by_default.is_empty());
        assert!(by_default.iter().all(Option::is_none));
    }

    #[test]
    fn more_workers_than_cpus_run_with_a_warning() {
        let config = config(&["--cores", "1000"]).unwrap();
        assert_eq!(config.workers.len(), 1000);
        assert!(config.notes[0].contains("1000 workers share"));
    }

    #[test]
    fn the_memory_of_a_worker_stays_below_its_limit() {
        let with_gro = config(&["--cores", "1"]).unwrap().memory();
        assert!(with_gro.worker <= 6 << 20, "{with_gro:?}");
        assert!(with_gro.base <= 16 << 20);
    }

    #[test]
    fn odd_buffer_counts_are_rounded_up() {
        assert_eq!(config(&["--buffers", "100"]).unwrap().engine.buffers, 128);
    }

    #[test]
    fn any_means_both_families() {
        let config = config(&["--allow", "any", "--deny", "10.0.0.0/8"]).unwrap();
        assert!(config.allow.contains("8.8.8.8".parse().unwrap()));
        assert!(config.allow.contains("2001:db8::1".parse().unwrap()));
        assert!(config.deny.contains("10.1.1.1".parse().unwrap()));
    }
}
