//! The families of figures that a page has, of what the server says.

use std::collections::BTreeMap;
use std::net::SocketAddr;

use reflector::report::{Lengths, ListenerCounts, Ready, Snapshot, WorkerCounts};
use reflector_metrics::buckets::Buckets;
use reflector_metrics::page::{Labels, Page};

use crate::serve::accelerate::Accelerated;

/// What does not change.
pub fn describe(ready: &Ready, page: &mut Page) {
    let reason = ready.engine_reason.clone().unwrap_or_default();
    let engine = vec![
        ("engine", ready.engine.to_owned()),
        ("mode", ready.mode.clone()),
        ("fallback_reason", reason),
    ];
    page.info(
        "engine",
        "How datagrams are moved, and why not by io_uring",
        engine,
    );
    let listen = |addr: &SocketAddr| (vec![("listener", addr.to_string())], 1.0);
    page.gauge("listener", "1 for each address that is served")
        .extend(ready.listen.iter().map(listen));
    page.gauge("workers", "Workers, one per core")
        .push((vec![], ready.workers as f64));
    let bytes = |buffer: &str| vec![("buffer", buffer.to_owned())];
    page.gauge(
        "socket_buffer_bytes",
        "Buffer of each socket, as the kernel counts it",
    )
    .extend([
        (bytes("receive"), ready.receive_buffer_bytes as f64),
        (bytes("send"), ready.send_buffer_bytes as f64),
    ]);
}

/// What is counted: each family is there from the start, each label that has few values as well.
pub fn count(snapshot: &Snapshot, page: &mut Page) {
    let workers = &snapshot.workers;
    let each = || {
        workers
            .iter()
            .flat_map(|it| it.listeners.iter().map(move |at| (it, at)))
    };
    for (name, help, pick) in COUNTERS {
        page.counter(name, help)
            .extend(each().map(|(it, at)| (socket(it, at), pick(at))));
    }
    let dropped = page.counter(
        "dropped_datagrams",
        "Datagrams received that get no reply, by reason",
    );
    for (it, at) in each() {
        for (&reason, &count) in &at.dropped {
            let mut labels = socket(it, at);
            labels.push(("reason", reason.to_owned()));
            dropped.push((labels, count));
        }
    }
    let errors = page.counter("send_errors", "Replies that the kernel refused, by errno");
    for (it, at) in each() {
        errors.extend(by_errno(&socket(it, at), &at.send_errors, &SEND_ERRORS));
    }
    let errors = page.counter("receive_errors", "Receives that failed, by errno");
    for (it, at) in each() {
        errors.extend(by_errno(
            &socket(it, at),
            &at.receive_errors,
            &RECEIVE_ERRORS,
        ));
    }
    for (name, help, pick) in GAUGES {
        page.gauge(name, help)
            .extend(workers.iter().map(|it| (vec![worker(it)], pick(it) as f64)));
    }
    for (name, help, pick) in LENGTHS {
        let buckets = |it: &WorkerCounts| {
            let Lengths { sum, buckets, .. } = pick(it);
            let buckets = Buckets::of_lengths(*sum, buckets.iter().copied());
            (vec![worker(it)], buckets)
        };
        page.histogram(name, help)
            .extend(workers.iter().map(buckets));
    }
    let kernel = &snapshot.summary.totals.kernel;
    let bound = |bound: &str| vec![("bound", bound.to_owned())];
    page.gauge(
        "kernel_dropped_datagrams",
        "Datagrams that the kernel dropped at the sockets since the start: at least, at most",
    )
    .extend([
        (bound("least"), kernel.drops.least as f64),
        (bound("most"), kernel.drops.most as f64),
    ]);
    page.counter(
        "sndbuf_errors",
        "SndbufErrors of the network namespace that are not of our own sockets",
    )
    .push((vec![], kernel.sndbuf_errors));
    page.gauge(
        "unaccounted_datagrams",
        "Datagrams whose end nobody knows: 0, or a fault",
    )
    .push((vec![], snapshot.summary.unaccounted as f64));
    page.gauge(
        "complete",
        "1 where every worker handed over its counters for this page",
    )
    .push((vec![], f64::from(u8::from(snapshot.is_complete))));
    page.histogram(
        "residence_seconds",
        "From the kernel's receive timestamp until the reply was handed over",
    )
    .push((vec![], Buckets::of_times(snapshot.residence_ns())));
}

/// What no worker sees. How long that takes is not among it: only one frame in 64 is timed, and
/// those of sockets are all.
pub fn count_accelerated(accelerated: &Accelerated, page: &mut Page) {
    let mut add = |name, help, count| page.counter(name, help).push((vec![], count));
    let help = "Datagrams answered in the kernel, received by no socket";
    add("accelerated_datagrams", help, accelerated.datagrams);
    let help = "Payload bytes answered in the kernel";
    add("accelerated_bytes", help, accelerated.bytes);
    add(
        "accelerated_trains",
        "Trains answered in the kernel",
        accelerated.trains,
    );
}

/// Those that are usual are there before they occur: a rate cannot tell the first of a counter that
/// was not there.
fn by_errno(labels: &Labels, errors: &BTreeMap<String, u64>, usual: &[&str]) -> Vec<(Labels, u64)> {
    let mut all: BTreeMap<_, _> = usual.iter().map(|&errno| (errno, 0)).collect();
    all.extend(errors.iter().map(|(errno, &count)| (errno.as_str(), count)));
    let sample = |(errno, count): (&str, u64)| {
        let errno = ("errno", errno.to_owned());
        ([&labels[..], &[errno]].concat(), count)
    };
    all.into_iter().map(sample).collect()
}

/// The labels of what is counted at the sockets that a worker has of one listener.
fn socket(counts: &WorkerCounts, at: &ListenerCounts) -> Labels {
    vec![worker(counts), ("listener", at.listen.to_string())]
}

fn worker(counts: &WorkerCounts) -> (&'static str, String) {
    ("worker", counts.worker.to_string())
}

/// Errors that sends usually fail with, if they do.
const SEND_ERRORS: [&str; 8] = [
    "EAGAIN",
    "EACCES",
    "EHOSTUNREACH",
    "EINVAL",
    "EMSGSIZE",
    "ENETUNREACH",
    "ENOBUFS",
    "EPERM",
];
/// Errors that receives usually fail with.
const RECEIVE_ERRORS: [&str; 2] = ["ENOBUFS", "ENOMEM"];

type Pick<T> = fn(&T) -> u64;

/// Counters of each worker and listener.
const COUNTERS: [(&str, &str, Pick<ListenerCounts>); 10] = [
    ("received_datagrams", "Datagrams received", |it| it.received),
    ("replied_datagrams", "Replies that the kernel took", |it| {
        it.replied
    }),
    ("received_bytes", "Payload bytes received", |it| {
        it.bytes_received
    }),
    ("replied_bytes", "Payload bytes of replies", |it| {
        it.bytes_replied
    }),
    (
        "received_buffers",
        "Datagrams and trains received, a train once",
        |it| it.buffers,
    ),
    ("received_trains", "Trains received", |it| {
        it.trains_received
    }),
    ("sent_trains", "Replies sent as trains", |it| it.trains_sent),
    (
        "refused_trains",
        "Trains that the kernel refused, sent as single datagrams",
        |it| it.trains_refused,
    ),
    (
        "rate_excess_datagrams",
        "Datagrams beyond the limit of --rate-limit-dry-run",
        |it| it.rate_excess,
    ),
    (
        "kernel_dropped_trains",
        "Datagrams and trains dropped at the sockets, a train once",
        |it| it.trains_dropped,
    ),
];

/// Gauges of each worker.
const GAUGES: [(&str, &str, Pick<WorkerCounts>); 3] = [
    (
        "in_flight_datagrams",
        "Datagrams received that have no end yet",
        |it| it.in_flight,
    ),
    ("buffers", "Buffers to receive into", |it| it.buffers as u64),
    (
        "buffers_free_min",
        "The fewest buffers that were free after a receive, since the start",
        |it| it.buffers_free_min as u64,
    ),
];

type PickLengths = fn(&WorkerCounts) -> &Lengths;

/// Histograms of each worker.
const LENGTHS: [(&str, &str, PickLengths); 3] = [
    (
        "batch_buffers",
        "Receives that brought something, by the datagrams and trains, a train once",
        |it| &it.batches,
    ),
    (
        "received_train_datagrams",
        "Datagrams and trains received, by the number of datagrams",
        |it| &it.trains_received,
    ),
    (
        "sent_train_datagrams",
        "Messages that replies left in, by the number of datagrams",
        |it| &it.trains_sent,
    ),
];
