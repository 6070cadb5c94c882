//! What people read: the load in a sentence, counters and percentiles in columns, notes. Pure.

use hdrhistogram::Histogram;

use crate::find_rate::{Found, Step};
use crate::plan::Plan;
use crate::run::Outcome;
use crate::summary::{Ready, Summary};
use reflector_measure::quantiles::{PERCENTILES, value_at};
use reflector_measure::text::Align::{Left, Right};
use reflector_measure::text::{Table, paragraph};

/// Columns of the longest bar, if the terminal has room for it.
const BAR_LEN_MAX: usize = 60;

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
    page += &counters(summary).to_string();
    if summary.totals.rtt_us.count > 0 {
        page += &times(plan, outcome, width);
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

fn counters(summary: &Summary) -> Table {
    let totals = &summary.totals;
    let mut table = Table::new([Left, Right, Right, Left]);
    for (name, count) in [("sent", totals.sent), ("received", totals.received)] {
        let rate = count as f64 / totals.seconds.max(1e-9);
        table.row(&[&name, &count, &format!("{rate:.0}"), &"/s"]);
    }
    let loss = format!("{:.4}", totals.loss_percent);
    table.row(&[&"lost", &totals.lost, &loss, &"%"]);
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
    row("duplicated", totals.duplicated, "answered more than once");
    row("reordered", totals.reordered, "answered after a later one");
    row("foreign", totals.foreign, "not answers to these probes");
    row("unsent", summary.unsent, "due, but not sent");
    row(
        "kernel drops",
        summary.kernel_drops,
        "on this host: receive buffers full",
    );
    row(
        "sndbuf errors",
        summary.sndbuf_errors,
        "on this host, by any program: device queues full",
    );
    for (name, &count) in &totals.icmp {
        row("icmp", count, name);
    }
    for (errno, &count) in &totals.send_errors {
        row("send errors", count, errno);
    }
    table
}

/// The times by percentile, each as far as there are datagrams for it. Bars grow with the logarithm
/// of the round trip.
fn times(plan: &Plan, outcome: &Outcome, width: usize) -> String {
    let timeout_ns = plan.timeout_ns();
    let has_losses = outcome.stats.counters.lost() > 0;
    let round_trip = outcome.stats.rtt_with_losses_ns(timeout_ns);
    let columns = [
        &round_trip,
        &outcome.stats.rtt_uncorrected_ns,
        &outcome.stats.send_lag_ns,
    ];
    let rows = |bar_len: usize| {
        let mut table = Table::new([Right, Right, Right, Right, Left]);
        table.row(&[
            &"percentile",
            &"round trip",
            &"uncorrected",
            &"send lag",
            &"",
        ]);
        for (quantile, percent) in PERCENTILES {
            let [Some(ns), uncorrected, lag] = columns.map(|it| value_at(it, quantile)) else {
                continue;
            };
            let mut bar = bar(&round_trip, ns, bar_len);
            if has_losses && round_trip.equivalent(ns, timeout_ns) {
                bar += " lost";
            }
            table.row(&[&percent, &us(Some(ns)), &us(uncorrected), &us(lag), &bar]);
        }
        table
    };
    // What is left beside the numbers is the bars'; the shortest has one column.
    let room = (width + 1).saturating_sub(rows(1).width());
    let table = rows(room.clamp(1, BAR_LEN_MAX));
    let legend = "microseconds; round trips are from the scheduled time, uncorrected ones from the \
                  actual send, and the send lag is between the two";
    format!("\n{table}{}", paragraph("  ", legend, width))
}

fn us(ns: Option<u64>) -> String {
    ns.map_or("-".to_owned(), |ns| format!("{:.1}", ns as f64 / 1000.0))
}

/// A bar for `ns`, of 1 to `len_max` columns.
fn bar(times_ns: &Histogram<u64>, ns: u64, len_max: usize) -> String {
    let shortest = times_ns.min().max(1) as f64;
    let of = |ns: u64| (ns.max(1) as f64 / shortest).ln();
    let span = of(times_ns.max()).max(f64::MIN_POSITIVE);
    let len = (of(ns) / span).clamp(0.0, 1.0) * (len_max - 1) as f64;
    "#".repeat(1 + len as usize)
}

/// One step of a search. The steps come one by one, so their columns have room for what may come.
pub(crate) fn step(step: &Step, is_first: bool) -> String {
    let head = if is_first {
        format!(
            "\n  {:>11}  {:>11}  {:>8}  {:>11}  verdict\n",
            "offered /s", "sent /s", "lost %", "p99 us"
        )
    } else {
        String::new()
    };
    let offered = step.offered_pps;
    let offered = offered.map_or("max".to_owned(), |pps| format!("{pps:.0}"));
    format!(
        "{head}  {offered:>11}  {:>11.0}  {:>8.4}  {:>11.1}  {}\n",
        step.achieved_pps, step.loss_percent, step.rtt_p99_us, step.verdict
    )
}

/// What a search found, in lines of at most `width` columns.
pub(crate) fn found(found: &Found, width: usize) -> String {
    let at_most = format!("with at most {} % lost", found.max_loss_percent);
    let result = match (found.rate_pps, found.interrupted) {
        (Some(pps), true) => {
            format!("highest rate so far {at_most}: {pps:.0} /s, not confirmed")
        }
        (None, true) => "no rate so far".to_owned(),
        (Some(pps), false) => format!(
            "highest rate {at_most}: {pps:.0} /s, confirmed {} times",
            found.confirmations
        ),
        // The notes say what prevented it.
        (None, false) => "no rate was found".to_owned(),
    };
    let mut page = format!("\n{}", paragraph("", &result, width));
    for note in &found.notes {
        page += &paragraph("note: ", note, width);
    }
    page
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ended::Ended;
    use crate::options::{Options, Rate, Sizes};
    use crate::stats::Stats;

    fn plan(change: impl FnOnce(&mut Options)) -> Plan {
        let mut options = Options::new("127.0.0.1:9007".parse().unwrap());
        options.rate = Some(Rate::Pps(12e6));
        change(&mut options);
        Plan::new(&options).unwrap()
    }

    /// Ten seconds at 12 million a second, with everything that can go wrong.
    fn outcome(is_bad: bool) -> Outcome {
        const SENT: u64 = 120_000_000;
        let mut stats = Stats::new();
        stats.counters.sent = SENT;
        stats.counters.received = SENT;
        if is_bad {
            stats.counters.received -= 2_000_000;
            stats.counters.given_up = 2_000_000;
            stats.counters.late = 1_000_000;
            stats.counters.reordered = SENT;
            let wrong = &mut stats.counters.wrong_source;
            wrong.record("172.17.0.1:9007".parse().unwrap(), 1_000_000);
            stats.counters.send_errors.insert(libc::EPERM, 12_345_678);
        }
        let received = stats.counters.received;
        stats.rtt_ns.record_n(1_234_567, received - 1).unwrap();
        stats.rtt_ns.record(999_999_999).unwrap();
        stats.rtt_uncorrected_ns.record(100_000).unwrap();
        stats.send_lag_ns.record_n(900, SENT).unwrap();
        Outcome {
            stats,
            seconds: 10.0,
            ended: Ended {
                silent_ports: (40_000..40_030).collect(),
                used_flows: 64,
                ..Ended::default()
            },
            sndbuf_errors: 0,
            is_interrupted: false,
        }
    }

    fn page(is_bad: bool, width: usize) -> String {
        let (plan, outcome) = (plan(|_| {}), outcome(is_bad));
        let facts = Summary::new(&plan, &plan.offer, &outcome);
        summary(&plan, &facts, &outcome, width)
    }

    fn longest(text: &str) -> usize {
        let lines = text.lines().map(|line| line.chars().count());
        lines.max().unwrap_or(0)
    }

    #[test]
    fn no_number_runs_into_the_next_at_twelve_million_a_second() {
        let page = page(true, 80);
        for line in [
            "  sent            120000000  12000000  /s",
            "  received        118000000  11800000  /s",
            "  lost              2000000   10.8396  %",
            "    late            1000000  answered after the timeout",
            "    wrong source    1000000  expected 127.0.0.1:9007",
            "                    1000000  seen 172.17.0.1:9007",
            "  reordered       120000000  answered after a later one",
            "  send errors      12345678  EPERM",
        ] {
            assert!(page.lines().any(|it| it == line), "{line}:\n{page}");
        }
    }

    #[test]
    fn a_page_fits_its_terminal_and_uses_it() {
        for is_bad in [false, true] {
            let [narrow, wide] = [80, 120].map(|width| page(is_bad, width));
            assert!(longest(&narrow) <= 80, "{narrow}");
            assert!((81..=120).contains(&longest(&wide)), "{wide}");
        }
    }

    #[test]
    fn numbers_stand_under_their_heads() {
        let page = page(true, 80);
        let rows: Vec<_> = page
            .lines()
            .skip_while(|line| !line.contains("percentile"))
            .take_while(|line| !line.contains("microseconds"))
            .collect();
        let end_of = |name: &str| rows[0].find(name).unwrap() + name.len();
        for row in &rows[1..] {
            for name in ["percentile", "round trip", "uncorrected", "send lag"] {
                let end = end_of(name);
                assert_ne!(&row[end - 1..end], " ", "{page}");
                assert_eq!(row[end..].chars().next().unwrap_or(' '), ' ', "{page}");
            }
        }
        let last = rows.last().unwrap();
        assert!(
            last.ends_with("# lost") && last.contains(" 100.0 "),
            "{last}"
        );
        assert!(
            rows[2].contains("  -  "),
            "one value has no 25th percentile: {page}"
        );
    }

    #[test]
    fn a_long_opening_is_wrapped() {
        let plan = plan(|it| {
            it.target = "localhost:9007".parse().unwrap();
            it.poisson = true;
            it.size = Sizes((0..16).map(|it| (1000 + it, 1)).collect());
            it.burst = 64;
            it.window = Some(1024);
            it.bind = Some([127, 0, 0, 1].into());
        });
        let text = opening(&Ready::new(&plan), 80);
        assert!(text.starts_with("load on localhost:9007 (127.0.0.1:9007): 12000000 /s at random"));
        assert!(text.lines().count() > 1 && longest(&text) <= 80, "{text}");
    }

    #[test]
    fn steps_line_up() {
        use crate::find_rate::Verdict;
        let of = |offered_pps, achieved_pps, verdict| Step {
            offered_pps,
            achieved_pps,
            received_pps: 0.0,
            loss_percent: 100.0,
            rtt_p99_us: 60_000_000.0,
            sent_late: 0,
            send_lag_max_us: 0.0,
            verdict,
        };
        let mut text = step(&of(None, 123_456_789.0, Verdict::NotSent), true);
        text += &step(&of(Some(500.0), 500.0, Verdict::Holds), false);
        assert!(longest(&text) <= 80, "{text}");
        let at = text.lines().nth(1).unwrap().find("verdict").unwrap();
        assert!(
            text.lines().skip(1).all(|line| &line[at - 2..at] == "  "),
            "{text}"
        );
    }
}
