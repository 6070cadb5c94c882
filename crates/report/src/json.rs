//! The JSON lines of `reflector --json` and `reflector load --json`.

mod objects;

use std::collections::BTreeMap;
use std::io::BufRead;

use crate::lines::{Fault, Lines};
use crate::run::{Counters, Kind, Run, Saved, Settings, Variation};
pub(crate) use objects::report_in;
use objects::{LINE_LEN_MAX, Object, Totals, is_json, parse};
use reflector_measure::quantiles::Quantiles;

/// Bytes of a target, or of a reason, that are kept of each run.
const TEXT_LEN_MAX: usize = 300;
/// Runs of one file.
const RUNS_MAX: usize = 1000;

/// Reads all of `lines`, which are those of the file `name`. Lines of a log between them, as where
/// stdout and stderr went to one place, are counted.
///
/// # Errors
/// The first object of a schema that is not read, or damaged. A last line that was cut off is left
/// out with a warning.
pub(crate) fn read(lines: &mut Lines<impl BufRead>, name: &str) -> Result<Saved, Fault> {
    let mut contents = Contents::default();
    let mut warnings = Vec::new();
    let mut cut_line = None;
    let mut stepped_over = 0_u64;
    let mut last_line = 0;
    while let Some(line) = lines.read()? {
        last_line = line.number;
        if line.text.trim().is_empty() {
            continue;
        }
        if line.text.len() > LINE_LEN_MAX {
            let said = format!("it has more than {} MiB", LINE_LEN_MAX >> 20);
            return Err(Fault::at(line.number, said));
        }
        let Some(report) = report_in(&line.text) else {
            // What is damaged is no log.
            if line.text.trim_start().starts_with('{') && !is_json(&line.text) {
                let said = "it is neither a report nor a line of a log";
                warnings.push(line.left_out(name, said, !contents.is_empty())?);
                cut_line = Some(line.number);
            } else {
                stepped_over += 1;
            }
            continue;
        };
        match parse(&report) {
            Ok(object) => contents.add(object, line.number)?,
            Err(said) => {
                warnings.push(line.left_out(name, said, !contents.is_empty())?);
                cut_line = Some(line.number);
            }
        }
    }
    if stepped_over > 0 {
        warnings.push(format!(
            "{name}: {stepped_over} lines that are no report, as of a log, are stepped over"
        ));
    }
    if let (Some(number), true) = (cut_line, contents.is_without_counts()) {
        let said = "it is cut off, and no interval or summary is before it";
        return Err(Fault::at(number, said));
    }
    contents.finish(name, warnings, last_line)
}

/// What the objects of a file come to.
#[derive(Default)]
struct Contents {
    /// Runs that are over, in their order.
    over: Vec<Total>,
    /// Intervals since the last `ready` or summary, by kind.
    pending: BTreeMap<Kind, Total>,
    /// What was asked for last.
    settings: Option<Settings>,
    /// Whether the intervals are those of a search, whose steps are no runs.
    is_search: bool,
    has_begun: bool,
}

/// One run.
struct Total {
    kind: Kind,
    settings: Option<Settings>,
    seconds: f64,
    span: Option<(f64, f64)>,
    counters: Counters,
    target: Option<String>,
    /// None of a run without a summary.
    times: Option<Quantiles>,
    variation: Variation,
    rate_pps: Option<f64>,
    limited_by: Option<String>,
    is_interrupted: bool,
    is_cut: bool,
    /// Whether a train counts once among what the kernel dropped, as in files without
    /// `trains_dropped`.
    drops_trains: bool,
}

impl Total {
    fn new(kind: Kind, settings: Option<Settings>) -> Self {
        Self {
            kind,
            settings,
            seconds: 0.0,
            span: None,
            counters: Counters::default(),
            target: None,
            times: None,
            variation: Variation::default(),
            rate_pps: None,
            limited_by: None,
            is_interrupted: false,
            is_cut: false,
            drops_trains: false,
        }
    }

    fn add(&mut self, totals: &Totals) {
        self.seconds += totals.seconds;
        self.counters.add(&totals.counters());
        let short = |text: &Option<String>| text.clone().filter(|it| it.len() <= TEXT_LEN_MAX);
        self.target = self.target.take().or_else(|| short(&totals.target));
        self.limited_by = short(&totals.limited_by);
        self.is_interrupted |= totals.interrupted;
        self.drops_trains |= totals.trains_dropped.is_none() && totals.kernel_drops > 0;
        let span = totals.start_unix_seconds.zip(totals.end_unix_seconds);
        self.span = match (self.span, span) {
            (Some((start, _)), Some((_, end))) => Some((start, end)),
            (before, now) => now.or(before),
        };
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
            Object::Ready(ready) => {
                self.cut_off(line)?;
                (self.settings, self.is_search) = (ready.settings(), false);
            }
            Object::Step => {
                self.pending.clear();
                self.is_search = true;
            }
            Object::Interval(totals) => {
                let kind = kind(&totals, line)?;
                let settings = self.settings.clone();
                let total = self.pending.entry(kind.clone());
                total
                    .or_insert_with(|| Total::new(kind, settings))
                    .add(&totals);
            }
            Object::Summary(totals) => {
                // It counts what the intervals before it do.
                self.pending.clear();
                let mut total = Total::new(kind(&totals, line)?, self.settings.clone());
                total.add(&totals);
                let times = totals.rtt_us.or(totals.residence_us);
                total.times = times.filter(|it| it.count > 0);
                total.variation = totals.variation();
                self.push(total, line)?;
            }
            Object::FoundRate(found) => {
                let kind = Kind::HighestRate(found.max_loss_percent.to_string());
                let mut total = Total::new(kind, self.settings.clone());
                total.rate_pps = found.rate_pps;
                total.span = found.start_unix_seconds.zip(found.end_unix_seconds);
                total.limited_by = found.limited_by.filter(|it| it.len() <= TEXT_LEN_MAX);
                self.push(total, line)?;
            }
        }
        Ok(())
    }

    fn push(&mut self, total: Total, line: u64) -> Result<(), Fault> {
        if self.over.len() == RUNS_MAX {
            let said =
                format!("more than {RUNS_MAX} runs in one file; split it, and name the pieces");
            return Err(Fault::at(line, said));
        }
        self.over.push(total);
        Ok(())
    }

    /// What has no summary by now never gets one.
    fn cut_off(&mut self, line: u64) -> Result<(), Fault> {
        let pending = std::mem::take(&mut self.pending);
        let is_search = self.is_search;
        for mut total in pending.into_values().filter(|_| !is_search) {
            total.is_cut = true;
            self.push(total, line)?;
        }
        Ok(())
    }

    fn finish(
        mut self,
        name: &str,
        mut warnings: Vec<String>,
        last_line: u64,
    ) -> Result<Saved, Fault> {
        self.cut_off(last_line)?;
        if self.over.is_empty() {
            return Err(Fault::new(
                "it holds no summary and no interval: the run ended before it began",
            ));
        }
        let count = |kind: &Kind| self.over.iter().filter(|it| it.kind == *kind).count();
        let counts: Vec<_> = self.over.iter().map(|it| count(&it.kind)).collect();
        let mut seen: BTreeMap<Kind, usize> = BTreeMap::new();
        let mut runs = Vec::with_capacity(self.over.len());
        for (total, count) in self.over.into_iter().zip(counts) {
            let number = seen.entry(total.kind.clone()).or_default();
            *number += 1;
            let name = match count {
                1 => name.to_owned(),
                _ => format!("{name} #{number}"),
            };
            warnings.extend(caveats(&name, &total));
            runs.push(total.into_run(name));
        }
        Ok(Saved {
            runs,
            warnings,
            has_no_unit: false,
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

/// What a reader should know about a run.
fn caveats(name: &str, total: &Total) -> Vec<String> {
    let mut caveats = Vec::new();
    if total.is_cut {
        caveats.push(format!(
            "{name}: no summary, the run was cut off; its intervals are summed, without quantiles"
        ));
    }
    if total.is_interrupted {
        caveats.push(format!("{name}: stopped before its end"));
    }
    match total.limited_by.as_deref() {
        Some("rate") => caveats.push(format!("{name}: the search ended at its own --rate")),
        Some(limit) => {
            caveats.push(format!("{name}: limited by the {limit}, not by the target"));
        }
        None => {}
    }
    caveats
}

impl Total {
    fn into_run(self, name: String) -> Run {
        let is_measured = !matches!(self.kind, Kind::HighestRate(_));
        // What the generator got back, and what the reflector sent back.
        let good = match self.kind {
            Kind::Residence => self.counters.replied,
            _ => self.counters.received,
        };
        let rate = (self.seconds > 0.0).then(|| good as f64 / self.seconds);
        let drops = self.counters.kernel_drops;
        let is_less = matches!(self.kind, Kind::Residence) && self.drops_trains;
        let note = is_less.then(|| {
            format!(
                "{name}: of what was lost, {drops} did not fit its receive buffers, where a train \
                 counts once: with trains it is more"
            )
        });
        Run {
            targets: self.target.into_iter().collect(),
            settings: self.settings,
            seconds: self.seconds,
            span: self.span,
            counters: is_measured.then_some(self.counters),
            rate_pps: if is_measured { rate } else { self.rate_pps },
            times: self.times,
            variation: self.variation,
            notes: note.into_iter().collect(),
            ..Run::new(name, self.kind)
        }
    }
}

#[cfg(test)]
mod tests;
