//! The JSON lines of `reflector --json` and `reflector load --json`.

use std::collections::{BTreeMap, BTreeSet};
use std::io::BufRead;
use std::ops::RangeInclusive;

use serde::Deserialize;
use serde_json::Value;

use crate::lines::{Fault, Line, Lines};
use crate::run::{Counters, Kind, Run, Saved};
use reflector_measure::json::SCHEMA;
use reflector_measure::quantiles::Quantiles;

/// Schemas that are read. The keys that are of interest here are the same in all of them.
const SCHEMAS_READ: RangeInclusive<u64> = 1..=SCHEMA as u64;

/// One object, as far as it is of interest.
#[derive(Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
enum Object {
    Ready {},
    Interval(Box<Totals>),
    Summary(Box<Totals>),
    Step {},
    FoundRate {
        rate_pps: Option<f64>,
        max_loss_percent: f64,
        limited_by: Option<String>,
    },
}

/// Counters of an interval or of a run, by the generator or by the reflector.
#[derive(Deserialize)]
struct Totals {
    seconds: f64,
    received: u64,
    #[serde(default)]
    sent: u64,
    #[serde(default)]
    replied: u64,
    #[serde(default)]
    lost: u64,
    #[serde(default)]
    kernel_drops: u64,
    #[serde(default)]
    dropped: BTreeMap<String, u64>,
    #[serde(default)]
    send_errors: BTreeMap<String, u64>,
    wrong_source: Option<WrongSource>,
    rtt_us: Option<Quantiles>,
    residence_us: Option<Quantiles>,
    target: Option<String>,
    limited_by: Option<String>,
    #[serde(default)]
    interrupted: bool,
}

#[derive(Deserialize)]
struct WrongSource {
    total: u64,
}

impl Totals {
    fn kind(&self) -> Option<Kind> {
        let round_trip = self.rtt_us.map(|_| Kind::RoundTrip);
        round_trip.or(self.residence_us.map(|_| Kind::Residence))
    }

    fn counters(&self) -> Counters {
        let sum = |counters: &BTreeMap<String, u64>| counters.values().sum();
        Counters {
            sent: self.sent,
            received: self.received,
            replied: self.replied,
            lost: self.lost,
            refused: sum(&self.send_errors),
            dropped: sum(&self.dropped),
            wrong_source: self.wrong_source.as_ref().map_or(0, |it| it.total),
            kernel_drops: self.kernel_drops,
        }
    }
}

/// Reads all of `lines`, which are those of the file `name`.
///
/// # Errors
/// The first line that is no object of a schema that is read. A last line that was cut off is left
/// out with a warning.
pub(crate) fn read(mut lines: Lines<impl BufRead>, name: &str) -> Result<Saved, Fault> {
    let mut contents = Contents::default();
    let mut warnings = Vec::new();
    let mut cut_line = None;
    while let Some(line) = lines.read()? {
        if line.text.trim().is_empty() {
            continue;
        }
        match parse(&line) {
            Ok(object) => contents.add(object, line.number)?,
            Err(said) => {
                warnings.push(line.left_out(name, said, !contents.is_empty())?);
                cut_line = Some(line.number);
            }
        }
    }
    if let (Some(number), true) = (cut_line, contents.is_without_counts()) {
        let said = "it is cut off, and no interval or summary is before it";
        return Err(Fault::at(number, said));
    }
    contents.finish(name, warnings)
}

fn parse(line: &Line) -> Result<Object, String> {
    // serde_json says where in the line; that the line is number 1 of what it was given says
    // nothing.
    let said = |e: serde_json::Error| {
        let column = e.column();
        let said = e.to_string();
        let said = said.split(" at line ").next().unwrap_or_default();
        match column {
            0 => said.to_owned(),
            _ => format!("{said} at column {column}"),
        }
    };
    let value: Value = serde_json::from_str(&line.text).map_err(said)?;
    match value.get("schema").and_then(Value::as_u64) {
        Some(schema) if SCHEMAS_READ.contains(&schema) => {}
        Some(schema) => {
            let (first, last) = (SCHEMAS_READ.start(), SCHEMAS_READ.end());
            return Err(format!(
                "it is of schema {schema}, and this reflector reads {first} to {last}"
            ));
        }
        None => return Err("it has no \"schema\": it is not a report of reflector".to_owned()),
    }
    serde_json::from_value(value).map_err(said)
}

/// What the objects of a file come to.
#[derive(Default)]
struct Contents {
    /// Runs that are over, by kind.
    over: BTreeMap<Kind, Total>,
    /// Intervals since the last `ready` or summary.
    pending: BTreeMap<Kind, Total>,
    /// Runs without a summary.
    cut: usize,
    has_begun: bool,
}

/// One run, or several one after the other.
#[derive(Default)]
struct Total {
    runs: usize,
    seconds: f64,
    counters: Counters,
    targets: BTreeSet<String>,
    /// Those of the one run, if it has ended.
    times: Option<Quantiles>,
    rate_pps: Option<f64>,
    limited: BTreeSet<String>,
    interrupted: bool,
}

impl Total {
    fn add(&mut self, totals: &Totals) {
        self.seconds += totals.seconds;
        self.counters.add(&totals.counters());
        self.targets.extend(totals.target.clone());
        self.limited.extend(totals.limited_by.clone());
        self.interrupted |= totals.interrupted;
    }
}

impl Contents {
    fn is_empty(&self) -> bool {
        !self.has_begun
    }

    fn is_without_counts(&self) -> bool {
        self.over.is_empty() && self.pending.is_empty()
    }

    fn add(&mut self, object: Object, line: u64) -> Result<(), Fault> {
        self.has_begun = true;
        match object {
            Object::Ready {} => self.cut_off(),
            Object::Step {} => {}
            Object::Interval(totals) => self
                .pending
                .entry(kind(&totals, line)?)
                .or_default()
                .add(&totals),
            Object::Summary(totals) => {
                // It counts what the intervals before it do.
                self.pending.clear();
                let total = self.over.entry(kind(&totals, line)?).or_default();
                total.add(&totals);
                total.runs += 1;
                let times = totals.rtt_us.or(totals.residence_us);
                total.times = times.filter(|it| total.runs == 1 && it.count > 0);
            }
            Object::FoundRate {
                rate_pps,
                max_loss_percent,
                limited_by,
            } => {
                let kind = Kind::HighestRate(max_loss_percent.to_string());
                let total = self.over.entry(kind).or_default();
                total.runs += 1;
                total.rate_pps = rate_pps;
                total.limited.extend(limited_by);
            }
        }
        Ok(())
    }

    /// What has no summary by now never gets one.
    fn cut_off(&mut self) {
        for (kind, part) in std::mem::take(&mut self.pending) {
            self.cut += 1;
            let total = self.over.entry(kind).or_default();
            total.runs += 1;
            total.seconds += part.seconds;
            total.counters.add(&part.counters);
            total.times = None;
        }
    }

    fn finish(mut self, name: &str, mut warnings: Vec<String>) -> Result<Saved, Fault> {
        self.cut_off();
        if self.over.is_empty() {
            return Err(Fault::new(
                "it holds no summary and no interval: the run ended before it began",
            ));
        }
        if self.cut > 0 {
            warnings.push(format!(
                "{name}: no summary, the run was cut off; its intervals are summed, without \
                 quantiles"
            ));
        }
        for (kind, total) in &self.over {
            warnings.extend(caveats(name, kind, total));
        }
        let run = |(kind, total): (Kind, Total)| total.into_run(name, kind);
        Ok(Saved {
            runs: self.over.into_iter().map(run).collect(),
            warnings,
        })
    }
}

fn kind(totals: &Totals, line: u64) -> Result<Kind, Fault> {
    if !(totals.seconds.is_finite() && totals.seconds >= 0.0) {
        return Err(Fault::at(line, "its \"seconds\" are not a time"));
    }
    totals
        .kind()
        .ok_or_else(|| Fault::at(line, "it has neither rtt_us nor residence_us"))
}

/// What a reader should know about a file's runs of one kind.
fn caveats(name: &str, kind: &Kind, total: &Total) -> Vec<String> {
    let mut caveats = Vec::new();
    if total.runs > 1 && matches!(kind, Kind::HighestRate(_)) {
        caveats.push(format!(
            "{name}: of {} searches, the last is shown",
            total.runs
        ));
    } else if total.runs > 1 {
        caveats.push(format!(
            "{name}: {} consecutive runs are summed, without quantiles",
            total.runs
        ));
    }
    if total.interrupted {
        caveats.push(format!("{name}: stopped before its end"));
    }
    for limit in &total.limited {
        caveats.push(format!("{name}: limited by the {limit}, not by the target"));
    }
    caveats
}

impl Total {
    fn into_run(self, name: &str, kind: Kind) -> Run {
        let is_measured = !matches!(kind, Kind::HighestRate(_));
        // What the generator got back, and what the reflector sent back.
        let good = match kind {
            Kind::Residence => self.counters.replied,
            _ => self.counters.received,
        };
        let rate = (self.seconds > 0.0).then(|| good as f64 / self.seconds);
        Run {
            targets: self.targets,
            seconds: self.seconds,
            counters: is_measured.then_some(self.counters),
            rate_pps: if is_measured { rate } else { self.rate_pps },
            times: self.times,
            ..Run::new(name, kind)
        }
    }
}

#[cfg(test)]
mod tests;
