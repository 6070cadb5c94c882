//! The figures of a run, for Prometheus.

use reflector_load::counted::Counted;
use reflector_metrics::buckets::Buckets;
use reflector_metrics::page::Page;

use crate::metrics;

/// The page of what was `counted` of `target`, as it was typed.
pub fn page(target: &str, counted: &Counted) -> Page {
    let mut page = Page::default();
    metrics::build(&mut page);
    page.info("load", "What is asked", vec![("target", target.to_owned())]);
    for (name, help, pick) in COUNTERS {
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

type Pick = fn(&Counted) -> u64;

const COUNTERS: [(&str, &str, Pick); 10] = [
    (
        "load_sent_datagrams",
        "Datagrams that the kernel took",
        |it| it.sent,
    ),
    (
        "load_received_datagrams",
        "Datagrams answered in time",
        |it| it.received,
    ),
    (
        "load_refused_datagrams",
        "Datagrams that our own kernel refused",
        |it| it.refused,
    ),
    (
        "load_duplicated_answers",
        "Answers to what was answered already",
        |it| it.duplicated,
    ),
    (
        "load_reordered_answers",
        "Answers to what was sent before",
        |it| it.reordered,
    ),
    ("load_late_answers", "Answers after the timeout", |it| {
        it.late
    }),
    (
        "load_corrupt_answers",
        "Answers that are not what was sent",
        |it| it.corrupt,
    ),
    (
        "load_foreign_datagrams",
        "Datagrams that are none of ours",
        |it| it.foreign,
    ),
    (
        "load_wrong_source_answers",
        "Answers from an address or port that was not asked",
        |it| it.wrong_source,
    ),
    ("load_icmp_errors", "ICMP errors", |it| it.icmp),
];
