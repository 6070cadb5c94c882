//! The table, and every single figure as JSON.

use serde_json::{Value, json};

use super::measure::Sample;
use super::network::Topology;
use super::scenario::Measure;
use super::{Measured, Series};

/// The middle one; the greater of two.
pub fn median(values: impl Iterator<Item = f64>) -> f64 {
    let mut values: Vec<_> = values.collect();
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(f64::NAN)
}

impl Series {
    /// The median of what `pick` finds in each sample.
    pub fn median(&self, pick: impl Fn(&Sample) -> f64) -> f64 {
        median(self.samples.iter().map(pick))
    }

    /// The median of a round-trip quantile, in microseconds.
    pub fn rtt_us(&self, index: usize) -> f64 {
        let times = self.samples.iter().filter_map(|it| it.rtt_us);
        median(times.map(|it| it[index]))
    }
}

/// Prints what was measured in one scenario; the first of its series is what ratios refer to.
pub fn print_table(measured: &Measured) {
    println!("\n{}", measured.scenario.name);
    println!(
        "  {:<46}{:>11}{:>8}{:>17}{:>8}{:>8}{:>9}{:>9}{:>9}{:>9}{:>9}",
        "",
        "per s",
        "ratio",
        "range",
        "Gbit/s",
        "cpu ns",
        "loss %",
        "p50 us",
        "p99 us",
        "p99.9 us",
        "RSS KiB"
    );
    let payload_len = match measured.scenario.measure {
        Measure::Rate(load) | Measure::HalfRate(load) => load.payload_len,
        Measure::RoundTrip { .. } => 64,
    };
    let yardstick = measured.series[0].median(|it| it.rate);
    for series in &measured.series {
        let rate = series.median(|it| it.rate);
        let rates = || series.samples.iter().map(|it| it.rate / yardstick);
        let low = rates().fold(f64::INFINITY, f64::min);
        let high = rates().fold(0.0, f64::max);
        let time = |index| match series.rtt_us(index) {
            us if us.is_nan() => "-".to_owned(),
            us => format!("{us:.1}"),
        };
        println!(
            "  {:<46}{rate:>11.0}{:>8.2}{:>17}{:>8.2}{:>8.0}{:>9.4}{:>9}{:>9}{:>9}{:>9.0}{}",
            series.contender.name,
            rate / yardstick,
            format!("{low:.2} .. {high:.2}"),
            rate * f64::from(payload_len) * 8.0 / 1e9,
            series.median(|it| it.cpu_ns),
            series.median(|it| it.loss_percent),
            time(0),
            time(1),
            time(2),
            series.median(|it| it.resident_kib as f64),
            remarks(series),
        );
    }
}

fn remarks(series: &Series) -> String {
    let mut words = String::new();
    let last = series.samples.last();
    if let Some(workers) = last.map(|it| &it.workers).filter(|it| it.len() > 1) {
        let total = workers.iter().sum::<u64>().max(1) as f64;
        let shares = workers
            .iter()
            .map(|&it| format!("{:.0} %", 100.0 * it as f64 / total));
        words += &format!("  workers {}", shares.collect::<Vec<_>>().join(", "));
    }
    let mut limited = series.samples.iter().rev();
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
