//! Pages of good runs and bad ones, in narrow terminals and wide ones.

use super::*;
use crate::ended::Ended;
use crate::find_rate::Step;
use crate::host_loss::HostLoss;
use crate::options::{Options, Rate, Sizes};
use crate::stats::Stats;
use reflector_measure::clock::Span;

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
        span: Span::default(),
        ended: Ended {
            silent_ports: (40_000..40_030).collect(),
            used_flows: 64,
            ..Ended::default()
        },
        host: HostLoss::default(),
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
        "  lost              2000000    1.6667  %",
        "  refused here     12345678    9.3284  %",
        "    late            1000000  answered after the timeout",
        "    wrong source    1000000  expected 127.0.0.1:9007",
        "                    1000000  seen 172.17.0.1:9007",
        "  reordered       120000000  answered after a later one",
        "                   12345678  EPERM",
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
        let narrower = page(is_bad, 60);
        assert!(longest(&narrower) <= 60, "{narrower}");
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
        span: Span::default(),
        offered_pps,
        achieved_pps,
        received_pps: 0.0,
        loss_percent: 100.0,
        rtt_p99_us: 60_000_000.0,
        sent_late: 0,
        send_lag_max_us: 0.0,
        verdict,
    };
    for width in [80, 60] {
        let mut text = step(&of(None, 123_456_789.0, Verdict::NotSent), true, width);
        text += &step(&of(Some(500.0), 500.0, Verdict::Holds), false, width);
        assert!(longest(&text) <= width, "{text}");
        let at = text.lines().nth(1).unwrap().find("verdict").unwrap();
        assert!(
            text.lines().skip(1).all(|line| &line[at - 2..at] == "  "),
            "{text}"
        );
    }
}
