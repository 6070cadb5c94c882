//! `reflector load`: its options, as typed, and what they come to.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use clap::Args;
use reflector::DEFAULT_DENY_PORTS;
use reflector_load::options::{Options, Rate, Sizes, Source};
use reflector_measure::duration;
use reflector_measure::error::Error;
use reflector_measure::exit::Exit;
use reflector_measure::percent::Percent;
use reflector_measure::target::Target;

use crate::figures;
use crate::help::Ending;
use crate::metrics::{self, Shared};
use crate::netns::Netns;
use crate::values::{OnlyFamily, Switch, number, time};

/// What the help ends with.
const ENDING: Ending = Ending {
    examples: &[
        (
            "Send 10000 probes a second for 10 seconds",
            "reflector load 192.0.2.7:9007",
        ),
        (
            "Send as many as possible in trains of 64, from two cores",
            "reflector load 192.0.2.7:9007 -r max --burst 64 -c 2",
        ),
        (
            "Find the highest rate that loses at most 0.1 % with a p99 of 2 ms",
            "reflector load 192.0.2.7 --find-rate 0.1 --max-p99 2ms",
        ),
        (
            "Send for a day, and let Prometheus see how it goes",
            "reflector load 192.0.2.7:9007 -d 24h --metrics 9189",
        ),
        (
            "Fail in CI if more than 0.01 % of 100000 probes are lost",
            "reflector load 192.0.2.7:9007 -n 100k --max-loss 0.01",
        ),
    ],
    sections: &[
        (
            "Values",
            &[
                "TIME is a number of seconds, or has a unit: 0.5, 200us, 1m30s.",
                "N and PPS may be 20k or 1.5M, BYTES 1k (1000) or 1KiB (1024).",
            ],
        ),
        (
            "Environment",
            &[
                "A variable sets an option: REFLECTOR_LOAD_MAX_LOSS sets --max-loss.",
                "1 sets a flag. The command line wins.",
            ],
        ),
        (
            "Exit status",
            &[
                "0  done",
                "1  set-up failed, or nothing could be sent",
                "2  wrong usage",
                "3  the target never answered",
                "4  answers came from a wrong address",
                "5  a limit was exceeded, or no rate was confirmed",
            ],
        ),
    ],
};

/// The limits of the time to wait for an answer; what is unanswered takes memory meanwhile.
const TIMEOUT_MIN: Duration = Duration::from_micros(1);
const TIMEOUT_MAX: Duration = Duration::from_secs(60);

/// Load a UDP echo service; measure loss, latency and reply sources
#[derive(Args, Clone, Debug)]
#[command(after_help = ENDING.short(), after_long_help = ENDING.long())]
pub struct LoadArgs {
    /// Echo service to load: HOST:PORT, or HOST for port 9007
    ///
    /// HOST is a name, an IPv4 address, or an IPv6 address, which stands in brackets before a port,
    /// as in [2001:db8::7]:9007. Of a name with several addresses the first one that answers is
    /// asked.
    #[arg(value_name = "TARGET")]
    target: Target,
    #[command(flatten)]
    over: OnlyFamily,
    #[command(flatten)]
    netns: Netns,

    #[command(flatten, next_help_heading = "Traffic")]
    traffic: Traffic,
    #[command(flatten, next_help_heading = "Sender")]
    sender: Sender,
    #[command(flatten, next_help_heading = "Limits")]
    limits: Limits,
    #[command(flatten, next_help_heading = "Reports")]
    reports: Reports,
}

// A doc comment on one of these structs would become the command's description.

#[derive(Args, Clone, Debug)]
struct Traffic {
    /// Datagrams per second, as in 1.5M, or 'max' [default: 10k; max with --window or --find-rate]
    ///
    /// In total, whatever the numbers of flows and cores.
    #[arg(short, long, value_name = "PPS")]
    rate: Option<Rate>,
    /// Send for this long [default: 10s; no limit with --count; 2s for each step of --find-rate]
    #[arg(short, long, value_name = "TIME", value_parser = duration::parse)]
    duration: Option<Duration>,
    /// Send this many datagrams, as in 100k
    #[arg(short = 'n', long, value_name = "N", value_parser = number::<u64>(1..))]
    count: Option<u64>,
    /// Payload bytes, 40 or more, or a mix with weights, such as 64:7,512:4,1400:1
    ///
    /// A probe begins with a header of 40 bytes. 1k is 1000 bytes.
    #[arg(short, long, value_name = "BYTES", default_value = "64")]
    size: Sizes,
    /// Keep at most N datagrams unanswered per flow
    ///
    /// A closed loop: the target's answers set the pace. It hides the target's stalls, which a
    /// rate without a window does not.
    #[arg(short, long, value_name = "N", value_parser = number::<u32>(1..))]
    window: Option<u32>,
    /// Send one datagram at a time, the next when it is answered or lost; --window 1 --flows 1
    ///
    /// As ping-pong in sockperf and latency tests of other tools. The trip there and back, at the
    /// pace of the answers.
    #[arg(long, conflicts_with_all = ["window", "flows", "burst", "find_rate"])]
    ping_pong: bool,
    /// Number of flows (source ports), used in turn
    #[arg(long, value_name = "N", default_value_t = 16, value_parser = number::<u16>(1..=60_000))]
    flows: u16,
    /// Number of datagrams sent at once, as a train
    ///
    /// A train is a row of datagrams of one flow that the kernel takes in one piece and cuts into
    /// datagrams as late as possible, which costs less than one by one. --gso off sends the same
    /// datagrams at the same time, one by one.
    ///
    /// On its way a train is one packet to most counters (nft, iptables, interfaces, tcpdump) and
    /// to limits of packets, which let N times as much pass, until a device or a queue cuts it.
    /// What this command counts is datagrams, always.
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = number::<u32>(1..=1_000_000))]
    burst: u32,
    /// Send at random times, as many independent peers would
    ///
    /// The times between bursts are exponentially distributed. Their mean follows from --rate,
    /// which cannot be 'max'.
    #[arg(long)]
    poisson: bool,
    /// Seed of random times and sizes, to repeat a run [default: random, and reported]
    #[arg(long, value_name = "N", value_parser = number::<u64>(..))]
    seed: Option<u64>,
    /// Send for this long before counting
    #[arg(long, value_name = "TIME", default_value = "0s", value_parser = duration::parse)]
    warmup: Duration,
}

#[derive(Args, Clone, Debug)]
struct Sender {
    /// Number of threads that send and receive, each on a core of its own
    ///
    /// There are no more than --flows.
    #[arg(short, long, value_name = "N", default_value_t = 1)]
    #[arg(value_parser = number::<u16>(1..=1024))]
    cores: u16,
    /// Send bursts as trains (UDP_SEGMENT)
    #[arg(long, value_enum, value_name = "on|off", hide_possible_values = true)]
    #[arg(default_value_t = Switch::On)]
    gso: Switch,
    /// Address to send from [default: chosen by the routing table]
    ///
    /// A link-local one may name its interface, as fe80::2%eth0 does; otherwise it is on that of
    /// the target.
    #[arg(long, value_name = "ADDR")]
    bind: Option<Source>,
}

#[derive(Args, Clone, Debug)]
struct Limits {
    /// Count a datagram as lost if no answer comes within this time
    #[arg(short, long, value_name = "TIME", default_value = "1s")]
    #[arg(value_parser = time(TIMEOUT_MIN..=TIMEOUT_MAX))]
    timeout: Duration,
    /// Exit with 5 if more than this is lost, such as 0.1
    ///
    /// So it does where this host refuses to send more than this: nothing is known of that.
    #[arg(long, value_name = "PERCENT")]
    max_loss: Option<Percent>,
    /// Exit with 5 if the 99th percentile of the latency is longer
    ///
    /// The latency counts from the time that a datagram was scheduled for, and what is lost took
    /// at least the timeout.
    #[arg(long, value_name = "TIME", value_parser = duration::parse)]
    max_p99: Option<Duration>,
    /// Find the highest rate, up to --rate, that loses at most this and keeps to --max-p99
    ///
    /// Not together with --window, --count, --hdr or --max-loss.
    #[arg(long, value_name = "PERCENT")]
    #[arg(conflicts_with_all = ["window", "count", "hdr", "max_loss"])]
    find_rate: Option<Percent>,
}

#[derive(Args, Clone, Debug)]
struct Reports {
    /// Report this often, also to a pipe; 0 only at the end [default: progress on stderr]
    ///
    /// JSON lines have an interval each second by default. People see progress on stderr without
    /// this option: a line that changes with each second at a terminal, a line every ten seconds
    /// elsewhere. A search reports its steps instead.
    #[arg(short, long, value_name = "TIME", value_parser = duration::parse)]
    interval: Option<Duration>,
    /// Report as JSON lines instead of columns
    #[arg(short, long)]
    json: bool,
    /// Write round-trip times to FILE, as an HdrHistogram log
    ///
    /// A V2 interval log, in nanoseconds, for 'reflector report' and other tools. An earlier one
    /// is replaced. FILE has one writer at a time.
    #[arg(long, value_name = "FILE")]
    hdr: Option<PathBuf>,
    /// Answer with metrics for Prometheus at ADDR:PORT, over HTTP
    ///
    /// PORT alone is a port of 127.0.0.1. /metrics has what was counted until the end of the last
    /// interval, or second without --interval; it is gone with the end of the run.
    #[arg(long, value_name = "ADDR:PORT", value_parser = metrics::address)]
    metrics: Option<SocketAddr>,
}

impl LoadArgs {
    fn options(&self) -> Options {
        let (traffic, sender) = (&self.traffic, &self.sender);
        let (limits, reports) = (&self.limits, &self.reports);
        let (window, flows) = match traffic.ping_pong {
            true => (Some(1), 1),
            false => (traffic.window, traffic.flows),
        };
        Options {
            target: self.target.clone().over(self.over.family()),
            rate: traffic.rate,
            window,
            duration: traffic.duration,
            count: traffic.count,
            size: traffic.size.clone(),
            flows,
            burst: traffic.burst,
            poisson: traffic.poisson,
            seed: traffic.seed,
            warmup: traffic.warmup,
            cores: sender.cores,
            gso: sender.gso.is_on(),
            bind: sender.bind.clone(),
            avoided_ports: DEFAULT_DENY_PORTS.to_vec(),
            timeout: limits.timeout,
            max_loss: limits.max_loss,
            max_p99: limits.max_p99,
            find_rate: limits.find_rate,
            interval: reports.interval,
            json: reports.json,
            hdr: reports.hdr.clone(),
        }
    }
}

/// Loads the target.
pub fn run(args: &LoadArgs) -> Result<Exit, Error> {
    args.netns.within(|| load(args))
}

/// Loads it by sockets of this thread's network namespace, where the metrics are as well.
fn load(args: &LoadArgs) -> Result<Exit, Error> {
    let page = Shared::default();
    if let Some(addr) = args.reports.metrics {
        page.serve(metrics::listen(addr)?)?;
    }
    let target = args.target.to_string();
    reflector_load::run(&args.options(), &mut |counted| {
        // Nobody asks for what nobody can see.
        if args.reports.metrics.is_some() {
            page.set(figures::load(&target, counted));
        }
    })
}
