//! What people read: the load in a sentence, counters and percentiles in columns, notes. Pure.

mod interval;
mod search;
mod times;

use crate::missing::Bounds;
use crate::plan::Plan;
use crate::ready::Ready;
use crate::run::Outcome;
use crate::summary::Summary;
use crate::totals::Totals;
pub(crate) use interval::interval;
use reflector_measure::text::Align::{Left, Right};
use reflector_measure::text::{Table, paragraph};
pub(crate) use search::{found, step};

/// The load in a sentence, in lines of at most `width` columns.
pub(crate) fn opening(ready: &Ready, width: usize) -> String {
    let mut target = ready.target.clone();
    if ready.target != ready.address.to_string() {
        target += &format!(" ({})", ready.address);
    }
    let rate = match ready.offered_pps {
        None => "as many as can be sent".to_owned(),
        // A rate that is no whole number is small.
        Some(pps) if pps >= 10.0 => format!("{pps:.0} /s"),
        Some(pps) => format!("{pps} /s"),
    };
    let at_random = if ready.poisson {
        " at random times"
    } else {
        ""
    };
    let sizes: Vec<_> = ready.sizes.iter().map(ToString::to_string).collect();
    let mut load = format!("{target}: {rate}{at_random}, {} bytes", sizes.join(", "));
    if ready.burst > 1 {
        load += &format!(", bursts of {}", ready.burst);
    }
    if let Some(window) = ready.window {
        load += &format!(", at most {window} unanswered per flow");
    }
    let plural = |count: usize| if count == 1 { "" } else { "s" };
    load += &format!(
        ", {} flow{}, {} core{}",
        ready.flows,
        plural(ready.flows),
        ready.cores,
        plural(ready.cores)
    );
    paragraph("load on ", &load, width)
}

/// The whole measurement, in lines of at most `width` columns.
pub(crate) fn summary(plan: &Plan, summary: &Summary, outcome: &Outcome, width: usize) -> String {
    let stopped = if summary.interrupted { ", stopped" } else { "" };
    let mut page = format!("\nsummary of {:.3} s{stopped}\n", summary.totals.seconds);
    page += &counters(summary).fitted(width);
    if summary.totals.rtt_us.count > 0 {
        page += &times::table(&outcome.stats, plan.timeout_ns(), width);
        page += &spread(plan, &summary.totals, width);
    }
    if !summary.missed.is_empty() || !summary.notes.is_empty() {
        page.push('\n');
    }
    for missed in &summary.missed {
        page += &paragraph("missed: ", missed, width);
    }
    for note in &summary.notes {
        page += &paragraph("note: ", note, width);
    }
    let silent = &summary.silent_flows;
    if silent.total > 0 && silent.total < silent.of {
        let ports: Vec<_> = silent.ports.iter().map(ToString::to_string).collect();
        let ports = format!("their source ports: {}", ports.join(" "));
        page += &paragraph("      ", &ports, width);
    }
    page
}

/// What no percentile tells: the mean, and how much times differ from it, and from each other.
fn spread(plan: &Plan, totals: &Totals, width: usize) -> String {
    let [Some(mean), Some(deviation)] = [totals.rtt_mean_us, totals.rtt_deviation_us] else {
        return String::new();
    };
    let mut spread = format!("mean {mean:.1} us, deviation {deviation:.1} us");
    if let Some(ipdv) = totals.ipdv_us {
        spread += &format!(", delay variation {ipdv:.1} us");
    }
    let mut text = paragraph("  uncorrected: ", &spread, width);
    if let Some(gaps) = totals.departure_gaps.filter(|_| plan.poisson) {
        let gaps = format!(
            "{:.1} us apart, cv {:.2}, scheduled {:.2}",
            gaps.mean_us, gaps.cv, gaps.scheduled_cv
        );
        text += &paragraph("  departures: ", &gaps, width);
    }
    text
}

fn counters(summary: &Summary) -> Table {
    let totals = &summary.totals;
    let mut table = Table::new([Left, Right, Right, Left]);
    for (name, count) in [("sent", totals.sent), ("received", totals.received)] {
        let rate = count as f64 / totals.seconds.max(1e-9);
        table.row(&[&name, &count, &format!("{rate:.0}"), &"/s"]);
    }
    let percent = |percent: Option<f64>| percent.map_or("-".to_owned(), |it| format!("{it:.4}"));
    table.row(&[&"lost", &totals.lost, &percent(totals.loss_percent), &"%"]);
    if totals.refused > 0 {
        let share = percent(totals.refused_percent);
        table.row(&[&"refused here", &totals.refused, &share, &"%"]);
        for (errno, count) in &totals.send_errors {
            table.row(&[&"", count, &errno]);
        }
    }
    let mut row = |name: &str, count: u64, meaning: &str| {
        if count > 0 {
            table.row(&[&name, &count, &meaning]);
        }
    };
    let wrong = &totals.wrong_source;
    if summary.first_answer_seconds.is_some() {
        let cold = summary.lost_before_answer;
        row("  at start", cold, "sent before the first answer came");
    }
    row("  late", totals.late, "answered after the timeout");
    row("  corrupt", totals.corrupt, "answered with other bytes");
    row(
        "  wrong source",
        wrong.total,
        &format!("expected {}", wrong.expected),
    );
    for (source, &count) in &wrong.seen {
        row("", count, &format!("seen {source}"));
    }
    parts(&mut table, summary);
    let mut row = |name: &str, count: u64, meaning: &str| {
        if count > 0 {
            table.row(&[&name, &count, &meaning]);
        }
    };
    row("duplicated", totals.duplicated, "answered more than once");
    row("reordered", totals.reordered, "answered after a later one");
    row("foreign", totals.foreign, "not answers to these probes");
    row("unsent", summary.unsent, "due, but not sent");
    row(
        "sndbuf errors",
        summary.sndbuf_errors,
        "in this network namespace, by any program",
    );
    for (name, &count) in &totals.icmp {
        row("icmp", count, name);
    }
    table
}

/// Where what was lost and not answered otherwise was lost, where any of it was here.
fn parts(table: &mut Table, summary: &Summary) {
    let missing = &summary.missing;
    let mut row = |name: &str, part: Bounds, meaning: &str| {
        if part.most == 0 {
            return;
        }
        let meaning = match part.is_exact() {
            true => meaning.to_owned(),
            false => format!("at least, {} at most; {meaning}", part.most),
        };
        table.row(&[&name, &part.least, &meaning]);
    };
    let queue = missing.queue.unwrap_or_default();
    if queue.most + missing.own_sockets.most == 0 {
        return;
    }
    if let Some(it) = &summary.queue {
        row(
            "  queue",
            queue,
            &format!("dropped by {} of {}", it.kind, it.device),
        );
    }
    row("  own sockets", missing.own_sockets, "receive buffers full");
    row("  elsewhere", missing.elsewhere, "not on this host");
}

#[cfg(test)]
mod tests;
