//! What programs read: one JSON object per kind, one per line.

use std::io::{self, Write};

use serde::Serialize;

use crate::compare::Change;
use crate::group::Group;
use crate::run::{Counters, Run, Variation};
use crate::verdict::Verdict;
use reflector_measure::json::write_line;
use reflector_measure::quantiles::{PERCENTILES, Quantiles};

#[derive(Serialize)]
struct Object<'a> {
    kind: &'static str,
    detail: Option<&'a str>,
    apart: &'a str,
    runs: Vec<Row<'a>>,
    loads: Vec<Row<'a>>,
    merged: Option<Row<'a>>,
    spread: Option<[Row<'a>; 2]>,
    baseline: Option<Row<'a>>,
    changes: Vec<Change>,
    verdicts: Vec<Verdict>,
    notes: &'a [String],
    worse: &'a [String],
}

#[derive(Serialize)]
struct Row<'a> {
    name: &'a str,
    targets: Vec<&'a str>,
    seconds: f64,
    counters: Option<Counters>,
    rate_pps: Option<f64>,
    loss_percent: Option<f64>,
    times_us: Option<Quantiles>,
    #[serde(flatten)]
    variation: Variation,
    quantiles: Vec<Quantile>,
}

#[derive(Serialize)]
struct Quantile {
    quantile: f64,
    us: f64,
}

impl<'a> Row<'a> {
    fn new(run: &'a Run) -> Self {
        let quantile = |(quantile, _)| {
            let us = run.value_at(quantile)?;
            Some(Quantile { quantile, us })
        };
        Self {
            name: &run.name,
            targets: run.targets.iter().map(String::as_str).collect(),
            seconds: run.seconds,
            counters: run.counters,
            rate_pps: run.rate_pps,
            loss_percent: run.loss_percent(),
            times_us: run.times,
            variation: run.variation,
            quantiles: PERCENTILES.into_iter().filter_map(quantile).collect(),
        }
    }
}

/// Writes all of `groups`; what is `worse` than allowed stands in each.
///
/// # Errors
/// What `out` says, such as `EPIPE` or `ENOSPC`.
pub(crate) fn write(out: &mut impl Write, groups: &[Group], worse: &[String]) -> io::Result<()> {
    for group in groups {
        let merged = group.total().filter(|_| group.runs.len() > 1);
        let object = Object {
            kind: group.kind.name(),
            detail: group.kind.detail(),
            apart: &group.apart,
            runs: group.runs.iter().map(Row::new).collect(),
            loads: group.now.each.iter().map(Row::new).collect(),
            merged: merged.map(Row::new),
            spread: group
                .now
                .spread
                .as_ref()
                .map(|it| it.each_ref().map(Row::new)),
            baseline: group.baseline.total().map(Row::new),
            changes: group.changes(),
            verdicts: group.verdicts(),
            notes: &group.notes,
            worse,
        };
        write_line(out, "report", &object)?;
    }
    Ok(())
}
