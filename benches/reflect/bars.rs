//! What has to be reached, and whether it was, by the medians of this run.

use super::scenario::{
    AS_SINGLES, BLOCKING, PEERS_64, PEERS_1000, SPINNING, TRAINS_OF_32, TRAINS_OF_64,
    TRAINS_OF_1400,
};
use super::{Measured, Series};

const URING: &str = "reflector --engine uring";
const SPIN: &str = "reflector --engine uring --spin";
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
    bound: f64,
}

const fn bar(
    scenario: &'static str,
    figure: Figure,
    contender: &'static str,
    against: &'static str,
    bound: f64,
) -> Bar {
    Bar {
        scenario,
        figure,
        contender,
        against,
        bound,
    }
}

const BARS: [Bar; 11] = [
    bar(TRAINS_OF_32, Figure::Rate, URING, RECVMMSG, 20.0),
    bar(TRAINS_OF_64, Figure::Rate, URING, RECVMMSG, 40.0),
    bar(
        AS_SINGLES,
        Figure::Rate,
        "reflector --engine uring --gro off",
        RECVMMSG,
        4.5,
    ),
    bar(TRAINS_OF_1400, Figure::Rate, URING, RECVMMSG, 11.0),
    bar(PEERS_64, Figure::Cpu, URING, RECVMMSG, 0.95),
    bar(PEERS_1000, Figure::Cpu, URING, RECVMMSG, 0.95),
    bar(SPINNING, Figure::RoundTrip, SPIN, RECVFROM, 0.5),
    bar(BLOCKING, Figure::RoundTrip, SPIN, RECVFROM, 0.5),
    bar(SPINNING, Figure::RoundTrip, URING, RECVFROM, 1.1),
    bar(BLOCKING, Figure::RoundTrip, URING, RECVFROM, 1.1),
    bar(
        TRAINS_OF_32,
        Figure::Rate,
        URING,
        "reflector --engine uring --latency off",
        0.97,
    ),
];

/// Prints each bar with what was measured.
pub fn print(all: &[Measured]) {
    println!("\nbars");
    for bar in &BARS {
        let measured = all
            .iter()
            .find(|it| it.scenario.name == bar.scenario)
            .and_then(|it| ratio(bar, &it.series));
        let (figure, sign) = match bar.figure {
            Figure::Rate => ("rate", ">="),
            Figure::Cpu => ("cpu per datagram", ">="),
            Figure::RoundTrip => ("p50", "<="),
        };
        let verdict = match measured {
            None => "not run".to_owned(),
            Some(ratio) => {
                let is_reached = match bar.figure {
                    Figure::RoundTrip => ratio <= bar.bound,
                    Figure::Rate | Figure::Cpu => ratio >= bar.bound,
                };
                let word = if is_reached { "reached" } else { "missed" };
                format!("{ratio:.2}, {word}")
            }
        };
        println!(
            "  {:<50} {figure} of {} against {}: {sign} {}: {verdict}",
            bar.scenario, bar.contender, bar.against, bar.bound
        );
    }
}

fn ratio(bar: &Bar, series: &[Series]) -> Option<f64> {
    let of = |name: &str| series.iter().find(|it| it.contender.name == name);
    let (ours, theirs) = (of(bar.contender)?, of(bar.against)?);
    Some(match bar.figure {
        Figure::Rate => ours.median(|it| it.rate) / theirs.median(|it| it.rate),
        Figure::Cpu => theirs.median(|it| it.cpu_ns) / ours.median(|it| it.cpu_ns),
        Figure::RoundTrip => ours.rtt_us(0) / theirs.rtt_us(0),
    })
}
