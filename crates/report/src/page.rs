//! What people read: aligned columns, units in their heads.

use std::io::{self, Write};

use hdrhistogram::Histogram;

use crate::group::Group;
use crate::run::{Kind, Run};

/// Quantiles of the table, and how they are written in percent.
const QUANTILES: [(f64, &str); 15] = [
    (0.0, "0"),
    (0.25, "25"),
    (0.5, "50"),
    (0.75, "75"),
    (0.9, "90"),
    (0.95, "95"),
    (0.99, "99"),
    (0.995, "99.5"),
    (0.999, "99.9"),
    (0.9995, "99.95"),
    (0.9999, "99.99"),
    (0.99999, "99.999"),
    (0.999999, "99.9999"),
    (0.9999999, "99.99999"),
    (1.0, "100"),
];

/// The quantiles that `times_ns` has values enough for, with how each is written in percent, and the
/// time in nanoseconds.
pub fn quantiles(times_ns: &Histogram<u64>) -> impl Iterator<Item = (f64, &'static str, u64)> + '_ {
    let is_told =
        |quantile: f64| quantile >= 1.0 || (1.0 - quantile) * times_ns.len() as f64 >= 1.0;
    QUANTILES
        .into_iter()
        .filter(move |&(quantile, _)| is_told(quantile))
        .map(|(quantile, percent)| (quantile, percent, times_ns.value_at_quantile(quantile)))
}

/// Writes all of `groups`, and what is `worse` than allowed.
///
/// # Errors
/// What writing says.
pub fn write(out: &mut impl Write, groups: &[Group], worse: &[String]) -> io::Result<()> {
    for (index, group) in groups.iter().enumerate() {
        if index > 0 {
            writeln!(out)?;
        }
        write_group(out, group)?;
    }
    if !worse.is_empty() {
        writeln!(out)?;
    }
    for worse in worse {
        writeln!(out, "worse: {worse}")?;
    }
    Ok(())
}

fn write_group(out: &mut impl Write, group: &Group) -> io::Result<()> {
    let targets: Vec<_> = group
        .total()
        .map(|run| run.targets.iter().map(String::as_str).collect())
        .unwrap_or_default();
    let at = if targets.is_empty() { "" } else { ", target " };
    writeln!(out, "{}{at}{}", group.kind, targets.join(", "))?;
    let runs = group.runs.iter().chain(&group.merged);
    let baseline = group.baseline.iter().map(|run| ("baseline: ", run));
    let rows = runs.map(|run| ("", run)).chain(baseline);
    write_rows(out, &group.kind, rows)?;
    if let Some(times_ns) = group.total().and_then(|it| it.times_ns.as_ref()) {
        write_quantiles(out, group, times_ns)?;
    }
    let changes = group.changes();
    if !changes.is_empty() {
        writeln!(
            out,
            "\n  {:<10}{:>14}{:>14}{:>12}",
            "", "baseline", "now", "change"
        )?;
    }
    for change in &changes {
        let unit = if change.is_points { "points" } else { "%" };
        let digits = if change.is_points { 4 } else { 1 };
        writeln!(
            out,
            "  {:<10}{:>14.digits$}{:>14.digits$}{:>+12.digits$} {unit}",
            change.quantity, change.baseline, change.now, change.change
        )?;
    }
    for note in &group.notes {
        writeln!(out, "note: {note}")?;
    }
    Ok(())
}

fn write_rows<'a>(
    out: &mut impl Write,
    kind: &Kind,
    rows: impl Iterator<Item = (&'static str, &'a Run)>,
) -> io::Result<()> {
    let (asked, answered) = match kind {
        Kind::Residence => ("received", "replied"),
        _ => ("sent", "received"),
    };
    writeln!(
        out,
        "  {:>8}{:>12}{:>12}{:>9}{:>11}{:>9}{:>9}{:>9}{:>10}{:>10}  file",
        "seconds",
        asked,
        answered,
        "lost %",
        "rate /s",
        "p50 us",
        "p90 us",
        "p99 us",
        "p99.9 us",
        "max us"
    )?;
    for (prefix, run) in rows {
        let name = format!("{prefix}{}", run.name);
        let counters = run.counters.map(|it| match kind {
            Kind::Residence => (it.received, it.replied),
            _ => (it.sent, it.received),
        });
        let whole = |n: Option<u64>| n.map_or("-".to_owned(), |n| n.to_string());
        let decimals =
            |n: Option<f64>, digits| n.map_or("-".to_owned(), |n| format!("{n:.digits$}"));
        let times = run.times;
        writeln!(
            out,
            "  {:>8}{:>12}{:>12}{:>9}{:>11}{:>9}{:>9}{:>9}{:>10}{:>10}  {}",
            decimals(Some(run.seconds).filter(|&it| it > 0.0), 3),
            whole(counters.map(|it| it.0)),
            whole(counters.map(|it| it.1)),
            decimals(run.loss_percent(), 4),
            decimals(run.rate_pps, 0),
            decimals(times.map(|it| it.p50), 1),
            decimals(times.map(|it| it.p90), 1),
            decimals(times.map(|it| it.p99), 1),
            decimals(times.map(|it| it.p99_9), 1),
            decimals(times.map(|it| it.max), 1),
            name
        )?;
        write_wrong(out, run)?;
    }
    Ok(())
}

/// What is wrong rather than slow stands below its row.
fn write_wrong(out: &mut impl Write, run: &Run) -> io::Result<()> {
    let Some(counters) = run.counters else {
        return Ok(());
    };
    for (count, what) in [
        (
            counters.wrong_source,
            "answered from an address that was not asked",
        ),
        (
            counters.refused,
            "refused by the kernel that was to send them",
        ),
        (
            counters.kernel_drops,
            "dropped by the kernel, for want of receive buffer",
        ),
    ] {
        if count > 0 {
            writeln!(out, "  {:>8}{count:>12}  {what}", "")?;
        }
    }
    Ok(())
}

fn write_quantiles(
    out: &mut impl Write,
    group: &Group,
    times_ns: &Histogram<u64>,
) -> io::Result<()> {
    let baseline = group.baseline.as_ref().and_then(|it| it.times_ns.as_ref());
    let head = if baseline.is_some() {
        "baseline us"
    } else {
        ""
    };
    let head = format!("  {:>12}{:>14}{head:>14}", "percentile", "us");
    writeln!(out, "\n{}", head.trim_end())?;
    for (quantile, percent, ns) in quantiles(times_ns) {
        let us = |ns: u64| format!("{:.1}", ns as f64 / 1000.0);
        let before = baseline.map_or_else(String::new, |it| us(it.value_at_quantile(quantile)));
        let line = format!("  {percent:>12}{:>14}{before:>14}", us(ns));
        writeln!(out, "{}", line.trim_end())?;
    }
    Ok(())
}
