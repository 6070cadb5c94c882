//! The options of `reflector load`, as typed.

use std::net::IpAddr;
use std::path::PathBuf;
use std::time::Duration;

use clap::Args;
use reflector_load::options::{Options, Rate, Sizes};
use reflector_measure::percent::Percent;

use crate::serve::Switch;

const AFTER_HELP: &str = "Every option is an environment variable as well: --max-loss is \
REFLECTOR_LOAD_MAX_LOSS.\nExit codes: 0 done, 1 could not be set up or failed, 2 usage, 3 the target \
never answered, 4 answers\ncame from a wrong source, 5 a threshold was missed.";

/// Sends probes to a UDP echo service and tells what comes back, when, and from where
#[derive(Args, Clone, Debug)]
#[command(after_help = AFTER_HELP, disable_help_flag = true)]
#[allow(
    rustdoc::broken_intra_doc_links,
    reason = "`[2001:db8::7]` is an address, and backticks would show in the help"
)]
pub struct LoadArgs {
    /// Who is asked, as in 192.0.2.7:9007, [2001:db8::7]:9007 or host.example:9007
    #[arg(value_name = "TARGET", env = "REFLECTOR_LOAD_TARGET")]
    pub target: String,

    /// Datagrams per second in all, as in 1.5M, or `max` [default: 10k; max with --window]
    #[arg(
        long,
        value_name = "PPS",
        help_heading = "Load",
        env = "REFLECTOR_LOAD_RATE"
    )]
    pub rate: Option<Rate>,
    /// Closed loop: at most so many unanswered datagrams per flow
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..), help_heading = "Load", env = "REFLECTOR_LOAD_WINDOW")]
    pub window: Option<u32>,
    /// Send for so long [default: 10s, without --count]
    #[arg(long, value_name = "DURATION", value_parser = humantime::parse_duration, help_heading = "Load", env = "REFLECTOR_LOAD_DURATION")]
    pub duration: Option<Duration>,
    /// Send so many datagrams
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..), help_heading = "Load", env = "REFLECTOR_LOAD_COUNT")]
    pub count: Option<u64>,
    /// Bytes of payload, or a mix with weights, as in 64:7,512:4,1400:1
    #[arg(
        long,
        value_name = "BYTES",
        default_value = "64",
        help_heading = "Load",
        env = "REFLECTOR_LOAD_SIZE"
    )]
    pub size: Sizes,
    /// Source ports that send in turn
    #[arg(long, value_name = "N", default_value_t = 16, value_parser = clap::value_parser!(u16).range(1..=60_000), help_heading = "Load", env = "REFLECTOR_LOAD_FLOWS")]
    pub flows: u16,
    /// Datagrams that are due at the same time and travel together
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=1_000_000), help_heading = "Load", env = "REFLECTOR_LOAD_BURST")]
    pub burst: u32,
    /// Random times between bursts, as of many independent peers, instead of even ones
    #[arg(long, help_heading = "Load", env = "REFLECTOR_LOAD_POISSON")]
    pub poisson: bool,
    /// Seed of the random times and sizes, to repeat a run [default: random, and reported]
    #[arg(
        long,
        value_name = "N",
        help_heading = "Load",
        env = "REFLECTOR_LOAD_SEED"
    )]
    pub seed: Option<u64>,
    /// Send, but do not count, for so long first
    #[arg(long, value_name = "DURATION", default_value = "0s", value_parser = humantime::parse_duration, help_heading = "Load", env = "REFLECTOR_LOAD_WARMUP")]
    pub warmup: Duration,

    /// Threads that send and receive, each on a core of its own
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..=1024), help_heading = "Machine", env = "REFLECTOR_LOAD_CORES")]
    pub cores: u16,
    /// Send bursts in trains (UDP_SEGMENT)
    #[arg(long, value_enum, default_value_t = Switch::On, help_heading = "Machine", env = "REFLECTOR_LOAD_GSO")]
    pub gso: Switch,
    /// Address to send from [default: the routing table's choice]
    #[arg(
        long,
        value_name = "ADDR",
        help_heading = "Machine",
        env = "REFLECTOR_LOAD_BIND"
    )]
    pub bind: Option<IpAddr>,

    /// What is not answered within this is lost
    #[arg(long, value_name = "DURATION", default_value = "1s", value_parser = humantime::parse_duration, help_heading = "Verdict", env = "REFLECTOR_LOAD_TIMEOUT")]
    pub timeout: Duration,
    /// Fail with 5 if more than this is lost, as in 0.1%
    #[arg(
        long,
        value_name = "PERCENT",
        help_heading = "Verdict",
        env = "REFLECTOR_LOAD_MAX_LOSS"
    )]
    pub max_loss: Option<Percent>,
    /// Fail with 5 if the 99th percentile from the scheduled time is longer
    #[arg(long, value_name = "DURATION", value_parser = humantime::parse_duration, help_heading = "Verdict", env = "REFLECTOR_LOAD_MAX_P99")]
    pub max_p99: Option<Duration>,
    /// Search the highest rate, up to --rate, at which no more than this is lost and --max-p99 holds
    #[arg(long, value_name = "PERCENT", conflicts_with_all = ["window", "count", "hdr", "max_loss"], help_heading = "Verdict", env = "REFLECTOR_LOAD_FIND_RATE")]
    pub find_rate: Option<Percent>,

    /// Report so often; 0s reports only at the end
    #[arg(long, value_name = "DURATION", default_value = "1s", value_parser = humantime::parse_duration, help_heading = "Reports", env = "REFLECTOR_LOAD_INTERVAL")]
    pub interval: Duration,
    /// Report as JSON lines on stdout
    #[arg(long, help_heading = "Reports", env = "REFLECTOR_LOAD_JSON")]
    pub json: bool,
    /// Write round-trip times as an HdrHistogram V2 interval log
    #[arg(
        long,
        value_name = "FILE",
        help_heading = "Reports",
        env = "REFLECTOR_LOAD_HDR"
    )]
    pub hdr: Option<PathBuf>,

    // One help, the short one, under both names.
    #[arg(short, long, action = clap::ArgAction::HelpShort, help = "Print this help", help_heading = "Reports")]
    help: Option<bool>,
}

impl LoadArgs {
    /// What the arguments come to.
    pub fn options(&self) -> Options {
        Options {
            target: self.target.clone(),
            rate: self.rate,
            window: self.window,
            duration: self.duration,
            count: self.count,
            size: self.size.clone(),
            flows: self.flows,
            burst: self.burst,
            poisson: self.poisson,
            seed: self.seed,
            warmup: self.warmup,
            cores: self.cores,
            gso: self.gso == Switch::On,
            bind: self.bind,
            timeout: self.timeout,
            max_loss: self.max_loss,
            max_p99: self.max_p99,
            find_rate: self.find_rate,
            interval: self.interval,
            json: self.json,
            hdr: self.hdr.clone(),
        }
    }
}
