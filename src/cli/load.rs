//! The options of `reflector load`, as typed.

use std::net::IpAddr;
use std::path::PathBuf;
use std::time::Duration;

use clap::Args;

use super::Switch;

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
    #[arg(long, value_name = "PPS", value_parser = parse_rate, help_heading = "Load", env = "REFLECTOR_LOAD_RATE")]
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
    #[arg(long, value_name = "BYTES", default_value = "64", value_parser = parse_sizes, help_heading = "Load", env = "REFLECTOR_LOAD_SIZE")]
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
    #[arg(long, value_name = "PERCENT", value_parser = parse_percent, help_heading = "Verdict", env = "REFLECTOR_LOAD_MAX_LOSS")]
    pub max_loss: Option<Percent>,
    /// Fail with 5 if the 99th percentile from the scheduled time is longer
    #[arg(long, value_name = "DURATION", value_parser = humantime::parse_duration, help_heading = "Verdict", env = "REFLECTOR_LOAD_MAX_P99")]
    pub max_p99: Option<Duration>,
    /// Search the highest rate, up to --rate, at which no more than this is lost and --max-p99 holds
    #[arg(long, value_name = "PERCENT", value_parser = parse_percent, conflicts_with_all = ["window", "count", "hdr", "max_loss"], help_heading = "Verdict", env = "REFLECTOR_LOAD_FIND_RATE")]
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

/// How many datagrams per second.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Rate {
    /// As many as can be sent.
    Max,
    /// So many, more than none.
    Pps(f64),
}

/// Payload lengths in bytes, each with its weight.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sizes(pub Vec<(u16, u32)>);

/// Hundredths, from 0 to 100.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Percent(pub f64);

fn parse_rate(text: &str) -> Result<Rate, String> {
    if text == "max" {
        return Ok(Rate::Max);
    }
    let scale = |suffix: char| match suffix {
        'k' | 'K' => Some(1e3),
        'M' => Some(1e6),
        'G' => Some(1e9),
        _ => None,
    };
    let (digits, factor) = match text.chars().last().and_then(scale) {
        Some(factor) => (&text[..text.len() - 1], factor),
        None => (text, 1.0),
    };
    let pps = digits.trim().parse::<f64>().ok().map(|it| it * factor);
    match pps {
        Some(pps) if pps.is_finite() && pps > 0.0 && pps <= 1e9 => Ok(Rate::Pps(pps)),
        Some(0.0) => Err("at a rate of 0 nothing is sent".to_owned()),
        _ => Err("expected datagrams per second such as 500, 20k or 1.5M, or `max`".to_owned()),
    }
}

fn parse_sizes(text: &str) -> Result<Sizes, String> {
    let one = |part: &str| {
        let (size, weight) = part.split_once(':').unwrap_or((part, "1"));
        let size = size.trim().parse::<u32>().ok();
        let size = match size.map(u16::try_from) {
            Some(Err(_)) => return Err("no UDP payload is longer than 65527 bytes".to_owned()),
            size => size.and_then(Result::ok),
        };
        let weight = weight.trim().parse().ok().filter(|&it| it > 0);
        size.zip(weight)
            .ok_or_else(|| format!("`{part}` is not a size in bytes, or SIZE:WEIGHT"))
    };
    let sizes: Vec<_> = text.split(',').map(one).collect::<Result<_, _>>()?;
    if sizes.len() > SIZES_MAX {
        return Err(format!("a mix has at most {SIZES_MAX} sizes"));
    }
    Ok(Sizes(sizes))
}

/// Sizes that a mix may have: each keeps buffers of its own.
const SIZES_MAX: usize = 16;

fn parse_percent(text: &str) -> Result<Percent, String> {
    let digits = text.strip_suffix('%').unwrap_or(text).trim();
    match digits.parse::<f64>() {
        Ok(percent) if (0.0..=100.0).contains(&percent) => Ok(Percent(percent)),
        _ => Err("expected a percentage from 0 to 100, such as 0.1%".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rates_are_read() {
        for (text, pps) in [("500", 500.0), ("20k", 2e4), ("1.5M", 1.5e6), ("0.1", 0.1)] {
            assert_eq!(parse_rate(text), Ok(Rate::Pps(pps)), "{text}");
        }
        assert_eq!(parse_rate("max"), Ok(Rate::Max));
        for text in ["0", "-1", "k", "", "nan", "inf", "1e12", "5µ", "fast"] {
            assert!(parse_rate(text).is_err(), "{text}");
        }
    }

    #[test]
    fn sizes_are_read() {
        assert_eq!(parse_sizes("64"), Ok(Sizes(vec![(64, 1)])));
        let mix = Sizes(vec![(64, 7), (512, 4), (1400, 1)]);
        assert_eq!(parse_sizes("64:7,512:4,1400:1"), Ok(mix));
        for text in ["", "64:0", "64:", "70000", "-1", "64;7"] {
            assert!(parse_sizes(text).is_err(), "{text}");
        }
    }

    #[test]
    fn percentages_are_read() {
        assert_eq!(parse_percent("0.1%"), Ok(Percent(0.1)));
        assert_eq!(parse_percent("100"), Ok(Percent(100.0)));
        for text in ["", "%", "101", "-0.1", "nan"] {
            assert!(parse_percent(text).is_err(), "{text}");
        }
    }
}
