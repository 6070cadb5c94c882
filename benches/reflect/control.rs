//! Whether the bench measures rightly: a control whose true answer is known.
//!
//! The yardstick runs with five microseconds of work for each reply and with ten, and the two have
//! to be read as five apart. Not the yardstick itself beside one of them: what has less to do
//! sleeps more often and receives less at a time, which is a part of what a reply costs, and no
//! error.

use super::distance::Placement;
use super::measure::Sample;
use super::output::median;
use super::plain::WORKING;
use super::{Measured, Series};

/// How far the reading may be from the truth.
const TOLERANCE_PERCENT: f64 = 5.0;

/// Prints what was read where the control ran while the CPUs were placed so.
pub fn print(all: &[Measured], placement: Placement) {
    for measured in all {
        let part = measured.during(placement);
        let of = |name: &str| part.series.iter().find(|it| it.contender.name == name);
        let (Some(less), Some(more)) = (of(WORKING[0].0), of(WORKING[1].0)) else {
            continue;
        };
        let cpu = |it: &Sample| it.cpu_ns / 1e3;
        let round_trip = |it: &Sample| it.rtt_us[0];
        print_reading(measured.scenario.name, "cpu", [less, more], cpu);
        if more.samples.iter().flatten().any(|it| it.rtt_us[0] > 0.0) {
            print_reading(measured.scenario.name, "p50", [less, more], round_trip);
        }
    }
}

fn print_reading(
    scenario: &str,
    figure: &str,
    [less, more]: [&Series; 2],
    pick: fn(&Sample) -> f64,
) {
    let rounds = less.samples.iter().zip(&more.samples);
    let read =
        median(rounds.filter_map(|(less, more)| Some(pick(more.as_ref()?) - pick(less.as_ref()?))));
    if read.is_nan() {
        return;
    }
    let truth = (WORKING[1].1 - WORKING[0].1).as_secs_f64() * 1e6;
    let is_right = (read - truth).abs() <= truth * TOLERANCE_PERCENT / 100.0;
    println!(
        "  {scenario:<50}control, {figure}: {truth:.1} us apart, read as {read:.2} {}",
        if is_right {
            "right"
        } else {
            "WRONG: disturbed, or a fault of the bench"
        },
    );
}
