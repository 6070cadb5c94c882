//! The figures of a load and of a watch, for Prometheus.

use reflector_load::Watched;
use reflector_load::counted::Counted;
use reflector_metrics::buckets::Buckets;
use reflector_metrics::page::Page;

use crate::metrics;

/// The page of what was `counted` of a load on `target`, as it was typed.
pub fn load(target: &str, counted: &Counted) -> Page {
    let mut page = Page::default();
    metrics::build(&mut page);
    page.info("load", "What is asked", vec![("target", target.to_owned())]);
    for ([name, _], help, pick) in COUNTERS {
        page.counter(name, help).push((vec![], pick(counted)));
    }
    page.gauge(
        "load_lost_datagrams",
        "Datagrams not answered in time, unharmed, from the address asked",
    )
    .push((vec![], counted.lost as f64));
    page.histogram(
        "load_rtt_seconds",
        "Round trips of what was answered, from the scheduled time",
    )
    .push((vec![], Buckets::of_times(&counted.rtt_ns)));
    page
}

/// The page of how a watch on `target` goes, as that was typed.
pub fn watch(target: &str, watched: &Watched) -> Page {
    let mut page = Page::default();
    metrics::build(&mut page);
    page.info(
        "watch",
        "What is asked",
        vec![("target", target.to_owned())],
    );
    for ([_, name], help, pick) in COUNTERS {
        page.counter(name, help)
            .push((vec![], pick(&watched.counted)));
    }
    page.counter(
        "watch_unanswered_datagrams",
        "Datagrams that will have no right answer any more",
    )
    .push((vec![], watched.unanswered));
    page.counter("watch_gaps", "Times without right answers that are over")
        .push((vec![], watched.gaps));
    for (name, help, time) in [
        (
            "watch_gaps_length_seconds",
            "All gaps that are over, together",
            watched.gaps_length,
        ),
        (
            "watch_longest_gap_seconds",
            "The longest of them",
            watched.longest_gap,
        ),
        (
            "watch_silent_seconds",
            "For how long there has been no answer",
            watched.silent,
        ),
    ] {
        page.gauge(name, help).push((vec![], time.as_secs_f64()));
    }
    page.histogram("watch_rtt_seconds", "Round trips of what was answered")
        .push((vec![], Buckets::of_times(&watched.counted.rtt_ns)));
    page
}

type Pick = fn(&Counted) -> u64;

/// What a load calls it, and a watch.
const COUNTERS: [([&str; 2], &str, Pick); 10] = [
    (
        ["load_sent_datagrams", "watch_sent_datagrams"],
        "Datagrams that the kernel took",
        |it| it.sent,
    ),
    (
        ["load_received_datagrams", "watch_received_datagrams"],
        "Datagrams answered in time",
        |it| it.received,
    ),
    (
        ["load_refused_datagrams", "watch_refused_datagrams"],
        "Datagrams that our own kernel refused",
        |it| it.refused,
    ),
    (
        ["load_duplicated_answers", "watch_duplicated_answers"],
        "Answers to what was answered already",
        |it| it.duplicated,
    ),
    (
        ["load_reordered_answers", "watch_reordered_answers"],
        "Answers to what was sent before",
        |it| it.reordered,
    ),
    (
        ["load_late_answers", "watch_late_answers"],
        "Answers after the timeout",
        |it| it.late,
    ),
    (
        ["load_corrupt_answers", "watch_corrupt_answers"],
        "Answers that are not what was sent",
        |it| it.corrupt,
    ),
    (
        ["load_foreign_datagrams", "watch_foreign_datagrams"],
        "Datagrams that are none of ours",
        |it| it.foreign,
    ),
    (
        ["load_wrong_source_answers", "watch_wrong_source_answers"],
        "Answers from an address or port that was not asked",
        |it| it.wrong_source,
    ),
    (
        ["load_icmp_errors", "watch_icmp_errors"],
        "ICMP errors",
        |it| it.icmp,
    ),
];
