//! A measurement, checked against this machine.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use core_affinity::CoreId;

use crate::addresses::{self, Resolved};
use crate::options::{Options, Rate};
use crate::wire::HEADER_LEN;
use reflector_measure::error::Error;
use reflector_udp::{PAYLOAD_V4_MAX, PAYLOAD_V6_MAX};

/// Datagrams per second where neither a rate nor a window is asked for.
const RATE_DEFAULT: Rate = Rate::Pps(10_000.0);
/// How long to send where neither a time nor a count is asked for.
const DURATION_DEFAULT: Duration = Duration::from_secs(10);
/// Time between reports where none is asked for.
const INTERVAL_DEFAULT: Duration = Duration::from_secs(1);
/// How long each step of a search for the rate is.
const SEARCH_STEP_DEFAULT: Duration = Duration::from_secs(2);
/// Timeouts beyond this would need more memory than measuring is worth.
const TIMEOUT_MAX: Duration = Duration::from_secs(60);

/// What is sent, and for how long.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Offer {
    /// Datagrams per second in all.
    pub(crate) rate: Rate,
    /// How long to send, after the warm-up.
    pub(crate) duration: Option<Duration>,
    /// How many datagrams to send, after the warm-up.
    pub(crate) count: Option<u64>,
}

impl Offer {
    /// Datagrams per second that are asked for; `None` is as many as can be sent.
    pub(crate) fn pps(&self) -> Option<f64> {
        match self.rate {
            Rate::Max => None,
            Rate::Pps(pps) => Some(pps),
        }
    }
}

/// Everything that a measurement starts from.
#[derive(Clone, Debug)]
pub(crate) struct Plan {
    /// The target.
    pub(crate) target: SocketAddr,
    /// The same, as typed.
    pub(crate) target_name: String,
    /// Address to send from; unspecified leaves it to the routing table.
    pub(crate) bind: SocketAddr,
    /// Addresses of the target's name that were asked as well, and did not answer either.
    pub(crate) silent: Vec<SocketAddr>,
    /// Source ports.
    pub(crate) flows: usize,
    /// One entry per worker: the CPU that it is pinned to, if to any.
    pub(crate) cores: Vec<Option<CoreId>>,
    /// What is sent.
    pub(crate) offer: Offer,
    /// Unanswered datagrams per flow at most.
    pub(crate) window: Option<u32>,
    /// Datagrams that are due together.
    pub(crate) burst: u32,
    /// Whether the times between bursts are random.
    pub(crate) poisson: bool,
    /// Seed of everything random.
    pub(crate) seed: u64,
    /// Payload lengths in bytes, with their weights.
    pub(crate) sizes: Vec<(u16, u32)>,
    /// What is sent before this does not count.
    pub(crate) warmup: Duration,
    /// Whether bursts travel in trains.
    pub(crate) gso: bool,
    /// What is not answered within this is lost.
    pub(crate) timeout: Duration,
    /// How often to report; `None` only at the end.
    pub(crate) interval: Option<Duration>,
    /// Whether that was asked for: people get a line for each then.
    pub(crate) is_interval_asked: bool,
    /// Reports as JSON lines.
    pub(crate) json: bool,
    /// Source ports that servers may refuse.
    pub(crate) avoided_ports: Vec<u16>,
    /// Where round trips are logged.
    pub(crate) hdr: Option<PathBuf>,
    /// Loss in percent that is too much.
    pub(crate) max_loss: Option<f64>,
    /// 99th percentile from the scheduled time that is too long.
    pub(crate) max_p99: Option<Duration>,
    /// Loss in percent at which the highest rate is searched.
    pub(crate) find_rate: Option<f64>,
    /// Which run asks at the end of its probes how they are seen, if it does.
    pub(crate) asking_run: Option<u64>,
    /// What is done otherwise than asked, a sentence each.
    pub(crate) warnings: Vec<String>,
}

impl Plan {
    /// Makes sense of `options` on this machine, and resolves the target's name.
    ///
    /// # Errors
    /// Options that contradict each other, a name that does not resolve, `ENETUNREACH`,
    /// `EHOSTUNREACH` or `EACCES` for a target that cannot be sent to, `EADDRNOTAVAIL` for an
    /// address to send from that is none of this host's.
    pub(crate) fn new(options: &Options) -> Result<Self, Error> {
        let source = options.bind.as_ref();
        let Resolved { target, silent } = addresses::resolve(&options.target, source)?;
        let sizes = options.size.0.clone();
        check_sizes(&sizes, target)?;
        check_times(options)?;
        let flows = usize::from(options.flows);
        let allowed = core_affinity::get_core_ids().unwrap_or_default();
        let count = usize::from(options.cores).min(flows);
        let warnings = warnings(usize::from(options.cores), count, allowed.len());
        let cores = cores(count, &allowed);
        let rate = match (options.rate, options.window) {
            (Some(rate), _) => rate,
            (None, Some(_)) => Rate::Max,
            (None, None) if options.find_rate.is_some() => Rate::Max,
            (None, None) => RATE_DEFAULT,
        };
        let duration = match (options.duration, options.count) {
            (Some(duration), _) => Some(duration),
            (None, Some(_)) => None,
            (None, None) if options.find_rate.is_some() => Some(SEARCH_STEP_DEFAULT),
            (None, None) => Some(DURATION_DEFAULT),
        };
        if options.poisson && rate == Rate::Max {
            return Err(Error::usage(
                "cannot send at random times",
                "--poisson needs a --rate other than max",
            ));
        }
        let interval = options.interval.unwrap_or(INTERVAL_DEFAULT);
        Ok(Self {
            target,
            target_name: options.target.to_string(),
            bind: addresses::source(source, target)?,
            silent,
            flows,
            cores,
            offer: Offer {
                rate,
                duration,
                count: options.count,
            },
            window: options.window,
            burst: options.burst,
            poisson: options.poisson,
            seed: options.seed.unwrap_or_else(|| u64::from(fastrand::u32(..))),
            sizes,
            warmup: options.warmup,
            gso: options.gso,
            timeout: options.timeout,
            interval: Some(interval).filter(|it| !it.is_zero()),
            is_interval_asked: options.interval.is_some(),
            json: options.json,
            hdr: options.hdr.clone(),
            avoided_ports: options.avoided_ports.clone(),
            max_loss: options.max_loss.map(|it| it.0),
            max_p99: options.max_p99,
            find_rate: options.find_rate.map(|it| it.0),
            asking_run: None,
            warnings,
        })
    }

    /// Whether each interval is reported: a search reports its steps instead, and people who have
    /// not asked for an interval see progress.
    pub(crate) fn reports_intervals(&self) -> bool {
        let is_wanted = self.json || self.is_interval_asked;
        is_wanted && self.interval.is_some() && self.find_rate.is_none()
    }

    /// What is not answered within this is lost, in nanoseconds.
    pub(crate) fn timeout_ns(&self) -> u64 {
        self.timeout.as_nanos() as u64
    }
}

/// The CPUs of the workers, from the last one down: a reflector on the same machine takes the
/// first.
fn cores(count: usize, allowed: &[CoreId]) -> Vec<Option<CoreId>> {
    let at = |worker: usize| {
        let from_end = worker % allowed.len().max(1);
        allowed.iter().rev().nth(from_end).copied()
    };
    (0..count).map(at).collect()
}

/// What becomes of `asked` threads where there are `count`, for want of flows, and `allowed` CPUs,
/// 0 where that is unknown.
fn warnings(asked: usize, count: usize, allowed: usize) -> Vec<String> {
    let flows = (count < asked).then(|| {
        format!("--cores {asked} is {count} here: each thread needs a flow, and --flows is {count}")
    });
    let cpus = (allowed > 0 && count > allowed).then(|| {
        format!(
            "{count} threads share {allowed} CPUs: those that wait for one send late; --cores \
             {allowed} gives each its own"
        )
    });
    flows.into_iter().chain(cpus).collect()
}

fn check_sizes(sizes: &[(u16, u32)], target: SocketAddr) -> Result<(), Error> {
    let len_max = match target {
        SocketAddr::V4(_) => PAYLOAD_V4_MAX,
        SocketAddr::V6(_) => PAYLOAD_V6_MAX,
    };
    for &(size, _) in sizes {
        let attempted = format!("cannot send datagrams of {size} bytes");
        if usize::from(size) < HEADER_LEN {
            return Err(Error::usage(
                attempted,
                format!("a probe has a header of {HEADER_LEN} bytes"),
            ));
        }
        if u32::from(size) > len_max {
            return Err(Error::usage(
                attempted,
                format!("a UDP payload to this target has at most {len_max} bytes"),
            ));
        }
    }
    Ok(())
}

fn check_times(options: &Options) -> Result<(), Error> {
    if options.timeout.is_zero() || options.timeout > TIMEOUT_MAX {
        return Err(Error::usage(
            format!(
                "cannot wait {} for an answer",
                humantime::format_duration(options.timeout)
            ),
            format!(
                "--timeout must be more than 0 and at most {}",
                humantime::format_duration(TIMEOUT_MAX)
            ),
        ));
    }
    if options.duration.is_some_and(|it| it.is_zero()) {
        return Err(Error::usage(
            "cannot send for 0s",
            "--duration must be more than 0",
        ));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fewer_threads_or_cpus_than_asked_for_are_told() {
        assert!(warnings(2, 2, 2).is_empty() && warnings(2, 2, 0).is_empty());
        let [flows] = &warnings(8, 2, 2)[..] else {
            panic!("one");
        };
        assert!(flows.contains("--cores 8 is 2 here"), "{flows}");
        let [cpus] = &warnings(8, 8, 2)[..] else {
            panic!("one");
        };
        assert!(cpus.contains("8 threads share 2 CPUs"), "{cpus}");
        assert_eq!(warnings(8, 4, 2).len(), 2, "both");
    }

    #[test]
    fn sizes_hold_the_header_and_fit_a_datagram() {
        let target: SocketAddr = "127.0.0.1:7".parse().unwrap();
        assert!(check_sizes(&[(40, 1), (65_507, 1)], target).is_ok());
        assert!(check_sizes(&[(64, 1), (39, 1)], target).is_err());
        assert!(check_sizes(&[(65_508, 1)], target).is_err());
        assert!(check_sizes(&[(65_527, 1)], "[::1]:7".parse().unwrap()).is_ok());
    }
}
