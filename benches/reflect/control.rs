//! Whether the bench measures rightly: a control whose true answer is known.
//!
//! The yardstick runs with five microseconds of work for each reply and with ten, and the two have
//! to be read as five apart. Not the yardstick itself beside one of them: what has less to do
//! sleeps more often and receives less at a time, which is a part of what a reply costs, and no
//! error. Where what requests cost is taken off, requests that nobody answers leave nothing.

use super::contender::Kind;
use super::distance::Placement;
use super::measure::Sample;
use super::output::{Ratios, median};
use super::plain::WORKING;
use super::replies;
use super::scenario::Measure;
use super::{Measured, Series};

/// How far the reading may be from the truth.
const TOLERANCE_PERCENT: f64 = 5.0;

/// How far from nothing may be read what is nothing, in microseconds.
const NOISE_US: f64 = 0.05;

/// Prints what was read where the control ran while the CPUs were placed so.
pub fn print(all: &[Measured], placement: Placement) {
    for measured in all {
        let part = measured.during(placement);
        print_nothing(measured.scenario.name, &part.series);
        let of = |name: &str| part.series.iter().find(|it| it.contender.name == name);
        let (Some(less), Some(more)) = (of(WORKING[0].0), of(WORKING[1].0)) else {
            continue;
        };
        let cpu = match measured.scenario.measure {
            Measure::Reply(_) => |it: &Sample| it.whole_ns / 1e3,
            _ => |it: &Sample| it.cpu_ns / 1e3,
        };
        let round_trip = |it: &Sample| it.rtt_us[0];
        print_reading(measured.scenario.name, "cpu", [less, more], cpu);
        if more.samples.iter().flatten().any(|it| it.rtt_us[0] > 0.0) {
            print_reading(measured.scenario.name, "p50", [less, more], round_trip);
        }
    }
}

/// Requests alone, against requests alone: no reply, and so nothing.
fn print_nothing(scenario: &str, all: &[Series]) {
    let mut dropped = all.iter().filter(|it| it.contender.kind == Kind::Dropped);
    let Some(again) = dropped.nth(1) else { return };
    if let Some(read) = Ratios::of(replies::parts_us(all, again).flatten()) {
        let verdict = verdict(read.median.abs() <= NOISE_US);
        println!("  {scenario:<58}control, no reply: 0 us, read as {read} {verdict}");
    }
}

fn verdict(is_right: bool) -> &'static str {
    if is_right {
        "right"
    } else {
        "WRONG: disturbed, or a fault of the bench"
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
        "  {scenario:<58}control, {figure}: {truth:.1} us apart, read as {read:.2} {}",
        verdict(is_right),
    );
}
