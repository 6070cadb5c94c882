//! What people and programs read: aligned columns and a spectrum of percentiles, or JSON lines.

use std::io::{self, Write};

use hdrhistogram::Histogram;

use crate::find_rate::{Found, Step};
use crate::plan::{Offer, Plan};
use crate::run::{Interval, Outcome};
use crate::summary::{Ready, Summary, Totals};
use reflector_measure::error::Error;
use reflector_measure::json::write_line;
use reflector_measure::quantiles::Quantiles;

/// Writes reports, for people or for programs.
pub struct Reporter<W> {
    out: W,
    json: bool,
    /// Whether a line that changes can be shown.
    is_terminal: bool,
    has_progress: bool,
}

/// Quantiles of the spectrum, and how they are written in percent.
const SPECTRUM: [(f64, &str); 13] = [
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
    (1.0, "100"),
];
/// Columns of the longest bar.
const BAR_LEN: f64 = 40.0;

impl<W: Write> Reporter<W> {
    /// A reporter that writes JSON lines or columns to `out`.
    pub fn new(out: W, json: bool, is_terminal: bool) -> Self {
        Self {
            out,
            json,
            is_terminal,
            has_progress: false,
        }
    }

    /// Says what is going to be done.
    ///
    /// # Errors
    /// What writing says.
    pub fn ready(&mut self, plan: &Plan) -> Result<(), Error> {
        let ready = Ready::new(plan);
        let written = if self.json {
            write_line(&mut self.out, "ready", &ready)
        } else {
            writeln!(self.out, "{}", headline(&ready)).and_then(|()| self.out.flush())
        };
        or_gone(written)
    }

    /// Reports an interval: a line for programs, one that changes for people at a terminal.
    ///
    /// # Errors
    /// What writing says.
    pub fn interval(
        &mut self,
        plan: &Plan,
        offer: &Offer,
        interval: &Interval<'_>,
    ) -> Result<(), Error> {
        if !self.is_wanted(plan) {
            return Ok(());
        }
        let totals = Totals::of_interval(plan, offer, interval);
        let written = if self.json {
            write_line(&mut self.out, "interval", &totals)
        } else {
            self.has_progress = true;
            let at = (interval.start + interval.length).as_secs_f64();
            write!(self.out, "\r\x1b[K{}", progress(at, &totals)).and_then(|()| self.out.flush())
        };
        or_gone(written)
    }

    /// Whether intervals are reported.
    fn is_wanted(&self, plan: &Plan) -> bool {
        plan.interval.is_some()
            && if self.json {
                plan.find_rate.is_none()
            } else {
                self.is_terminal
            }
    }

    fn end_progress(&mut self) -> io::Result<()> {
        if std::mem::take(&mut self.has_progress) {
            write!(self.out, "\r\x1b[K")?;
        }
        Ok(())
    }

    /// Reports the whole measurement.
    ///
    /// # Errors
    /// What writing says.
    pub fn summary(
        &mut self,
        plan: &Plan,
        summary: &Summary,
        outcome: &Outcome,
    ) -> Result<(), Error> {
        let written = if self.json {
            write_line(&mut self.out, "summary", summary)
        } else {
            self.end_progress()
                .and_then(|()| write_counters(&mut self.out, summary))
                .and_then(|()| write_times(&mut self.out, plan, summary, outcome))
                .and_then(|()| write_words(&mut self.out, summary))
                .and_then(|()| self.out.flush())
        };
        or_gone(written)
    }

    /// Reports one step of a search.
    ///
    /// # Errors
    /// What writing says.
    pub fn step(&mut self, step: &Step, is_first: bool) -> Result<(), Error> {
        let written = if self.json {
            write_line(&mut self.out, "step", step)
        } else {
            self.end_progress().and_then(|()| {
                if is_first {
                    writeln!(
                        self.out,
                        "\n{:>14} {:>14} {:>12} {:>12}   verdict",
                        "offered /s", "sent /s", "lost %", "p99 us"
                    )?;
                }
                let offered = step
                    .offered_pps
                    .map_or("max".to_owned(), |it| format!("{it:.0}"));
                writeln!(
                    self.out,
                    "{offered:>14} {:>14.0} {:>12.4} {:>12.1}   {}",
                    step.achieved_pps, step.loss_percent, step.rtt_p99_us, step.verdict
                )?;
                self.out.flush()
            })
        };
        or_gone(written)
    }

    /// Reports what a search found.
    ///
    /// # Errors
    /// What writing says.
    pub fn found(&mut self, found: &Found) -> Result<(), Error> {
        let written = if self.json {
            write_line(&mut self.out, "found_rate", found)
        } else {
            write_found(&mut self.out, found).and_then(|()| self.out.flush())
        };
        or_gone(written)
    }
}

/// A reader that has left, such as `head`, has what it wanted; the measurement goes on to its exit
/// code.
fn or_gone(written: io::Result<()>) -> Result<(), Error> {
    match written {
        Err(e) if e.kind() != io::ErrorKind::BrokenPipe => {
            Err(Error::system("cannot write the report", &e))
        }
        _ => Ok(()),
    }
}

/// The load in one line.
fn headline(ready: &Ready) -> String {
    let rate = ready
        .offered_pps
        .map_or("as many as can be sent".to_owned(), |pps| {
            let times = if ready.poisson {
                " at random times"
            } else {
                ""
            };
            format!("{} /s{times}", number(pps))
        });
    let sizes: Vec<_> = ready.sizes.iter().map(ToString::to_string).collect();
    let mut line = format!("load on {}", ready.target);
    if ready.target != ready.address.to_string() {
        line += &format!(" ({})", ready.address);
    }
    line += &format!(": {rate}, {} bytes", sizes.join("/"));
    if ready.burst > 1 {
        line += &format!(", bursts of {}", ready.burst);
    }
    if let Some(window) = ready.window {
        line += &format!(", at most {window} unanswered per flow");
    }
    let plural = |count: usize| if count == 1 { "" } else { "s" };
    line + &format!(
        ", {} flow{}, {} core{}",
        ready.flows,
        plural(ready.flows),
        ready.cores,
        plural(ready.cores)
    )
}

/// A rate without decimals that say nothing.
fn number(pps: f64) -> String {
    if pps >= 10.0 {
        format!("{pps:.0}")
    } else {
        format!("{pps}")
    }
}

/// The line that changes.
fn progress(at: f64, totals: &Totals) -> String {
    format!(
        "{at:>6.0} s {:>12.0} sent /s {:>12.0} received /s   p50 {:.1} us   p99 {:.1} us   lost {}",
        totals.achieved_pps,
        totals.received as f64 / totals.seconds.max(1e-9),
        totals.rtt_us.p50,
        totals.rtt_us.p99,
        totals.lost
    )
}

fn write_counters(out: &mut impl Write, summary: &Summary) -> io::Result<()> {
    let totals = &summary.totals;
    let per_second = |count: u64| count as f64 / totals.seconds.max(1e-9);
    let stopped = if summary.interrupted { ", stopped" } else { "" };
    writeln!(out, "\nsummary of {:.3} s{stopped}", totals.seconds)?;
    for (name, count) in [("sent", totals.sent), ("received", totals.received)] {
        writeln!(
            out,
            "  {name:<18}{count:>14}  {:>14.0} /s",
            per_second(count)
        )?;
    }
    writeln!(
        out,
        "  {:<18}{:>14}  {:>14.4} %",
        "lost", totals.lost, totals.loss_percent
    )?;
    let wrong = &totals.wrong_source;
    let expected = format!("expected {}", wrong.expected);
    for (name, count, meaning) in [
        ("  late", totals.late, "answered after the timeout"),
        ("  corrupt", totals.corrupt, "answered with other bytes"),
        ("  wrong source", wrong.total, &*expected),
        ("duplicated", totals.duplicated, "answered more than once"),
        ("reordered", totals.reordered, "answered after a later one"),
        ("foreign", totals.foreign, "datagrams that are no answers"),
        ("unsent", summary.unsent, "due, and left out"),
        (
            "kernel drops",
            summary.kernel_drops,
            "at our sockets, for want of receive buffer",
        ),
        (
            "sndbuf errors",
            summary.sndbuf_errors,
            "of the whole host, by full device queues",
        ),
    ] {
        if count > 0 {
            writeln!(out, "  {name:<18}{count:>14}  {meaning}")?;
        }
        if name.ends_with("source") {
            for (source, count) in &wrong.seen {
                writeln!(out, "  {:<18}{count:>14}  seen {source}", "")?;
            }
        }
    }
    for (name, count) in &totals.icmp {
        writeln!(out, "  {:<18}{count:>14}  {name}", "icmp")?;
    }
    for (errno, count) in &totals.send_errors {
        writeln!(out, "  {:<18}{count:>14}  {errno}", "send errors")?;
    }
    Ok(())
}

fn write_times(
    out: &mut impl Write,
    plan: &Plan,
    summary: &Summary,
    outcome: &Outcome,
) -> io::Result<()> {
    let totals = &summary.totals;
    if totals.rtt_us.count == 0 {
        return Ok(());
    }
    writeln!(
        out,
        "\n  {:<16}{:>10}{:>10}{:>10}{:>10}{:>10}{:>10}{:>10}",
        "microseconds", "min", "p50", "p90", "p99", "p99.9", "p99.99", "max"
    )?;
    for (name, times, meaning) in [
        ("round trip", &totals.rtt_us, "from the scheduled time"),
        (
            "  uncorrected",
            &totals.rtt_uncorrected_us,
            "from the actual send",
        ),
        ("send lag", &totals.send_lag_us, "between the two"),
    ] {
        write_quantiles(out, name, times, meaning)?;
    }
    let times_ns = outcome.stats.rtt_with_losses_ns(plan.timeout_ns());
    write_spectrum(out, &times_ns, plan.timeout_ns(), totals.lost > 0)
}

fn write_quantiles(
    out: &mut impl Write,
    name: &str,
    times: &Quantiles,
    meaning: &str,
) -> io::Result<()> {
    if times.count == 0 {
        return Ok(());
    }
    write!(out, "  {name:<16}")?;
    for us in [
        times.min,
        times.p50,
        times.p90,
        times.p99,
        times.p99_9,
        times.p99_99.unwrap_or(times.max),
        times.max,
    ] {
        write!(out, "{us:>10.1}")?;
    }
    writeln!(out, "  {meaning}")
}

/// The round trips by percentile, as far as there are datagrams for it. Bars grow with the
/// logarithm.
fn write_spectrum(
    out: &mut impl Write,
    times_ns: &Histogram<u64>,
    timeout_ns: u64,
    has_losses: bool,
) -> io::Result<()> {
    writeln!(out, "\n  round trip by percentile, us")?;
    let shortest = times_ns.min().max(1) as f64;
    let span = (times_ns.max() as f64 / shortest)
        .ln()
        .max(f64::MIN_POSITIVE);
    for (quantile, percentile) in SPECTRUM {
        let beyond = (1.0 - quantile) * times_ns.len() as f64;
        if quantile < 1.0 && beyond < 1.0 {
            continue;
        }
        let ns = times_ns.value_at_quantile(quantile).max(1);
        let bar = ((ns as f64 / shortest).ln() / span).clamp(0.0, 1.0) * BAR_LEN;
        let is_lost = has_losses && times_ns.equivalent(ns, timeout_ns);
        let lost = if is_lost { " lost" } else { "" };
        writeln!(
            out,
            "  {percentile:>8} % {:>12.1}  {}{lost}",
            ns as f64 / 1000.0,
            "#".repeat(1 + bar as usize)
        )?;
    }
    Ok(())
}

fn write_words(out: &mut impl Write, summary: &Summary) -> io::Result<()> {
    if !summary.missed.is_empty() || !summary.notes.is_empty() {
        writeln!(out)?;
    }
    for missed in &summary.missed {
        writeln!(out, "missed: {missed}")?;
    }
    for note in &summary.notes {
        writeln!(out, "note: {note}")?;
    }
    if summary.silent_flows.total > 0 && summary.silent_flows.total < summary.silent_flows.of {
        let ports: Vec<_> = summary
            .silent_flows
            .ports
            .iter()
            .map(ToString::to_string)
            .collect();
        writeln!(out, "      their source ports: {}", ports.join(" "))?;
    }
    Ok(())
}

fn write_found(out: &mut impl Write, found: &Found) -> io::Result<()> {
    match found.rate_pps {
        Some(pps) if found.interrupted => writeln!(
            out,
            "\nhighest rate so far with at most {} % lost: {pps:.0} /s, not confirmed",
            found.max_loss_percent
        )?,
        None if found.interrupted => writeln!(
            out,
            "\nno rate so far with at most {} % lost",
            found.max_loss_percent
        )?,
        Some(pps) => writeln!(
            out,
            "\nhighest rate with at most {} % lost: {pps:.0} /s, confirmed {} times",
            found.max_loss_percent, found.confirmations
        )?,
        None => writeln!(
            out,
            "\nno rate was found with at most {} % lost",
            found.max_loss_percent
        )?,
    }
    for note in &found.notes {
        writeln!(out, "note: {note}")?;
    }
    Ok(())
}
