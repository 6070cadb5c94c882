//! One measurement of one contender.

use std::io;
use std::net::SocketAddr;
use std::process::Command;
use std::time::Duration;

use core_affinity::CoreId;
use reflector_measure::quantiles::Quantiles;
use serde::Serialize;
use serde_json::Value;

use super::beside::{Beside, HalfCpu};
use super::contender::{Contender, Kind};
use super::generator::{self, Load};
use super::network::{Network, SERVER};
use super::replies;
use super::scenario::{Measure, Neighbour, Scenario};
use super::scraper::Scraper;
use super::server::{PORT, Server, Usage, Worker};

/// What came of it.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Sample {
    /// Datagrams per second that were answered.
    pub rate: f64,
    /// The server's CPU time per datagram, in nanoseconds.
    pub cpu_ns: f64,
    /// Datagrams without an answer, in percent.
    pub loss_percent: f64,
    /// Round trips in microseconds: p50, p99, p99.9; zero where none is measured.
    #[serde(skip_serializing_if = "is_unmeasured")]
    pub rtt_us: [f64; 3],
    /// CPU time per datagram of the generator, the server and softirqs, in nanoseconds; zero where
    /// only the server's is measured.
    #[serde(skip_serializing_if = "is_zero")]
    pub whole_ns: f64,
    /// Memory of the server, in KiB.
    pub resident_kib: u64,
    /// What each worker did, of a server that tells.
    pub workers: Vec<Worker>,
    /// How often it was asked for its metrics meanwhile, and has answered.
    #[serde(skip_serializing_if = "is_never")]
    pub scrapes: u64,
    /// Why less was offered than asked.
    pub limited_by: Option<String>,
    /// How far apart the CPUs of generator and server were before and after, in nanoseconds.
    pub cpu_distance_ns: [f64; 2],
}

fn is_unmeasured(rtt_us: &[f64; 3]) -> bool {
    *rtt_us == [0.0; 3]
}

fn is_zero(ns: &f64) -> bool {
    *ns == 0.0
}

fn is_never(times: &u64) -> bool {
    *times == 0
}

/// Singles of few peers, for open loop.
const SINGLES: Load = Load {
    payload_len: 64,
    train_len: 1,
    flows: 8,
    window: 1,
};

/// Measures `contender` for `duration`, after a fifth of that to get warm.
///
/// # Errors
/// What starting it says, or that it does not answer.
pub fn measure(
    network: &Network,
    cpu: usize,
    contender: &Contender,
    scenario: &Scenario,
    duration: Duration,
) -> io::Result<Sample> {
    if let Measure::Reply(load) = scenario.measure {
        return replies::measure(network, cpu, contender, &load, duration);
    }
    // Before the server, so that it goes after it.
    let half = (scenario.neighbour == Neighbour::Quota).then(HalfCpu::enter);
    let half = half.transpose()?;
    let server = Server::start(&network.server, cpu, contender)?;
    if half.is_some() {
        HalfCpu::leave()?;
    }
    let _beside = Beside::start(network, cpu, contender, scenario.neighbour)?;
    let scraper = (contender.metrics()).map(|port| Scraper::start(&network.server, port));
    let target = SocketAddr::from((SERVER, PORT));
    let mut sample = network.client.run(|| {
        if contender.kind == Kind::Sockperf {
            return by_sockperf(&server, duration);
        }
        wait_until_it_answers(target)?;
        match scenario.measure {
            Measure::Rate(load) => {
                generator::run(target, &load, duration / 5)?;
                let before = server.usage()?;
                let outcome = generator::run(target, &load, duration)?;
                let of = outcome.answered + outcome.lost;
                Ok(Sample {
                    rate: outcome.answered as f64 / outcome.seconds,
                    loss_percent: 100.0 * outcome.lost as f64 / of.max(1) as f64,
                    ..used(&before, &server.usage()?, outcome.answered)
                })
            }
            Measure::Reply(_) => unreachable!("measured above"),
            Measure::HalfRate(load) => half_rate(&server, target, &load, duration),
            Measure::OpenLoop(rate) => open_loop(&server, target, &SINGLES, rate.into(), duration),
            Measure::RoundTrip { spinning, same_cpu } => {
                if same_cpu {
                    // This thread is of this sample alone.
                    core_affinity::set_for_current(CoreId { id: cpu });
                }
                generator::round_trips(target, spinning, duration / 5)?;
                let before = server.usage()?;
                let times = generator::round_trips(target, spinning, duration)?;
                let us = Quantiles::from_ns(&times);
                Ok(Sample {
                    rate: us.count as f64 / duration.as_secs_f64(),
                    rtt_us: [us.p50, us.p99, us.p99_9],
                    ..used(&before, &server.usage()?, us.count)
                })
            }
        }
    })?;
    if let Some(scraper) = scraper {
        sample.scrapes = scraper.end()?;
    }
    let end = server.end()?;
    if contender.is_accelerated() && end.accelerated == 0 {
        return Err(io::Error::other(format!(
            "{} answered nothing in the kernel",
            contender.name
        )));
    }
    sample.workers = end.workers;
    Ok(sample)
}

/// What serving `datagrams` has cost.
fn used(before: &Usage, after: &Usage, datagrams: u64) -> Sample {
    Sample {
        cpu_ns: after.cpu_ns.saturating_sub(before.cpu_ns) as f64 / datagrams.max(1) as f64,
        resident_kib: after.resident_kib,
        ..Sample::default()
    }
}

/// Finds the highest rate in closed loop, and offers half of it in open loop.
fn half_rate(
    server: &Server,
    target: SocketAddr,
    load: &Load,
    duration: Duration,
) -> io::Result<Sample> {
    let highest = generator::run(target, load, duration / 2)?;
    let rate = highest.answered as f64 / highest.seconds / 2.0;
    open_loop(server, target, load, rate, duration)
}

/// Offers `rate` datagrams per second, whether they are answered or not.
fn open_loop(
    server: &Server,
    target: SocketAddr,
    load: &Load,
    rate: f64,
    duration: Duration,
) -> io::Result<Sample> {
    let before = server.usage()?;
    let output = Command::new(env!("CARGO_BIN_EXE_reflector"))
        .args(["load", &target.to_string(), "--json", "--interval", "0s"])
        .args(["--rate", &rate.max(1.0).to_string()])
        .args(["--duration", &format!("{}us", duration.as_micros())])
        .args(["--burst", &load.train_len.to_string()])
        .args(["--flows", &load.flows.to_string()])
        .args(["--size", &load.payload_len.to_string()])
        .output()?;
    let text = String::from_utf8_lossy(&output.stdout);
    let summary: Value = serde_json::from_str(text.lines().last().unwrap_or_default())?;
    let us = |key: &str| summary["rtt_us"][key].as_f64().unwrap_or(f64::NAN);
    let received = summary["received"].as_u64().unwrap_or(0);
    Ok(Sample {
        rate: summary["achieved_pps"].as_f64().unwrap_or(0.0),
        loss_percent: summary["loss_percent"].as_f64().unwrap_or(100.0),
        rtt_us: [us("p50"), us("p99"), us("p99_9")],
        limited_by: summary["limited_by"].as_str().map(str::to_owned),
        ..used(&before, &server.usage()?, received)
    })
}

/// Round trips as sockperf's own client sees them; its server answers nobody else.
fn by_sockperf(server: &Server, duration: Duration) -> io::Result<Sample> {
    // It takes whole seconds, and its first are for getting warm.
    let seconds = duration.as_secs().max(1);
    std::thread::sleep(Duration::from_millis(300));
    let before = server.usage()?;
    let output = Command::new("sockperf")
        .args(["ping-pong", "--full-rtt", "--msg-size", "64"])
        .args(["-i", &SERVER.to_string(), "-p", &PORT.to_string()])
        .args(["-t", &seconds.to_string()])
        .output()?;
    let text = String::from_utf8_lossy(&output.stdout);
    let number_after = |words: &str| -> Option<f64> {
        let (_, rest) = text.split_once(words)?;
        let number = rest.trim_start_matches([' ', '=', ';', '\t']);
        number.split([' ', ';', '\n']).next()?.parse().ok()
    };
    let at = |percentile: &str| number_after(&format!("percentile {percentile} ="));
    let us = |percentile| at(percentile).unwrap_or(f64::NAN);
    let messages = number_after("ReceivedMessages=").unwrap_or(0.0);
    Ok(Sample {
        rate: messages / seconds as f64,
        rtt_us: [us("50.000"), us("99.000"), us("99.900")],
        ..used(&before, &server.usage()?, messages as u64)
    })
}

/// Asks until `target` answers.
///
/// # Errors
/// That it does not, for ten seconds.
pub fn wait_until_it_answers(target: SocketAddr) -> io::Result<()> {
    let socket = std::net::UdpSocket::bind("0.0.0.0:0")?;
    socket.connect(target)?;
    socket.set_read_timeout(Some(Duration::from_millis(20)))?;
    for _ in 0..500 {
        // Refused until it listens.
        let _ = socket.send(b"ready?");
        if socket.recv(&mut [0; 16]).is_ok() {
            return Ok(());
        }
        std::thread::sleep(Duration::from_millis(2));
    }
    Err(io::Error::new(
        io::ErrorKind::TimedOut,
        format!("{target} does not answer"),
    ))
}
