//! The reflector's own options, as typed, and what they come to.

use std::iter;
use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::Args;
use clap::builder::NonEmptyStringValueParser;
use reflector::config::{Builder, Config, EngineChoice, Waiting};
use reflector::mode::Mode;
use reflector::responder::Responder;
use reflector::server::Inherited;
use reflector_measure::duration;
use reflector_measure::error::Error;

use super::accelerate::AccelerateArgs;
use super::manager;
use super::output::OutputArgs;
use super::peers::Peers;
use super::reporter::Format;
use super::starter::StarterArgs;
use super::trains::Trains;
use super::values::{self, CpuList, Listen, ReplyInterface, Steer, Wait};
use crate::netns::Netns;
use crate::values::{Engine, List, OnlyFamily, list, number};

// A doc comment on one of these structs would become the program's description.

#[derive(Args, Clone, Debug)]
pub struct ServeArgs {
    #[command(flatten, next_help_heading = "Addresses")]
    addresses: Addresses,
    #[command(flatten, next_help_heading = "Workers and engine")]
    workers: Workers,
    #[command(flatten, next_help_heading = "Trains and buffers")]
    trains: Trains,
    #[command(flatten, next_help_heading = "In the kernel")]
    accelerate: AccelerateArgs,
    #[command(flatten, next_help_heading = "Peers")]
    pub peers: Peers,
    #[command(flatten, next_help_heading = "Reports and log")]
    pub output: OutputArgs,
    #[command(flatten, next_help_heading = "Started by a test or a script")]
    pub starter: StarterArgs,
}

#[derive(Args, Clone, Debug)]
struct Addresses {
    /// Address or port to reflect on; repeatable [default: 9007]
    ///
    /// ADDR is 0.0.0.0 or [::] for every address of this host, one of them, such as [fe80::1%eth0],
    /// or a name, which stands for all its addresses. PORT alone is that port of 0.0.0.0 and of
    /// [::], if the host has IPv6; ADDR alone has port 9007. Port 0 lets the kernel choose.
    ///
    /// A mode may follow the port, as in 0.0.0.0:9007/echo. The default is 'echo': send the payload
    /// back as it is. 'echo-info' also does what --echo-info says.
    #[arg(short, long, value_name = "ADDR:PORT", value_parser = list(values::listen))]
    listen: Vec<List<Listen>>,
    /// Tell peers that ask for it how they are seen, as 'probe' and 'watch' do
    ///
    /// That is the address that they have here, the address that they asked, the hops that are
    /// left, and how many of their datagrams came. A reply is as long as its request, and what does
    /// not ask goes back as it is. Behind a NAT, this tells the addresses inside. The mode of a
    /// listener that names one wins.
    #[arg(long)]
    echo_info: bool,
    #[command(flatten)]
    only: OnlyFamily,
    /// Serve IPv4 and IPv6 with one [::] socket instead of one socket for each
    #[arg(long, conflicts_with_all = ["ipv4", "ipv6"])]
    dual_stack: bool,
    /// Receive and send only through this interface
    #[arg(long, value_name = "IFNAME", value_parser = NonEmptyStringValueParser::new())]
    device: Option<String>,
    /// Interface that replies leave by: any or same
    ///
    /// 'any' is the routing table's choice, 'same' the interface that the request came in by. For
    /// IPv6 'same' is only a preference: a more specific route by another interface wins.
    #[arg(long, value_enum, value_name = "VIA", hide_possible_values = true)]
    #[arg(default_value_t = ReplyInterface::Any)]
    reply_interface: ReplyInterface,
    #[command(flatten)]
    netns: Netns,
    /// Bind addresses that this host does not have yet
    ///
    /// A standby can so be ready for a virtual address that it takes over later (IP_FREEBIND).
    #[arg(long)]
    freebind: bool,
    /// Share the port with other programs that allow it
    ///
    /// The kernel then divides the peers among them (SO_REUSEPORT). Without this option a second
    /// reflector on the same port is refused.
    ///
    /// All of them have the same --device, or all none: otherwise what arrives by that interface
    /// goes to one of them only, of IPv4 to the one that started last, of IPv6 to the one that
    /// started first.
    #[arg(long)]
    share_port: bool,
}

#[derive(Args, Clone, Debug)]
struct Workers {
    /// Number of workers, one per core [default: all available cores]
    ///
    /// Available are the CPUs of the affinity mask, up to the CPU quota of the cgroup. Where fewer
    /// are asked for, those come first that no other reflector has its workers on, as far as /proc
    /// shows them; containers do not see each other.
    #[arg(short, long, value_name = "N")]
    #[arg(value_parser = number::<u16>(1..=1024), conflicts_with = "cpus")]
    cores: Option<u16>,
    /// CPUs to run on, one worker each, such as 0-3,6
    ///
    /// One that the affinity mask leaves out, such as an isolated one, is taken where the kernel
    /// allows it.
    #[arg(long, value_name = "LIST", value_parser = values::cpus)]
    cpus: Option<CpuList>,
    /// Engine that moves datagrams: auto, uring or mmsg
    ///
    /// 'uring' is io_uring, 'mmsg' is recvmmsg and sendmmsg. 'auto' is uring where it is available,
    /// else mmsg, with a warning that says what prevents io_uring.
    #[arg(long, value_enum, value_name = "ENGINE", hide_possible_values = true)]
    #[arg(default_value_t = Engine::Auto)]
    engine: Engine,
    /// Choose the worker of a datagram by flow or by receiving CPU
    ///
    /// 'flow' hashes addresses and ports, so that a peer stays with one worker. 'cpu' is the worker
    /// on the CPU that received the datagram.
    #[arg(long, value_enum, value_name = "flow|cpu", hide_possible_values = true)]
    #[arg(default_value_t = Steer::Flow)]
    steer: Steer,
    /// Go on for this long after SIGTERM, SIGINT or SIGHUP, before the end begins
    ///
    /// For peers that have not yet heard that the reflector is going, as in a rolling update. A
    /// second signal ends the delay.
    #[arg(long, value_name = "TIME", default_value = "0s", value_parser = duration::parse)]
    drain_delay: Duration,
    /// Give the workers this long to reply to what they have received at the end
    ///
    /// One that takes longer is stuck: the reflector exits with 1.
    #[arg(long, value_name = "TIME", default_value = "5s", value_parser = duration::parse)]
    drain_timeout: Duration,
    /// Take the sockets over from the reflector that listens at SOCKET, and listen there
    ///
    /// For upgrades that lose no datagram: the same option for the old process and the new one. The
    /// first one makes the Unix socket, for its own user and root; the next one gets the very UDP
    /// sockets of the old one, which ends in order when the new one is ready, and goes on where the
    /// new one fails before. --hdr takes a file for each.
    #[arg(long, value_name = "SOCKET")]
    takeover: Option<PathBuf>,
    /// How workers wait for datagrams: block, adaptive or spin
    ///
    /// 'block' is to sleep at once. 'adaptive' is to look for 50us at most before each sleep, where
    /// that has shown to take no more CPU time than to sleep, nobody else wants the CPU, and a CPU
    /// quota leaves a CPU to each worker. 'spin' is to poll: the shortest round trips, but every
    /// worker takes a whole core.
    #[arg(long, value_enum, value_name = "HOW", hide_possible_values = true)]
    #[arg(default_value_t = Wait::Adaptive)]
    wait: Wait,
    /// Renamed: --wait spin
    #[arg(long, hide = true)]
    spin: bool,
    /// Keep all privileges, files and system calls
    ///
    /// By default, what a running reflector does not need is taken away from it at the start:
    /// capabilities, files other than its lists and /proc, system calls, operations of a ring. The
    /// backtrace of a panic needs files as well, and has names only without the sandbox. With
    /// --takeover, files can still be removed from the directory of the Unix socket.
    #[arg(long)]
    no_sandbox: bool,
}

impl ServeArgs {
    /// The devices by which what comes in is answered in the kernel.
    ///
    /// # Errors
    /// A mode that the kernel does not have; a device that the sockets do not listen on.
    pub fn accelerated(&self) -> Result<Vec<String>, Error> {
        let devices = self.accelerate.devices();
        if devices.is_empty() {
            return Ok(devices);
        }
        let default = self.addresses.mode();
        let listen = self.addresses.listen.iter().flat_map(|List(items)| items);
        let modes = listen.map(|it| it.mode.unwrap_or(default));
        let unnamed = iter::once(default).filter(|_| self.addresses.listen.is_empty());
        let mut others = modes.chain(unnamed);
        if let Some(other) = others.find(|mode| !mode.responder().is_echo()) {
            let said = format!("a listener has the mode '{}'", other.name());
            return Err(Error::usage("--accelerate is for echo alone", said));
        }
        let bound = self.addresses.device.as_ref();
        let mut others = devices
            .iter()
            .filter(|it| bound.is_some_and(|bound| bound != *it));
        if let (Some(bound), Some(other)) = (bound, others.next()) {
            let said = format!("--device {bound} has the sockets hear nothing from {other}");
            return Err(Error::usage(format!("cannot accelerate {other}"), said));
        }
        Ok(devices)
    }

    /// Whether a socket of `[::]` receives IPv4 as well.
    pub fn is_dual_stack(&self) -> bool {
        self.addresses.dual_stack
    }

    /// Signals at which the reflector ends in order.
    pub fn orderly_signals(&self) -> u32 {
        if self.workers.drain_delay.is_zero() {
            1
        } else {
            2
        }
    }

    /// Where the sockets are taken over from the old process, and by the next one.
    pub fn takeover(&self) -> Option<&Path> {
        self.workers.takeover.as_deref()
    }

    /// Whether what is not needed is taken away.
    pub fn is_confined(&self) -> bool {
        !self.workers.no_sandbox
    }

    /// How it is reported.
    pub fn format(&self) -> Format {
        match (self.output.json, self.starter.ready_line) {
            (true, _) => Format::Json,
            (_, true) => Format::Lines,
            _ => Format::Columns,
        }
    }

    /// Where the sockets are opened.
    pub fn netns(&self) -> &Netns {
        &self.addresses.netns
    }

    /// Whether the workers may open rings of io_uring.
    pub fn may_have_rings(&self) -> bool {
        self.workers.engine != Engine::Mmsg
    }

    /// The settings that the arguments ask for; what they do not, suits the sockets `activated`.
    ///
    /// # Errors
    /// A name does not resolve, an interface does not exist (ENODEV), or an option was renamed.
    pub fn builder(&self, activated: &[Inherited]) -> Result<Builder, Error> {
        if self.workers.spin {
            let what = "--spin (REFLECTOR_SPIN) has another name";
            return Err(Error::usage(
                what,
                "use --wait spin, or REFLECTOR_WAIT=spin",
            ));
        }
        let mut builder = Config::builder();
        let per_address = manager::per_address(activated);
        if self.addresses.listen.is_empty() && self.addresses.only.family().is_none() {
            builder = per_address.keys().fold(builder, |it, addr| {
                it.listen_as(*addr, self.addresses.mode())
            });
        }
        if let (Some(&most), None) = (per_address.values().max(), &self.workers.cpus) {
            builder = builder.cores(manager::workers(most));
        }
        let is_activated = !per_address.is_empty();
        let builder = self.addresses.apply(builder, is_activated)?;
        let builder = self.workers.apply(builder);
        let builder = self.trains.apply(builder);
        let builder = self.peers.apply(builder)?;
        Ok(self.output.apply(builder))
    }
}

impl Addresses {
    /// The mode of a listener that names none.
    fn mode(&self) -> Mode {
        if self.echo_info {
            Mode::EchoInfo
        } else {
            Mode::default()
        }
    }

    fn apply(&self, mut builder: Builder, is_activated: bool) -> Result<Builder, Error> {
        let family = self.only.family();
        let mut listen: Vec<_> = self.listen.iter().flat_map(|List(items)| items).collect();
        let by_default = Listen::default();
        if listen.is_empty() && (family.is_some() || self.echo_info && !is_activated) {
            listen.push(&by_default);
        }
        for listen in listen {
            for listener in listen.listeners(self.dual_stack, family, self.mode())? {
                builder = builder.listener(listener);
            }
        }
        if let Some(device) = &self.device {
            builder = builder.device(device);
        }
        Ok(builder
            .dual_stack(self.dual_stack)
            .same_interface(self.reply_interface == ReplyInterface::Same)
            .freebind(self.freebind)
            .share_port(self.share_port))
    }
}

impl Workers {
    fn apply(&self, mut builder: Builder) -> Builder {
        if let Some(cores) = self.cores {
            builder = builder.cores(cores);
        }
        if let Some(CpuList(cpus)) = &self.cpus {
            builder = builder.cpus(cpus.clone());
        }
        let engine = match self.engine {
            Engine::Auto => EngineChoice::Auto,
            Engine::Uring => EngineChoice::Uring,
            Engine::Mmsg => EngineChoice::Mmsg,
        };
        builder
            .engine(engine)
            .steer_cpu(self.steer == Steer::Cpu)
            .drain_delay(self.drain_delay)
            .drain_timeout(self.drain_timeout)
            .wait(match self.wait {
                Wait::Block => Waiting::Block,
                Wait::Adaptive => Waiting::Adaptive,
                Wait::Spin => Waiting::Spin,
            })
    }
}
