//! What is asked, and of whom.

use super::contender::{Contender, YARDSTICK};
use super::generator::Load;

/// What is measured.
#[derive(Clone, Copy)]
pub enum Measure {
    /// Datagrams per second as fast as they are answered, and the server's CPU time for each.
    Rate(Load),
    /// What a reply costs beyond its request, of all CPU time; a window is a burst's.
    Reply(Load),
    /// Loss and round trips at half of that rate, offered in open loop by `reflector load`.
    HalfRate(Load),
    /// Round-trip time of one datagram at a time, by a client that polls or one that sleeps.
    RoundTrip {
        /// Whether it polls.
        spinning: bool,
        /// Whether it runs on the server's CPU.
        same_cpu: bool,
    },
    /// Loss and round trips at so many datagrams per second, offered in open loop by
    /// `reflector load`.
    OpenLoop(u32),
}

/// What the server shares its CPU with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Neighbour {
    /// Nothing.
    None,
    /// A process that never sleeps.
    Spinner,
    /// The same server once more, which is asked 20 000 times a second.
    Server,
    /// A cgroup whose quota is half a CPU.
    Quota,
}

/// One question to several contenders.
#[derive(Clone)]
pub struct Scenario {
    /// Its name, which spells the parameters.
    pub name: &'static str,
    /// What is measured.
    pub measure: Measure,
    /// What the server shares its CPU with.
    pub neighbour: Neighbour,
    /// Servers besides the yardstick.
    others: &'static [&'static str],
    /// Options of the reflectors.
    reflectors: &'static [&'static str],
}

impl Scenario {
    /// Who takes part: the yardstick twice first, so that the noise shows; before it, where that is
    /// to be taken off, requests alone.
    pub fn contenders(&self) -> Vec<Contender> {
        let first: &[_] = match self.measure {
            Measure::Reply(_) => &["dropped", "dropped again", YARDSTICK, "again"],
            _ => &[YARDSTICK, "again"],
        };
        let others = first.iter().chain(self.others);
        let others = others.map(|name| Contender::other(name));
        let reflectors = self.reflectors.iter().map(|it| Contender::reflector(it));
        others.chain(reflectors).collect()
    }
}

/// 64 bytes in trains of 32: enough for both directions to be joined, short enough to be common.
pub const TRAINS_OF_32: &str = "trains of 32 x 64 B, 8 flows";
/// The longest trains that UDP_GRO makes.
pub const TRAINS_OF_64: &str = "trains of 64 x 64 B, 8 flows";
/// The same trains, taken apart by the kernel before the server's socket.
pub const AS_SINGLES: &str = "trains of 32 x 64 B received as singles, 8 flows";
/// As much as a train can hold of a usual MTU.
pub const TRAINS_OF_1400: &str = "trains of 44 x 1400 B, 8 flows";
/// Nothing to join: as many peers as a batch has room for.
pub const PEERS_64: &str = "singles of 64 B, 64 peers in turn";
/// Nothing to join, and caches of peers are of no use.
pub const PEERS_1000: &str = "singles of 64 B, 1000 peers in turn";
/// A reply's cost, to as many peers.
pub const REPLY_TO_1000: &str = "a reply past its request, singles of 64 B, 1000 peers";
/// A reply's cost in trains.
pub const REPLY_IN_TRAINS: &str = "a reply past its request, trains of 32 x 64 B, 8 flows";
/// A client that polls.
pub const SPINNING: &str = "round trip, client spinning";
/// A client that sleeps.
pub const BLOCKING: &str = "round trip, client blocking";

/// Answers in the kernel what comes by the server's device.
const ACCELERATE: &str = "--accelerate link0";
/// The same with lists of its own.
const ACCELERATE_BY_LISTS: &str = "--accelerate link0 --allow 10.0.0.0/8 --deny 10.66.0.0/16";

/// All of them, in the order of PERF.md.
pub fn all() -> Vec<Scenario> {
    let load = |payload_len, train_len, flows, window| Load {
        payload_len,
        train_len,
        flows,
        window,
    };
    let trains_of_32 = load(64, 32, 8, 256);
    let scenario = |name, measure, others, reflectors| Scenario {
        name,
        measure,
        neighbour: Neighbour::None,
        others,
        reflectors,
    };
    let round_trip = |spinning, same_cpu| Measure::RoundTrip { spinning, same_cpu };
    let mut all = vec![
        scenario(
            TRAINS_OF_32,
            Measure::Rate(trains_of_32),
            &["recvfrom/sendto"],
            &[
                "--engine uring",
                "--engine mmsg",
                "--engine uring --latency off",
                "--engine uring --listen 10.77.0.1:9007",
                "--engine uring --cores 2",
            ],
        ),
        scenario(
            TRAINS_OF_64,
            Measure::Rate(load(64, 64, 8, 2048)),
            &[],
            &["--engine uring", "--engine mmsg"],
        ),
        scenario(
            AS_SINGLES,
            Measure::Rate(trains_of_32),
            &[],
            &[
                "--engine uring --gro off",
                "--engine mmsg --gro off",
                "--engine uring --gro off --latency off",
                "--engine uring --gro off --gso off",
                "--engine mmsg --gro off --gso off",
            ],
        ),
        scenario(
            TRAINS_OF_1400,
            Measure::Rate(load(1400, 44, 8, 264)),
            &[],
            &["--engine uring", "--engine mmsg"],
        ),
        scenario(
            PEERS_64,
            Measure::Rate(load(64, 1, 64, 1)),
            &["less work", "more work", "recvfrom/sendto", "socat"],
            &[
                "--engine uring",
                "--engine mmsg",
                "--engine uring --latency off",
                "--engine uring --listen 10.77.0.1:9007",
                "--engine uring --wait spin",
                "--engine uring --cores 2",
            ],
        ),
        scenario(
            PEERS_1000,
            Measure::Rate(load(64, 1, 1000, 1)),
            &["less work", "more work"],
            &["--engine uring", "--engine mmsg"],
        ),
        scenario(
            SPINNING,
            round_trip(true, false),
            &["less work", "more work", "recvfrom/sendto"],
            &[
                "--engine uring",
                "--engine mmsg",
                "--engine uring --wait spin",
                ACCELERATE,
            ],
        ),
        scenario(
            BLOCKING,
            round_trip(false, false),
            &["recvfrom/sendto", "socat", "sockperf"],
            &[
                "--engine uring",
                "--engine mmsg",
                "--engine uring --wait spin",
                ACCELERATE,
            ],
        ),
        scenario(
            REPLY_TO_1000,
            Measure::Reply(load(64, 1, 1000, 1)),
            &["less work", "more work"],
            &["--engine uring", ACCELERATE, ACCELERATE_BY_LISTS],
        ),
        scenario(
            REPLY_IN_TRAINS,
            Measure::Reply(load(64, 32, 8, 128)),
            &[],
            &["--engine uring", ACCELERATE],
        ),
        scenario(
            "half of the highest rate, trains of 32 x 64 B, 8 flows",
            Measure::HalfRate(trains_of_32),
            &[],
            &["--engine uring", "--engine mmsg"],
        ),
        scenario(
            "half of the highest rate, singles of 64 B, 64 peers",
            Measure::HalfRate(load(64, 1, 64, 1)),
            &["recvfrom/sendto"],
            &["--engine uring", "--engine mmsg"],
        ),
    ];
    let waits = [
        ("wait, client spinning", round_trip(true, false)),
        ("wait, client blocking", round_trip(false, false)),
        (
            "wait, client spinning on the same CPU",
            round_trip(true, true),
        ),
        (
            "wait, client blocking on the same CPU",
            round_trip(false, true),
        ),
        ("wait, 1000 per second", Measure::OpenLoop(1_000)),
        ("wait, 20000 per second", Measure::OpenLoop(20_000)),
        ("wait, 60000 per second", Measure::OpenLoop(60_000)),
    ];
    all.extend(waits.map(|(name, measure)| scenario(name, measure, &["recvfrom/sendto"], &WAITS)));
    let shared = [
        ("wait, beside a spinning process", Neighbour::Spinner),
        ("wait, beside another server", Neighbour::Server),
        ("wait, half a CPU of quota", Neighbour::Quota),
    ];
    all.extend(shared.map(|(name, neighbour)| Scenario {
        neighbour,
        ..scenario(name, round_trip(false, false), &[], &WAITS)
    }));
    let workers = Measure::OpenLoop(20_000);
    all.push(scenario(
        "wait, four workers on two CPUs",
        workers,
        &[],
        &WORKERS,
    ));
    all
}

/// Each way to wait by each engine.
const WAITS: [&str; 4] = [
    "--engine uring --wait block",
    "--engine uring --wait adaptive",
    "--engine mmsg --wait block",
    "--engine mmsg --wait adaptive",
];
/// The same with more workers than CPUs.
const WORKERS: [&str; 4] = [
    "--engine uring --cores 4 --wait block",
    "--engine uring --cores 4 --wait adaptive",
    "--engine mmsg --cores 4 --wait block",
    "--engine mmsg --cores 4 --wait adaptive",
];
