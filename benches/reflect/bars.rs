//! What has to be reached, and whether it was, by the medians of this run.

use std::fmt;

use Bound::{AtLeast, AtLeastOrBetter, AtMost};

use super::distance::Placement;
use super::output::Ratios;
use super::scenario::{
    AS_SINGLES, BLOCKING, PEERS_64, PEERS_1000, SPINNING, TRAINS_OF_32, TRAINS_OF_64,
    TRAINS_OF_1400,
};
use super::{Measured, Series};

const URING: &str = "reflector --engine uring";
const MMSG: &str = "reflector --engine mmsg";
const SPIN: &str = "reflector --engine uring --wait spin";
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

const BARS: [Bar; 15] = [
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
        TRAINS_OF_32,
        Figure::Rate,
        URING,
        "reflector --engine uring --latency off",
        AtLeast(0.97),
    ),
];

/// Prints each bar of which something was measured while the CPUs were placed so.
pub fn print(all: &[Measured], placement: Placement) {
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
        };
        println!(
            "  {:<50}{figure} of {} over {}: {} {ratios} {}",
            bar.scenario,
            bar.contender,
            bar.against,
            bar.bound,
            bar.bound.verdict(ratios.median),
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
        }
    }
}

impl Bound {
    fn verdict(self, ratio: f64) -> &'static str {
        match self {
            AtLeastOrBetter(_, goal) if ratio >= goal => "reached, and the goal",
            AtLeast(least) | AtLeastOrBetter(least, _) if ratio < least => "missed",
            AtMost(most) if ratio > most => "missed",
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
            Self::None => String::new(),
        };
        f.pad(&text)
    }
}
