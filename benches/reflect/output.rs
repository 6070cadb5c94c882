//! The tables, and every single figure as JSON.

use std::fmt;

use serde_json::{Value, json};

use super::distance::Placement;
use super::measure::Sample;
use super::network::Topology;
use super::replies;
use super::scenario::Measure;
use super::server::Worker;
use super::{Measured, Series};

/// The middle one; the greater of two.
pub fn median(values: impl Iterator<Item = f64>) -> f64 {
    let mut values: Vec<_> = values.collect();
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(f64::NAN)
}

/// Ratios of two contenders, each within a round: what disturbs a whole round disturbs none of
/// them.
#[derive(Clone, Copy, Debug)]
pub struct Ratios {
    /// The middle one.
    pub median: f64,
    /// The lowest and the highest.
    pub range: [f64; 2],
}

impl Ratios {
    /// Of all these; nothing if there are none.
    pub fn of(values: impl Iterator<Item = f64>) -> Option<Self> {
        let values: Vec<_> = values.collect();
        (!values.is_empty()).then(|| Self {
            median: median(values.iter().copied()),
            range: [
                values.iter().copied().fold(f64::INFINITY, f64::min),
                values.iter().copied().fold(f64::NEG_INFINITY, f64::max),
            ],
        })
    }
}

impl fmt::Display for Ratios {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [low, high] = self.range;
        let decimals = if high < 10.0 { 2 } else { 1 };
        let text = format!(
            "{:.decimals$} ({low:.decimals$} .. {high:.decimals$})",
            self.median
        );
        f.pad(&text)
    }
}

impl Series {
    /// The median of what `pick` finds in each sample.
    pub fn median(&self, pick: impl Fn(&Sample) -> f64) -> f64 {
        median(self.samples.iter().flatten().map(pick))
    }

    /// Whether any round has measured it.
    pub fn has_samples(&self) -> bool {
        self.samples.iter().any(Option::is_some)
    }

    /// What `pick` finds here, over what it finds in `other`; nothing if no round has both.
    pub fn ratios(&self, other: &Self, pick: impl Fn(&Sample) -> f64) -> Option<Ratios> {
        let rounds = self.samples.iter().zip(&other.samples);
        let ratios: Vec<_> = rounds
            .filter_map(|(ours, theirs)| Some(pick(ours.as_ref()?) / pick(theirs.as_ref()?)))
            .collect();
        Ratios::of(ratios.into_iter())
    }
}

/// Prints what was measured in one scenario while the CPUs were placed so, if anything; the first
/// of its series is what ratios refer to.
pub fn print_table(measured: &Measured, placement: Placement) {
    let part = measured.during(placement);
    let samples = part
        .series
        .iter()
        .flat_map(|it| it.samples.iter().flatten());
    let distances: Vec<_> = samples.flat_map(|it| it.cpu_distance_ns).collect();
    if distances.is_empty() {
        return;
    }
    println!(
        "\n{}; CPUs {placement}, {:.0} ns apart in {} samples of {}",
        part.scenario.name,
        median(distances.iter().copied()),
        distances.len() / 2,
        measured
            .series
            .iter()
            .map(|it| it.samples.len())
            .sum::<usize>(),
    );
    let base = &part.series[0];
    match part.scenario.measure {
        Measure::Rate(load) => print_rates(base, &part.series, load.payload_len),
        Measure::Reply(_) => replies::print_table(&part.series),
        Measure::HalfRate(_) | Measure::OpenLoop(_) | Measure::RoundTrip { .. } => {
            print_times(base, &part.series);
        }
    }
}

/// Prints how many samples of one scenario were left out since something was lost, if any were.
pub fn print_void(measured: &Measured) {
    for Series { contender, samples } in &measured.series {
        let count = samples.iter().flatten().filter(|it| measured.is_void(it));
        match count.count() {
            0 => {}
            void => println!(
                "  left out, since datagrams were lost: {void} of {} samples of {}",
                samples.len(),
                contender.name
            ),
        }
    }
}

fn print_rates(base: &Series, all: &[Series], payload_len: u16) {
    println!(
        "  {:<46}{:>11}{:>22}{:>8}{:>8}{:>22}{:>7}{:>9}{:>9}",
        "", "per s", "rate x", "Gbit/s", "cpu ns", "1 / cpu x", "batch", "loss %", "RSS KiB"
    );
    for series in all.iter().filter(|it| it.has_samples()) {
        let rate = series.median(|it| it.rate);
        println!(
            "  {:<46}{rate:>11.0}{:>22}{:>8.2}{:>8.0}{:>22}{:>7}{:>9.4}{:>9.0}{}",
            series.contender.name,
            or_dash(series.ratios(base, |it| it.rate)),
            rate * f64::from(payload_len) * 8.0 / 1e9,
            series.median(|it| it.cpu_ns),
            or_dash(base.ratios(series, |it| it.cpu_ns)),
            batch_len(series),
            series.median(|it| it.loss_percent),
            series.median(|it| it.resident_kib as f64),
            remarks(series),
        );
    }
}

fn print_times(base: &Series, all: &[Series]) {
    println!(
        "  {:<46}{:>11}{:>9}{:>22}{:>9}{:>9}{:>8}{:>9}{:>9}",
        "", "per s", "p50 us", "p50 x", "p99 us", "p99.9 us", "cpu ns", "loss %", "RSS KiB"
    );
    for series in all.iter().filter(|it| it.has_samples()) {
        let us = |index: usize| series.median(|it| it.rtt_us[index]);
        println!(
            "  {:<46}{:>11.0}{:>9.1}{:>22}{:>9.1}{:>9.1}{:>8.0}{:>9.4}{:>9.0}{}",
            series.contender.name,
            series.median(|it| it.rate),
            us(0),
            or_dash(series.ratios(base, |it| it.rtt_us[0])),
            us(1),
            us(2),
            series.median(|it| it.cpu_ns),
            series.median(|it| it.loss_percent),
            series.median(|it| it.resident_kib as f64),
            remarks(series),
        );
    }
}

/// As text, also where there is none.
pub fn or_dash(ratios: Option<Ratios>) -> String {
    ratios.map_or_else(|| "-".to_owned(), |it| it.to_string())
}

/// Datagrams that one receive brought, where there is one worker and it tells.
fn batch_len(series: &Series) -> String {
    match series
        .samples
        .iter()
        .flatten()
        .next()
        .map(|it| &it.workers[..])
    {
        Some([_]) => format!("{:.1}", series.median(|it| it.workers[0].batch_len)),
        _ => "-".to_owned(),
    }
}

fn remarks(series: &Series) -> String {
    let mut words = String::new();
    if let Some(sample) = series.samples.iter().flatten().last()
        && sample.workers.len() > 1
    {
        let total = sample.workers.iter().map(|it| it.received).sum::<u64>();
        let share = |worker: &Worker| {
            let percent = 100.0 * worker.received as f64 / total.max(1) as f64;
            format!("{percent:.0} % at {:.0} ns", worker.cpu_ns)
        };
        let shares: Vec<_> = sample.workers.iter().map(share).collect();
        words += &format!("  workers: {}", shares.join(", "));
    }
    let mut limited = series.samples.iter().flatten().rev();
    if let Some(by) = limited.find_map(|it| it.limited_by.as_deref()) {
        words += &format!("  limited by the {by}");
    }
    words
}

/// Everything, with what a reader has to know of the machine.
pub fn as_json(topology: Topology, rounds: usize, seconds: f64, all: &[Measured]) -> Value {
    let scenario = |it: &Measured| {
        let series = |it: &Series| json!({ "contender": it.contender.name, "samples": it.samples });
        json!({
            "scenario": it.scenario.name,
            "series": it.series.iter().map(series).collect::<Vec<_>>(),
        })
    };
    json!({
        "topology": topology.to_string(),
        "rounds": rounds,
        "seconds": seconds,
        "kernel": fact("/proc/sys/kernel/osrelease", |text| Some(text)),
        "cpu": fact("/proc/cpuinfo", |text| {
            let line = text.lines().find(|line| line.starts_with("model name"))?;
            Some(line.split_once(':')?.1)
        }),
        "cpus": std::thread::available_parallelism().map_or(0, std::num::NonZero::get),
        "scenarios": all.iter().map(scenario).collect::<Vec<_>>(),
    })
}

fn fact(path: &str, pick: impl Fn(&str) -> Option<&str>) -> Option<String> {
    let text = std::fs::read_to_string(path).ok()?;
    pick(&text).map(|it| it.trim().to_owned())
}
