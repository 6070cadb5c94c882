//! What has to be reached, and whether it was, by the medians of this run.

use std::fmt;

use Bound::{AtLeast, AtLeastOrBetter, AtMost, AtMostOrBetter, ByTopology};

use super::distance::Placement;
use super::network::Topology;
use super::output::Ratios;
use super::replies;
use super::scenario::{
    AS_SINGLES, BLOCKING, PEERS_64, PEERS_1000, REPLY_IN_TRAINS, REPLY_TO_1000, SPINNING,
    TRAINS_OF_32, TRAINS_OF_64, TRAINS_OF_1400,
};
use super::{Measured, Series};

const URING: &str = "reflector --engine uring";
const MMSG: &str = "reflector --engine mmsg";
const SPIN: &str = "reflector --engine uring --wait spin";
const ACCELERATED: &str = "reflector --accelerate link0";
const BY_LISTS: &str = "reflector --accelerate link0 --allow 10.0.0.0/8 --deny 10.66.0.0/16";
const RECVMMSG: &str = "recvmmsg/sendmmsg";
const RECVFROM: &str = "recvfrom/sendto";

/// What is compared.
#[derive(Clone, Copy)]
enum Figure {
    /// Datagrams per second, at least so many times as many.
    Rate,
    /// CPU time per datagram of the other, at least so many times ours.
    Cpu,
    /// Median round trip, at most so many times the other's.
    RoundTrip,
    /// The same, of the one in a hundred.
    RoundTripP99,
    /// CPU time of a reply beyond its request: the other's at least so many times ours.
    Reply,
}

struct Bar {
    scenario: &'static str,
    figure: Figure,
    contender: &'static str,
    against: &'static str,
    bound: Bound,
}

/// Which ratios are good.
#[derive(Clone, Copy)]
enum Bound {
    AtLeast(f64),
    /// What has to be reached, and what is hoped for.
    AtLeastOrBetter(f64, f64),
    AtMost(f64),
    /// The same, with what is hoped for.
    AtMostOrBetter(f64, f64),
    /// At least the first over a veth pair, with what is hoped for; the last through a bridge.
    ByTopology(f64, f64, f64),
    /// Shown beside another.
    None,
}
const fn bar(
    scenario: &'static str,
    figure: Figure,
    contender: &'static str,
    against: &'static str,
    bound: Bound,
) -> Bar {
    Bar {
        scenario,
        figure,
        contender,
        against,
        bound,
    }
}

const BARS: [Bar; 21] = [
    bar(
        TRAINS_OF_32,
        Figure::Rate,
        URING,
        RECVMMSG,
        AtLeastOrBetter(20.0, 25.0),
    ),
    bar(
        TRAINS_OF_64,
        Figure::Rate,
        URING,
        RECVMMSG,
        AtLeastOrBetter(40.0, 50.0),
    ),
    bar(
        AS_SINGLES,
        Figure::Rate,
        "reflector --engine uring --gro off",
        RECVMMSG,
        AtLeast(4.5),
    ),
    bar(TRAINS_OF_1400, Figure::Rate, URING, RECVMMSG, AtLeast(11.0)),
    bar(
        PEERS_64,
        Figure::Cpu,
        URING,
        RECVMMSG,
        AtLeastOrBetter(0.95, 1.15),
    ),
    bar(PEERS_64, Figure::Cpu, MMSG, RECVMMSG, Bound::None),
    bar(
        PEERS_1000,
        Figure::Cpu,
        URING,
        RECVMMSG,
        AtLeastOrBetter(0.95, 1.15),
    ),
    bar(PEERS_1000, Figure::Cpu, MMSG, RECVMMSG, Bound::None),
    bar(SPINNING, Figure::RoundTrip, SPIN, RECVFROM, AtMost(0.5)),
    bar(BLOCKING, Figure::RoundTrip, SPIN, RECVFROM, AtMost(0.5)),
    bar(SPINNING, Figure::RoundTrip, URING, RECVFROM, AtMost(0.5)),
    bar(SPINNING, Figure::RoundTrip, MMSG, RECVFROM, AtMost(0.5)),
    bar(BLOCKING, Figure::RoundTrip, URING, RECVFROM, AtMost(0.5)),
    bar(BLOCKING, Figure::RoundTrip, MMSG, RECVFROM, AtMost(0.5)),
    bar(
        REPLY_TO_1000,
        Figure::Reply,
        BY_LISTS,
        RECVMMSG,
        ByTopology(8.0, 12.0, 5.0),
    ),
    bar(
        REPLY_IN_TRAINS,
        Figure::Reply,
        ACCELERATED,
        URING,
        AtLeast(1.0),
    ),
    bar(
        SPINNING,
        Figure::RoundTrip,
        ACCELERATED,
        RECVFROM,
        LESS_BY_FAR,
    ),
    bar(
        SPINNING,
        Figure::RoundTripP99,
        ACCELERATED,
        RECVFROM,
        LESS_BY_FAR,
    ),
    bar(
        BLOCKING,
        Figure::RoundTrip,
        ACCELERATED,
        RECVFROM,
        LESS_BY_FAR,
    ),
    bar(
        BLOCKING,
        Figure::RoundTripP99,
        ACCELERATED,
        RECVFROM,
        LESS_BY_FAR,
    ),
    bar(
        TRAINS_OF_32,
        Figure::Rate,
        URING,
        "reflector --engine uring --latency off",
        AtLeast(0.97),
    ),
];

/// What is answered in the kernel wakes nobody.
const LESS_BY_FAR: Bound = AtMostOrBetter(0.2, 0.12);

/// Prints each bar of which something was measured while the CPUs were placed so.
pub fn print(all: &[Measured], topology: Topology, placement: Placement) {
    println!("\nbars, CPUs {placement}");
    for bar in &BARS {
        let measured = all
            .iter()
            .find(|it| it.scenario.name == bar.scenario)
            .and_then(|it| bar.ratios(&it.during(placement).series));
        let Some(ratios) = measured else { continue };
        let figure = match bar.figure {
            Figure::Rate => "rate",
            Figure::Cpu => "1 / cpu",
            Figure::RoundTrip => "p50",
            Figure::RoundTripP99 => "p99",
            Figure::Reply => "1 / reply",
        };
        let bound = bar.bound.by(topology);
        println!(
            "  {:<58}{figure} of {} over {}: {} {ratios} {}",
            bar.scenario,
            bar.contender,
            bar.against,
            bound,
            bound.verdict(ratios.median),
        );
    }
}

impl Bar {
    fn ratios(&self, series: &[Series]) -> Option<Ratios> {
        let of = |name: &str| series.iter().find(|it| it.contender.name == name);
        let (ours, theirs) = (of(self.contender)?, of(self.against)?);
        match self.figure {
            Figure::Rate => ours.ratios(theirs, |it| it.rate),
            Figure::Cpu => theirs.ratios(ours, |it| it.cpu_ns),
            Figure::RoundTrip => ours.ratios(theirs, |it| it.rtt_us[0]),
            Figure::RoundTripP99 => ours.ratios(theirs, |it| it.rtt_us[1]),
            Figure::Reply => replies::ratios(series, theirs, ours),
        }
    }
}

impl Bound {
    /// What it is where client and server are joined so.
    fn by(self, topology: Topology) -> Self {
        match (self, topology) {
            (ByTopology(least, goal, _), Topology::Veth) => AtLeastOrBetter(least, goal),
            (ByTopology(.., least), Topology::Bridge) => AtLeast(least),
            _ => self,
        }
    }

    fn verdict(self, ratio: f64) -> &'static str {
        match self {
            AtLeastOrBetter(_, goal) if ratio >= goal => "reached, and the goal",
            AtLeast(least) | AtLeastOrBetter(least, _) if ratio < least => "missed",
            AtMostOrBetter(_, goal) if ratio <= goal => "reached, and the goal",
            AtMost(most) | AtMostOrBetter(most, _) if ratio > most => "missed",
            Self::None => "",
            _ => "reached",
        }
    }
}

impl fmt::Display for Bound {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = match *self {
            AtLeast(least) => format!(">= {least}"),
            AtLeastOrBetter(least, goal) => format!(">= {least} (goal {goal})"),
            AtMost(most) => format!("<= {most}"),
            AtMostOrBetter(most, goal) => format!("<= {most} (goal {goal})"),
            Self::None | ByTopology(..) => String::new(),
        };
        f.pad(&text)
    }
}
