//! Whatever happens to datagrams, no figure of the report is impossible.

use std::net::SocketAddr;

use proptest::prelude::*;
use serde_json::Value;

use super::*;
use crate::classify::{Classifier, Response};
use crate::device::QueueCounts;
use crate::ended::Ended;
use crate::host_loss::HostLoss;
use crate::options::Options;
use crate::stats::Stats;
use crate::track::Track;
use crate::wire::{Probe, fill_pattern};
use reflector_measure::clock::Span;
use reflector_measure::drops::Received;

const TARGET: &str = "192.0.2.1:7";
const SESSION: u32 = 7;
const TIMEOUT_NS: u64 = 10_000_000;
/// From one datagram to the next.
const GAP_NS: u64 = 50_000;
const LEN: usize = 48;

/// What becomes of a datagram.
#[derive(Clone, Debug)]
enum Fate {
    Lost,
    Refused(i32),
    /// It comes back each time after so many nanoseconds.
    Answered(Vec<u64>),
    /// The same with another last byte, or with another header.
    Corrupt(u64),
    Damaged(u64),
    /// The same from another port.
    Elsewhere(u64),
}

/// A run: when each datagram was sent after its time, and what became of it; and what the host
/// counted beside it, which may be anything.
#[derive(Clone, Debug)]
struct World {
    datagrams: Vec<(u64, Fate)>,
    counts_from: usize,
    socket_drops: u64,
    queue: Option<(u64, u64)>,
    unsent: u64,
    trains: u64,
}

fn fates() -> impl Strategy<Value = Fate> {
    let delay = || 0..3 * TIMEOUT_NS;
    prop_oneof![
        2 => Just(Fate::Lost),
        1 => prop::sample::select(vec![libc::EPERM, libc::ENOBUFS]).prop_map(Fate::Refused),
        6 => prop::collection::vec(delay(), 1..3).prop_map(Fate::Answered),
        1 => delay().prop_map(Fate::Corrupt),
        1 => delay().prop_map(Fate::Damaged),
        1 => delay().prop_map(Fate::Elsewhere),
    ]
}

fn worlds() -> impl Strategy<Value = World> {
    let count = |most: u64| prop_oneof![Just(0), 0..most];
    (
        prop::collection::vec((0..2 * TIMEOUT_NS, fates()), 0..60),
        prop_oneof![Just(0usize), 0..30usize],
        count(50),
        prop::option::of((count(80), 0..80u64)),
        count(30),
        count(3),
    )
        .prop_map(|it| World {
            datagrams: it.0,
            counts_from: it.1,
            socket_drops: it.2,
            queue: it.3,
            unsent: it.4,
            trains: it.5,
        })
}

/// Something that happens to datagram `index`, in the order of time.
enum Event {
    Sent(usize),
    Arrived(usize),
}

fn run(world: &World) -> (Plan, Outcome) {
    let mut options = Options::new("127.0.0.1:7".parse().unwrap());
    options.timeout = Duration::from_nanos(TIMEOUT_NS);
    if world.counts_from > 0 {
        options.warmup = Duration::from_millis(1);
    }
    let mut plan = Plan::new(&options).unwrap();
    plan.target = TARGET.parse().unwrap();
    let scheduled_ns = |index: usize| 1_000_000_000 + index as u64 * GAP_NS;
    let sent_ns = |index: usize| scheduled_ns(index) + world.datagrams[index].0;
    let mut events: Vec<(u64, Event)> = Vec::new();
    for (index, (_, fate)) in world.datagrams.iter().enumerate() {
        events.push((sent_ns(index), Event::Sent(index)));
        let delays: &[u64] = match fate {
            Fate::Answered(delays) => delays,
            Fate::Corrupt(delay) | Fate::Damaged(delay) | Fate::Elsewhere(delay) => {
                std::slice::from_ref(delay)
            }
            Fate::Lost | Fate::Refused(_) => &[],
        };
        events.extend(
            delays
                .iter()
                .map(|it| (sent_ns(index) + it, Event::Arrived(index))),
        );
    }
    events.sort_by_key(|(at_ns, _)| *at_ns);
    let mut stats = Stats::new();
    let mut track = Track::new(64, TIMEOUT_NS);
    let mut classifier = Classifier::new(plan.target, SESSION, TIMEOUT_NS);
    let mut sequences = vec![0; world.datagrams.len()];
    let (mut count, mut end_ns) = (0, 0);
    for (now_ns, event) in events {
        stats.counters.given_up += track.expire(now_ns);
        match event {
            Event::Sent(index) => {
                if count == world.counts_from {
                    track.start_counting();
                    stats = Stats::new();
                }
                count += 1;
                sequences[index] = track.next();
                stats.counters.given_up += track.send(1, now_ns);
                end_ns = now_ns;
                if let Fate::Refused(errno) = world.datagrams[index].1 {
                    track.take_back(sequences[index], 1);
                    *stats.counters.send_errors.entry(errno).or_default() += 1;
                    stats.counters.queue_refused += u64::from(errno == libc::ENOBUFS);
                    stats.counters.queue_refusals += u64::from(errno == libc::ENOBUFS);
                    continue;
                }
                let lag_ns = now_ns - scheduled_ns(index);
                stats.counters.sent += 1;
                stats.send_lag_ns.record(lag_ns).unwrap();
                let longest_ns = &mut stats.counters.send_lag_max_ns;
                *longest_ns = (*longest_ns).max(Some(lag_ns));
            }
            Event::Arrived(index) => {
                let mut datagram = [0; LEN];
                fill_pattern(&mut datagram);
                let probe = Probe {
                    session: SESSION,
                    flow: 0,
                    sequence: sequences[index],
                    scheduled_ns: scheduled_ns(index),
                    sent_ns: sent_ns(index),
                };
                probe.emit(&mut datagram);
                let mut source: SocketAddr = plan.target;
                match world.datagrams[index].1 {
                    Fate::Corrupt(_) => datagram[LEN - 1] ^= 1,
                    Fate::Damaged(_) => datagram[20] ^= 1,
                    Fate::Elsewhere(_) => source.set_port(8),
                    _ => {}
                }
                let response = Response {
                    flow: 0,
                    source: Some(source),
                    received_ns: now_ns,
                    payload: &datagram,
                    segment_len: LEN,
                };
                classifier.classify(&response, &mut track, &mut stats);
                if track.is_answered() {
                    track.end_cold();
                }
            }
        }
    }
    if count <= world.counts_from && world.counts_from > 0 {
        track.start_counting();
        stats = Stats::new();
    }
    let first_ns = 1_000_000_000;
    stats.counters.given_up += track.expire_all();
    stats.counters.receive_drops = world.socket_drops;
    stats.counters.trains_sent = world.trains.min(stats.counters.sent);
    let received = Received {
        datagrams: 3 * world.trains,
        buffers: world.trains,
    };
    let outcome = Outcome {
        host: HostLoss {
            sndbuf_errors: 0,
            drops: Drops::new(world.socket_drops, received, None),
            queue: world.queue.map(|(drops, passed)| QueueCounts {
                device: "eth0".to_owned(),
                kind: "tbf".to_owned(),
                drops,
                passed,
            }),
        },
        stats,
        seconds: end_ns.max(first_ns).saturating_sub(first_ns) as f64 / 1e9,
        span: Span::default(),
        ended: Ended {
            unsent: world.unsent,
            cold_lost: track.cold_lost(),
            used_flows: usize::from(track.is_used()),
            first_answer_ns: track.is_answered().then_some(0),
            silent_ports: Vec::from_iter((track.is_used() && !track.is_answered()).then_some(9)),
            ..Ended::default()
        },
        is_interrupted: false,
    };
    (plan, outcome)
}

fn check_times(key: &str, times: &Value, longest_us: f64) {
    let keys = ["min", "p50", "p90", "p99", "p99_9", "p99_99", "max"];
    let values: Vec<_> = keys.iter().map(|key| times[key].as_f64()).collect();
    if times["count"] == 0 {
        assert!(
            values.iter().all(Option::is_none),
            "a zero is measured: {key} {times}"
        );
        return;
    }
    let values: Vec<f64> = values.into_iter().map(|it| it.expect("a time")).collect();
    assert!(values.is_sorted() && values[0] >= 0.0, "{key} {times}");
    assert!(
        *values.last().unwrap() <= longest_us,
        "{key} {times}, {longest_us}"
    );
}

fn check(plan: &Plan, outcome: &Outcome) {
    let summary = Summary::new(plan, &plan.offer, outcome);
    let json = serde_json::to_value(&summary).unwrap();
    let count = |value: &Value| value.as_u64().unwrap_or_else(|| panic!("{value}: {json}"));
    let at = |key: &str| count(&json[key]);
    assert_eq!(at("sent"), at("received") + at("lost"), "{json}");
    for (percent, part, of) in [
        ("loss_percent", "lost", at("sent")),
        ("refused_percent", "refused", at("sent") + at("refused")),
    ] {
        match json[percent].as_f64() {
            None => assert!(json[percent].is_null() && of == 0, "{json}"),
            Some(it) => {
                assert!(of > 0 && (0.0..=100.0).contains(&it), "{json}");
                assert!(
                    (it - 100.0 * at(part) as f64 / of as f64).abs() < 1e-9,
                    "{json}"
                );
            }
        }
    }
    // The parts and the whole.
    let missing = &json["missing"];
    assert_eq!(count(&missing["refused"]), at("refused"), "{json}");
    let otherwise = count(&missing["answered_otherwise"]);
    let parts = ["queue", "own_sockets", "elsewhere"].map(|key| &missing[key]);
    let parts = parts.into_iter().filter(|it| !it.is_null());
    let sum = |key: &str| otherwise + parts.clone().map(|it| count(&it[key])).sum::<u64>();
    assert!(
        sum("least") <= at("lost") && at("lost") <= sum("most"),
        "{json}"
    );
    for part in parts.clone() {
        assert!(count(&part["least"]) <= count(&part["most"]), "{json}");
        assert!(count(&part["most"]) <= at("lost"), "{json}");
    }
    assert!(at("lost_before_answer") <= at("lost"), "{json}");
    assert!(
        count(&json["silent_flows"]["total"]) <= count(&json["silent_flows"]["of"]),
        "{json}"
    );
    let drops = ["kernel_drops_least", "kernel_drops", "kernel_drops_most"].map(at);
    assert!(
        drops.is_sorted() && at("trains_dropped") <= drops[0],
        "{json}"
    );
    // Times.
    let longest_us = (outcome.seconds + plan.timeout.as_secs_f64()) * 1e6 + 1e-3;
    for key in [
        "rtt_us",
        "rtt_uncorrected_us",
        "send_lag_us",
        "stamp_to_wire_us",
    ] {
        check_times(key, &json[key], longest_us);
    }
    assert_eq!(count(&json["rtt_us"]["count"]), at("sent"), "{json}");
    assert_eq!(
        count(&json["rtt_uncorrected_us"]["count"]),
        at("received"),
        "{json}"
    );
    assert_eq!(json["rtt_mean_us"].is_null(), at("received") == 0, "{json}");
    let page = crate::page::summary(plan, &summary, outcome, 80);
    assert!(
        page.lines().all(|line| line.chars().count() <= 80),
        "{page}"
    );
    assert!(!page.contains("NaN") && !page.contains("inf "), "{page}");
}

#[test]
fn what_is_lost_takes_the_timeout_and_no_more() {
    let lost = World {
        datagrams: vec![(0, Fate::Lost), (0, Fate::Answered(vec![TIMEOUT_NS]))],
        counts_from: 0,
        socket_drops: 0,
        queue: None,
        unsent: 0,
        trains: 0,
    };
    let (plan, outcome) = run(&lost);
    check(&plan, &outcome);
    let summary = Summary::new(&plan, &plan.offer, &outcome);
    // A histogram would say 10002.4.
    assert_eq!(summary.totals.rtt_us.max, 10_000.0);
    assert_eq!(summary.totals.rtt_uncorrected_us.max, 10_000.0);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(100))]

    #[test]
    fn no_figure_of_any_run_is_impossible(world in worlds()) {
        let (plan, outcome) = run(&world);
        check(&plan, &outcome);
    }
}
