//! The command line, as typed, and what it comes to.

use std::env;
use std::net::{Ipv6Addr, SocketAddr, ToSocketAddrs};
use std::path::PathBuf;
use std::time::Duration;

use bytesize::ByteSize;
use clap::builder::BoolishValueParser;
use clap::builder::styling::{AnsiColor, Styles};
use clap::{Arg, ArgAction, Args, CommandFactory, FromArgMatches, Parser, Subcommand, ValueEnum};
use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use reflector::config::{self, Builder, Config};

use crate::diagnose::{self, DiagnoseArgs};
use crate::lab::{self, LabArgs};
use crate::load;
use crate::report::{self, ReportArgs};

const STYLES: Styles = Styles::styled()
    .header(AnsiColor::Green.on_default().bold())
    .usage(AnsiColor::Green.on_default().bold())
    .literal(AnsiColor::Cyan.on_default().bold());

/// What holds for all options, and what they do not say.
const AFTER_HELP: &str = "\
Every option has an environment variable, such as REFLECTOR_LOG_FORMAT for --log-format; flags are
set by 1 there. The command line wins.

Exit codes: 0 done; 1 could not be set up, or failed; 2 the options make no sense. SIGTERM and
SIGINT answer what has been received and end with 0; a second one ends at once, with 1.";

/// Answers every UDP datagram from the address that it was sent to.
#[derive(Debug, Parser)]
#[command(
    version,
    styles = STYLES,
    max_term_width = 100,
    after_help = AFTER_HELP,
    disable_help_flag = true,
    disable_help_subcommand = true,
    args_conflicts_with_subcommands = true
)]
pub struct Cli {
    /// What is to be done; without it, reflect.
    #[command(subcommand)]
    pub command: Option<Command>,

    /// What the reflector is asked to do.
    #[command(flatten)]
    pub serve: ServeArgs,

    // One help, the short one, under both names.
    #[arg(short, long, global = true, action = ArgAction::HelpShort, help = "Print this help")]
    help: Option<bool>,
}

impl Cli {
    /// Reads the command line and the environment.
    ///
    /// # Errors
    /// Help, the version, or what is wrong, as clap prints it.
    pub fn read() -> Result<Self, clap::Error> {
        Self::from_arg_matches(&Self::definition().try_get_matches()?)
    }

    /// The command line's definition.
    fn definition() -> clap::Command {
        let complete = |command: clap::Command| command.mut_args(with_environment);
        complete(Self::command()).mut_subcommands(complete)
    }
}

/// Commands besides reflecting, which needs no name.
#[derive(Clone, Debug, Subcommand)]
pub enum Command {
    /// Send probes to a UDP echo service; tell what comes back, when, and from where
    Load(Box<load::LoadArgs>),
    /// Does a UDP service answer from the address it was asked at? Without TARGET: is this machine
    /// fit to reflect?
    #[command(after_help = diagnose::AFTER_HELP)]
    Diagnose(DiagnoseArgs),
    /// Show the bug and the cure side by side, in network namespaces of its own
    #[command(after_help = lab::AFTER_HELP)]
    Lab(LabArgs),
    /// Merge and compare saved runs; draw their percentiles
    #[command(after_help = report::AFTER_HELP)]
    Report(ReportArgs),
}

/// Options of the reflector.
#[derive(Args, Clone, Debug)]
#[allow(
    rustdoc::broken_intra_doc_links,
    reason = "`[::]` is an address, and backticks would show in the help"
)]
pub struct ServeArgs {
    /// Address and port to reflect on; repeatable [default: 0.0.0.0:9007 and [::]:9007]
    #[arg(
        long,
        value_name = "ADDR:PORT",
        help_heading = "Addresses",
        env = "REFLECTOR_LISTEN",
        value_parser = parse_listen,
        value_delimiter = ','
    )]
    pub listen: Vec<SocketAddr>,
    /// Serve IPv4 and IPv6 peers by one [::] socket instead of a socket for each
    #[arg(long, help_heading = "Addresses", env = "REFLECTOR_DUAL_STACK")]
    pub dual_stack: bool,
    /// Receive and send through this interface only
    #[arg(
        long,
        value_name = "IFNAME",
        help_heading = "Addresses",
        env = "REFLECTOR_DEVICE"
    )]
    pub device: Option<String>,
    /// Interface that a reply leaves by: what the routes say, or the same that its request came by
    /// (for IPv6 no more than a wish: a more specific route by another interface wins)
    #[arg(long, value_enum, value_name = "any|same", hide_possible_values = true, default_value_t = ReplyInterface::Any, help_heading = "Addresses", env = "REFLECTOR_REPLY_INTERFACE")]
    pub reply_interface: ReplyInterface,
    /// Bind addresses that this host does not have yet, such as a standby VIP
    #[arg(long, help_heading = "Addresses", env = "REFLECTOR_FREEBIND")]
    pub freebind: bool,
    /// Share the port with programs that agree to; the kernel divides the peers among them
    #[arg(long, help_heading = "Addresses", env = "REFLECTOR_SHARE_PORT")]
    pub share_port: bool,

    /// Number of workers, one per core [default: as many as CPU affinity and cgroup allow]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=1024), conflicts_with = "cpus", help_heading = "Cores and engine", env = "REFLECTOR_CORES")]
    pub cores: Option<u16>,
    /// CPUs to run on, one worker each, as in 0-3,6
    #[arg(long, value_name = "LIST", value_parser = parse_cpus, help_heading = "Cores and engine", env = "REFLECTOR_CPUS")]
    pub cpus: Option<CpuList>,
    /// How datagrams are moved: by io_uring where it is allowed (auto), by io_uring or not at all
    /// (uring), by recvmmsg and sendmmsg (mmsg)
    #[arg(long, value_enum, value_name = "auto|uring|mmsg", hide_possible_values = true, default_value_t = EngineChoice::Auto, help_heading = "Cores and engine", env = "REFLECTOR_ENGINE")]
    pub engine: EngineChoice,
    /// Which worker gets a datagram: one for each flow, or the one on the CPU that received it
    #[arg(long, value_enum, value_name = "flow|cpu", hide_possible_values = true, default_value_t = Steer::Flow, help_heading = "Cores and engine", env = "REFLECTOR_STEER")]
    pub steer: Steer,
    /// Poll instead of sleeping: shorter round trips, at the price of whole cores
    #[arg(long, help_heading = "Cores and engine", env = "REFLECTOR_SPIN")]
    pub spin: bool,

    /// Receive datagrams of one peer together, as a train (UDP_GRO)
    #[arg(long, value_enum, value_name = "on|off", hide_possible_values = true, default_value_t = Switch::On, help_heading = "Trains and buffers", env = "REFLECTOR_GRO")]
    pub gro: Switch,
    /// Send replies to one peer together, as a train (UDP_SEGMENT)
    #[arg(long, value_enum, value_name = "on|off", hide_possible_values = true, default_value_t = Switch::On, help_heading = "Trains and buffers", env = "REFLECTOR_GSO")]
    pub gso: Switch,
    /// Wait this long for more datagrams before answering, as in 20us: longer trains, later replies
    #[arg(long, value_name = "DURATION", default_value = "0s", value_parser = humantime::parse_duration, help_heading = "Trains and buffers", env = "REFLECTOR_COALESCE")]
    pub coalesce: Duration,
    /// Receive buffers per worker, rounded up to a power of two
    #[arg(long, value_name = "N", default_value_t = config::BUFFERS_DEFAULT, value_parser = clap::value_parser!(u16).range(1..=4096), help_heading = "Trains and buffers", env = "REFLECTOR_BUFFERS")]
    pub buffers: u16,
    /// Receive buffer of each socket, as in 8MiB
    #[arg(
        long,
        value_name = "SIZE",
        default_value = "8MiB",
        value_parser = parse_size,
        help_heading = "Trains and buffers",
        env = "REFLECTOR_RCVBUF"
    )]
    pub rcvbuf: ByteSize,
    /// Send buffer of each socket, as in 8MiB
    #[arg(
        long,
        value_name = "SIZE",
        default_value = "8MiB",
        value_parser = parse_size,
        help_heading = "Trains and buffers",
        env = "REFLECTOR_SNDBUF"
    )]
    pub sndbuf: ByteSize,
    /// Never fragment replies, for path MTU tests
    #[arg(long, help_heading = "Trains and buffers", env = "REFLECTOR_DF")]
    pub df: bool,

    /// Answer only peers in this prefix, or `any`; repeatable [default: private, loopback and other
    /// prefixes that are not routed on the Internet]
    #[arg(long, value_name = "CIDR", value_parser = parse_prefix, value_delimiter = ',', help_heading = "Who is answered", env = "REFLECTOR_ALLOW")]
    pub allow: Vec<Prefix>,
    /// Never answer peers in this prefix; repeatable, wins over --allow
    #[arg(long, value_name = "CIDR", value_parser = parse_prefix, value_delimiter = ',', help_heading = "Who is answered", env = "REFLECTOR_DENY")]
    pub deny: Vec<Prefix>,
    /// Source ports that get no answer, as in 7,53, or `none` [default: ports of services that
    /// answer or amplify]
    #[arg(long, value_name = "LIST", value_parser = parse_ports, help_heading = "Who is answered", env = "REFLECTOR_DENY_PORT")]
    pub deny_port: Option<PortList>,
    /// With `ttl` a reply has one hop less to go than its request had left, so that no loop is
    /// endless
    #[arg(long, value_enum, value_name = "off|ttl", hide_possible_values = true, default_value_t = LoopGuard::Off, help_heading = "Who is answered", env = "REFLECTOR_LOOP_GUARD")]
    pub loop_guard: LoopGuard,

    /// Measure how long datagrams stay, from the kernel's receive stamp to the reply, or do not
    #[arg(long, value_enum, value_name = "kernel|off", hide_possible_values = true, default_value_t = LatencySource::Kernel, help_heading = "Reports", env = "REFLECTOR_LATENCY")]
    pub latency: LatencySource,
    /// Report this often; 0 reports only at the end
    #[arg(long, value_name = "DURATION", default_value = "1s", value_parser = humantime::parse_duration, help_heading = "Reports", env = "REFLECTOR_INTERVAL")]
    pub interval: Duration,
    /// End after this long, as if by SIGTERM [default: never]
    #[arg(long, value_name = "DURATION", value_parser = humantime::parse_duration, help_heading = "Reports", env = "REFLECTOR_DURATION")]
    pub duration: Option<Duration>,
    /// Report as JSON lines instead of columns
    #[arg(long, help_heading = "Reports", env = "REFLECTOR_JSON")]
    pub json: bool,
    /// Log how long datagrams stay to this file (HdrHistogram V2 interval log, nanoseconds)
    #[arg(
        long,
        value_name = "FILE",
        help_heading = "Reports",
        env = "REFLECTOR_HDR"
    )]
    pub hdr: Option<PathBuf>,
    /// Format of the log, which goes to stderr
    #[arg(long, value_enum, value_name = "text|json", hide_possible_values = true, default_value_t = LogFormat::Text, help_heading = "Reports", env = "REFLECTOR_LOG_FORMAT")]
    pub log_format: LogFormat,
    /// Log more: the memory budget, each worker's set-up
    #[arg(short, long, help_heading = "Reports", env = "REFLECTOR_VERBOSE")]
    pub verbose: bool,
}

impl ServeArgs {
    /// The settings that the arguments ask for.
    pub fn builder(&self) -> Builder {
        let mut builder = Config::builder()
            .dual_stack(self.dual_stack)
            .same_interface(self.reply_interface == ReplyInterface::Same)
            .freebind(self.freebind)
            .share_port(self.share_port)
            .engine(self.engine.into())
            .steer_cpu(self.steer == Steer::Cpu)
            .spin(self.spin)
            .gro(self.gro == Switch::On)
            .gso(self.gso == Switch::On)
            .coalesce(self.coalesce)
            .buffers(self.buffers)
            .receive_buffer_len(self.rcvbuf.as_u64() as usize)
            .send_buffer_len(self.sndbuf.as_u64() as usize)
            .df(self.df)
            .deny(nets(&self.deny))
            .loop_guard(self.loop_guard == LoopGuard::Ttl)
            .latency(self.latency == LatencySource::Kernel)
            .interval(Some(self.interval));
        builder = self.listen.iter().copied().fold(builder, Builder::listen);
        if let Some(device) = &self.device {
            builder = builder.device(device);
        }
        if let Some(cores) = self.cores {
            builder = builder.cores(cores);
        }
        if let Some(CpuList(cpus)) = &self.cpus {
            builder = builder.cpus(cpus.clone());
        }
        if !self.allow.is_empty() {
            builder = builder.allow(nets(&self.allow));
        }
        if let Some(PortList(ports)) = &self.deny_port {
            builder = builder.deny_ports(ports.clone());
        }
        if let Some(duration) = self.duration {
            builder = builder.duration(duration);
        }
        builder
    }
}

fn nets(prefixes: &[Prefix]) -> Vec<IpNet> {
    let nets = prefixes.iter().flat_map(|prefix| match *prefix {
        Prefix::Any => vec![IpNet::V4(Ipv4Net::default()), IpNet::V6(Ipv6Net::default())],
        Prefix::Net(net) => vec![net],
    });
    nets.collect()
}

/// On or off.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Switch {
    /// On.
    On,
    /// Off.
    Off,
}

/// The engine asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum EngineChoice {
    /// io_uring where it is to be had, else recvmmsg and sendmmsg.
    Auto,
    /// io_uring or nothing.
    Uring,
    /// recvmmsg and sendmmsg.
    Mmsg,
}

impl From<EngineChoice> for config::EngineChoice {
    fn from(choice: EngineChoice) -> Self {
        match choice {
            EngineChoice::Auto => Self::Auto,
            EngineChoice::Uring => Self::Uring,
            EngineChoice::Mmsg => Self::Mmsg,
        }
    }
}

impl EngineChoice {
    /// Its name on the command line.
    pub fn name(self) -> &'static str {
        match self {
            Self::Auto => "auto",
            Self::Uring => "uring",
            Self::Mmsg => "mmsg",
        }
    }
}

/// How the kernel distributes datagrams to workers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Steer {
    /// By a hash of addresses and ports.
    Flow,
    /// To the worker on the receiving CPU.
    Cpu,
}

/// The interface that replies leave by.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum ReplyInterface {
    /// The routing table's choice.
    Any,
    /// The interface of arrival. For IPv4 that is an order; for IPv6 a message with a source
    /// address only wishes for an interface (`ip6_route_output_flags`, net/ipv6/route.c), which
    /// decides in `ip -6 rule … oif` and for link-local addresses.
    Same,
}

/// Protection against endless loops.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum LoopGuard {
    /// None beyond the guarded source ports.
    Off,
    /// By the hop limit.
    Ttl,
}

/// Where residence times begin.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum LatencySource {
    /// At the kernel's receive stamp.
    Kernel,
    /// Nowhere: they are not measured.
    Off,
}

/// Format of log lines.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum LogFormat {
    /// For people.
    Text,
    /// For machines.
    Json,
}

/// What all options share: a variable that is empty is as good as none (a compose file leaves it
/// so), flags take 1 and 0 there, and the help names the variables once for all.
fn with_environment(option: Arg) -> Arg {
    let is_flag = matches!(option.get_action(), ArgAction::SetTrue);
    let is_empty = |name| env::var_os(name).is_some_and(|value| value.is_empty());
    let has_empty = option.get_env().is_some_and(is_empty);
    let option = option.hide_env(true);
    let option = if is_flag {
        option.value_parser(BoolishValueParser::new())
    } else {
        option
    };
    if has_empty {
        option.env(None::<&str>)
    } else {
        option
    }
}

/// CPU numbers, in the order given.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CpuList(pub Vec<usize>);

/// Port numbers; none of them is `none`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PortList(pub Vec<u16>);

/// One prefix, or all addresses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Prefix {
    /// Every address of both families.
    Any,
    /// The addresses of one network.
    Net(IpNet),
}

fn parse_listen(text: &str) -> Result<SocketAddr, String> {
    let expected = "expected an IP address and a port, as in 0.0.0.0:9007, [::]:9007 or \
                    [fe80::1%eth0]:9007";
    text.parse()
        .or_else(|_| parse_scoped(text).unwrap_or_else(|| Err(expected.to_owned())))
}

/// An address whose scope is the name of an interface, which only the system can look up; `None`
/// if it is nothing of the kind.
fn parse_scoped(text: &str) -> Option<Result<SocketAddr, String>> {
    let (host, port) = text.strip_prefix('[')?.split_once("]:")?;
    let (ip, interface) = host.split_once('%')?;
    ip.parse::<Ipv6Addr>().ok()?;
    let port: u16 = port.parse().ok()?;
    let found = (host, port).to_socket_addrs().ok();
    let addr = found.and_then(|mut addrs| addrs.next());
    Some(addr.ok_or_else(|| format!("this host has no interface {interface}")))
}

fn parse_size(text: &str) -> Result<ByteSize, String> {
    text.parse()
        .map_err(|_| "expected a size, as in 64KiB or 8MiB".to_owned())
}

fn parse_cpus(text: &str) -> Result<CpuList, String> {
    let number = |text: &str| {
        text.trim()
            .parse::<usize>()
            .map_err(|_| format!("`{text}` is not a CPU number"))
    };
    let mut cpus = Vec::new();
    for part in text.split(',') {
        match part.split_once('-') {
            Some((first, last)) => {
                let (first, last) = (number(first)?, number(last)?);
                if first > last || last > 4095 {
                    return Err(format!("`{part}` is not a range of CPUs"));
                }
                cpus.extend(first..=last);
            }
            None => cpus.push(number(part)?),
        }
    }
    Ok(CpuList(cpus))
}

fn parse_prefix(text: &str) -> Result<Prefix, String> {
    if text == "any" {
        return Ok(Prefix::Any);
    }
    let net = text
        .parse::<IpNet>()
        .or_else(|_| text.parse().map(|addr: std::net::IpAddr| addr.into()));
    net.map(Prefix::Net)
        .map_err(|_| "expected a prefix such as 10.0.0.0/8, or `any`".to_owned())
}

fn parse_ports(text: &str) -> Result<PortList, String> {
    if text == "none" {
        return Ok(PortList(Vec::new()));
    }
    let port = |text: &str| {
        text.trim()
            .parse()
            .map_err(|_| format!("`{text}` is not a port"))
    };
    text.split(',')
        .map(port)
        .collect::<Result<_, _>>()
        .map(PortList)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_definition_is_consistent() {
        Cli::command().debug_assert();
    }

    fn assert_environment(command: &clap::Command, prefix: &str) {
        for option in command.get_arguments() {
            let name = option.get_id().as_str();
            if ["help", "version"].contains(&name) {
                continue;
            }
            let expected = format!("{prefix}_{}", name.to_uppercase());
            assert_eq!(
                option.get_env().and_then(|env| env.to_str()),
                Some(&*expected)
            );
        }
    }

    #[test]
    fn every_option_has_its_environment_variable() {
        assert_environment(&Cli::command(), "REFLECTOR");
        for command in Cli::command().get_subcommands() {
            let prefix = format!("REFLECTOR_{}", command.get_name().to_uppercase());
            assert_environment(command, &prefix);
        }
    }

    #[test]
    fn help_fits_a_hundred_columns() {
        let mut all = vec![Cli::definition()];
        all.extend(Cli::definition().get_subcommands().cloned());
        for command in all {
            let help = command.term_width(100).render_help().to_string();
            for line in help.lines() {
                assert!(line.chars().count() <= 100, "{line}");
            }
        }
    }

    #[test]
    fn options_of_the_reflector_and_commands_do_not_mix() {
        let parse = |line: &str| {
            let words = line.split_whitespace();
            Cli::definition().try_get_matches_from(words).is_ok()
        };
        assert!(parse("reflector --cores 2") && parse("reflector load [::1]:7 --cores 2"));
        assert!(!parse("reflector --cores 2 load [::1]:7") && !parse("reflector load"));
    }

    #[test]
    fn lists_are_read() {
        assert_eq!(parse_cpus("0-3,6"), Ok(CpuList(vec![0, 1, 2, 3, 6])));
        assert!(parse_cpus("3-1").is_err() && parse_cpus("a").is_err() && parse_cpus("").is_err());
        assert_eq!(parse_ports("none"), Ok(PortList(vec![])));
        assert_eq!(parse_ports("7,53"), Ok(PortList(vec![7, 53])));
        assert!(parse_ports("65536").is_err());
        assert_eq!(parse_prefix("any"), Ok(Prefix::Any));
        assert!(parse_prefix("10.0.0.1").is_ok() && parse_prefix("10.0.0.0/33").is_err());
    }
}
