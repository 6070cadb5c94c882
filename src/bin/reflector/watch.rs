//! `reflector watch`: its options, as typed, and what they come to.

use std::net::SocketAddr;
use std::ops::RangeInclusive;
use std::time::Duration;

use clap::Args;
use reflector::DEFAULT_DENY_PORTS;
use reflector_load::options::Source;
use reflector_load::{Observe, WatchOptions, Watched};
use reflector_measure::duration;
use reflector_measure::error::Error;
use reflector_measure::exit::Exit;
use reflector_measure::target::Target;

use crate::figures;
use crate::help::Ending;
use crate::metrics::{self, Shared};
use crate::netns::Netns;
use crate::values::{OnlyFamily, number, port, time};

/// What the help ends with.
const ENDING: Ending = Ending {
    examples: &[
        (
            "Watch until Ctrl-C, while something restarts",
            "reflector watch 192.0.2.1:9007",
        ),
        (
            "Fail in CI if an upgrade takes more than 50 ms",
            "reflector watch 192.0.2.1 -d 60 --max-gap 50ms",
        ),
        (
            "For days, with figures for Prometheus",
            "reflector watch 192.0.2.1 -i 0 --metrics 9190",
        ),
        (
            "Tolerate three lost datagrams; JSON lines, one for each gap",
            "reflector watch 192.0.2.1 -n 6k --max-lost 3 --json",
        ),
    ],
    sections: &[
        (
            "Values",
            &[
                "TIME is a number of seconds, or has a unit: 0.5, 20ms, 1m30s.",
                "N may be 20k or 1.5M.",
            ],
        ),
        (
            "Environment",
            &[
                "A variable sets an option: REFLECTOR_WATCH_MAX_GAP sets --max-gap.",
                "1 sets a flag. The command line wins.",
            ],
        ),
        (
            "Exit status",
            &[
                "0  done",
                "1  set-up failed",
                "2  wrong usage",
                "3  the target never answered",
                "4  answers came from a wrong address",
                "5  a gap was too long, or too much was unanswered",
            ],
        ),
    ],
};

/// The limits of the time between datagrams.
const EVERY: RangeInclusive<Duration> = Duration::from_millis(1)..=Duration::from_secs(10);
/// The limits of the time to wait for an answer; what is unanswered takes memory meanwhile.
const TIMEOUT: RangeInclusive<Duration> = Duration::from_millis(1)..=Duration::from_secs(60);

/// Watch a UDP echo service while something restarts: gaps, losses, changes
///
/// One datagram after another is sent from one port. A gap is a time without right answers, from
/// when the first datagram was sent that had none to when the first one was sent that had one
/// again. Where the service is a reflector with --echo-info, it tells where datagrams were lost,
/// and what changed on the way. Memory does not grow with time.
#[derive(Args, Clone, Debug)]
#[command(after_help = ENDING.short(), after_long_help = ENDING.long())]
pub struct WatchArgs {
    /// Echo service to watch: HOST:PORT, or HOST for port 9007
    ///
    /// HOST is a name, an IPv4 address, or an IPv6 address such as fe80::1%eth0, which stands in
    /// brackets before a port. Of a name with several addresses the first one that answers is
    /// watched.
    #[arg(value_name = "TARGET")]
    target: Target,
    #[command(flatten)]
    over: OnlyFamily,
    #[command(flatten)]
    netns: Netns,
    /// Send a datagram this often, each 1ms to 10s
    #[arg(long, value_name = "TIME", default_value = "10ms", value_parser = time(EVERY))]
    every: Duration,
    /// Watch for this long [default: until stopped]
    #[arg(short, long, value_name = "TIME", value_parser = duration::parse)]
    duration: Option<Duration>,
    /// Send this many datagrams [default: until stopped]
    #[arg(short = 'n', long, value_name = "N", value_parser = number::<u64>(1..))]
    count: Option<u64>,
    /// Count a datagram as unanswered if no answer comes within this time
    #[arg(short, long, value_name = "TIME", default_value = "1s", value_parser = time(TIMEOUT))]
    timeout: Duration,
    /// Address to send from [default: chosen by the routing table]
    #[arg(long, value_name = "ADDR")]
    bind: Option<Source>,
    /// Port to send from [default: chosen by the kernel]
    #[arg(long, value_name = "PORT", value_parser = port)]
    source_port: Option<u16>,
    /// Exit with 5 if a gap is longer; shorter ones are not told when they end
    #[arg(long, value_name = "TIME", value_parser = duration::parse)]
    max_gap: Option<Duration>,
    /// Exit with 5 if more datagrams than this have no answer
    #[arg(long, value_name = "N", value_parser = number::<u64>(..))]
    max_lost: Option<u64>,
    /// Report this often; 0 only at the end [default: a line that changes, at a terminal]
    #[arg(short, long, value_name = "TIME", value_parser = duration::parse)]
    interval: Option<Duration>,
    /// Answer with metrics for Prometheus at ADDR:PORT, over HTTP
    ///
    /// PORT alone is a port of 127.0.0.1. /metrics has what was counted until the end of the last
    /// interval, or second.
    #[arg(long, value_name = "ADDR:PORT", value_parser = metrics::address)]
    metrics: Option<SocketAddr>,
    /// Report as JSON lines: one for each gap and change, and a summary
    #[arg(short, long)]
    json: bool,
}

/// Watches the target.
pub fn run(args: &WatchArgs) -> Result<Exit, Error> {
    let options = WatchOptions {
        target: args.target.clone().over(args.over.family()),
        every: args.every,
        duration: args.duration,
        count: args.count,
        timeout: args.timeout,
        bind: args.bind.clone(),
        source_port: args.source_port,
        avoided_ports: DEFAULT_DENY_PORTS.to_vec(),
        max_gap: args.max_gap,
        max_lost: args.max_lost,
        interval: args.interval.filter(|it| !it.is_zero()),
        json: args.json,
    };
    let target = args.target.to_string();
    args.netns.within(|| {
        let page = Shared::default();
        if let Some(addr) = args.metrics {
            page.serve(metrics::listen(addr)?)?;
        }
        let mut observe = |watched: &Watched| page.set(figures::watch(&target, watched));
        // Nobody asks for what nobody can see.
        let is_seen = args.metrics.is_some();
        reflector_load::watch(&options, is_seen.then_some(&mut observe as Observe<'_>))
    })
}
