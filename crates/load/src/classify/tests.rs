//! Every kind of reply, and any order of them.

use proptest::prelude::*;

use super::*;
use crate::wire::fill_pattern;

const TIMEOUT_NS: u64 = 1_000_000;

struct Bench {
    classifier: Classifier,
    track: Track,
    stats: Stats,
}

impl Bench {
    fn new() -> Self {
        let target = "192.0.2.1:7".parse().unwrap();
        Self {
            classifier: Classifier::new(target, 0xc0ffee, TIMEOUT_NS),
            track: Track::new(4096, TIMEOUT_NS),
            stats: Stats::new(),
        }
    }

    /// Sends `count` datagrams of 64 bytes at time 1000, which were due at 500.
    fn send(&mut self, count: u32) -> Vec<u8> {
        let first = self.track.next();
        self.track.send(count, 1000);
        self.stats.counters.sent += u64::from(count);
        let mut train = vec![0; 64 * count as usize];
        for (datagram, sequence) in train.chunks_mut(64).zip(first..) {
            fill_pattern(datagram);
            let probe = Probe {
                session: 0xc0ffee,
                flow: 0,
                sequence,
                scheduled_ns: 500,
                sent_ns: 1000,
            };
            probe.emit(datagram);
        }
        train
    }

    fn receive(&mut self, payload: &[u8], source: &str, received_ns: u64) {
        let response = Response {
            flow: 0,
            source: Some(source.parse().unwrap()),
            received_ns,
            payload,
            segment_len: 64,
        };
        self.classifier
            .classify(&response, &mut self.track, &mut self.stats);
    }

    fn end(mut self) -> Stats {
        self.stats.counters.given_up += self.track.expire_all();
        assert_eq!(
            self.stats.counters.sent,
            self.stats.counters.received + self.stats.counters.lost()
        );
        self.stats
    }
}

#[test]
fn a_train_is_received_with_both_its_times() {
    let mut bench = Bench::new();
    let train = bench.send(64);
    bench.receive(&train, "192.0.2.1:7", 2000);
    let stats = bench.end();
    assert_eq!((stats.counters.received, stats.counters.lost()), (64, 0));
    assert_eq!((stats.rtt_ns.len(), stats.rtt_ns.max()), (64, 1500));
    assert_eq!(stats.rtt_uncorrected_ns.max(), 1000);
}

#[test]
fn duplicates_reordered_and_late_ones_are_told_apart() {
    let mut bench = Bench::new();
    let train = bench.send(4);
    bench.receive(&train[128..192], "192.0.2.1:7", 2000);
    bench.receive(&train[..64], "192.0.2.1:7", 2000);
    bench.receive(&train[..64], "192.0.2.1:7", 2000);
    bench.receive(&train[64..128], "192.0.2.1:7", 1001 + TIMEOUT_NS);
    let stats = bench.end();
    assert_eq!((stats.counters.received, stats.counters.reordered), (2, 1));
    assert_eq!(
        (
            stats.counters.duplicated,
            stats.counters.late,
            stats.counters.lost()
        ),
        (1, 1, 2)
    );
}

#[test]
fn an_answer_in_time_that_is_read_late_is_received() {
    let mut bench = Bench::new();
    let train = bench.send(2);
    bench.stats.counters.given_up += bench.track.expire(1000 + TIMEOUT_NS);
    assert_eq!(bench.stats.counters.lost(), 2);
    bench.receive(&train[..64], "192.0.2.1:7", 2000);
    let stats = bench.end();
    assert_eq!(
        (
            stats.counters.received,
            stats.counters.lost(),
            stats.counters.late
        ),
        (1, 1, 0)
    );
}

#[test]
fn a_wrong_source_is_named_and_nothing_is_received_from_it() {
    let mut bench = Bench::new();
    let train = bench.send(3);
    bench.receive(&train[..128], "172.17.0.1:7", 2000);
    bench.receive(&train[128..], "192.0.2.1:8", 2000);
    let stats = bench.end();
    assert_eq!(
        (
            stats.counters.received,
            stats.counters.lost(),
            stats.rtt_ns.len()
        ),
        (0, 3, 0)
    );
    let seen: Vec<_> = stats.counters.wrong_source.seen;
    assert_eq!(
        seen,
        [
            ("172.17.0.1:7".parse().unwrap(), 2),
            ("192.0.2.1:8".parse().unwrap(), 1)
        ]
    );
}

#[test]
fn what_is_none_of_ours_is_foreign() {
    let mut bench = Bench::new();
    bench.send(1);
    bench.receive(b"", "192.0.2.1:7", 2000);
    bench.receive(b"hello", "192.0.2.1:7", 2000);
    bench.receive(&[7; 64], "192.0.2.1:7", 2000);
    let mut other = bench.send(1);
    let probe = Packet::new_checked(&other).unwrap().probe();
    Probe {
        session: 1,
        ..probe
    }
    .emit(&mut other);
    bench.receive(&other, "192.0.2.1:7", 2000);
    Probe { flow: 1, ..probe }.emit(&mut other);
    bench.receive(&other, "192.0.2.1:7", 2000);
    let stats = bench.end();
    assert_eq!(
        (
            stats.counters.foreign,
            stats.counters.corrupt,
            stats.counters.lost()
        ),
        (5, 0, 2)
    );
}

#[test]
fn a_stamp_before_the_send_is_a_clock_that_was_set() {
    let mut bench = Bench::new();
    let train = bench.send(1);
    bench.receive(&train, "192.0.2.1:7", 400);
    let stats = bench.end();
    assert_eq!(
        (
            stats.counters.received,
            stats.counters.clock_stepped,
            stats.rtt_ns.len()
        ),
        (1, 1, 0)
    );
}

proptest! {
    /// One damaged byte in a single datagram never passes, and makes nothing panic.
    #[test]
    fn damage_is_corrupt(at in 0usize..64, flip in 1u8..) {
        let mut bench = Bench::new();
        let mut datagram = bench.send(1);
        datagram[at] ^= flip;
        bench.receive(&datagram, "192.0.2.1:7", 2000);
        let stats = bench.end();
        let counters = stats.counters;
        prop_assert_eq!((counters.corrupt, counters.received, counters.lost()), (1, 0, 1));
    }

    /// Whatever comes, each datagram ends once.
    #[test]
    fn the_counters_add_up(
        bytes in prop::collection::vec(any::<u8>(), 0..300),
        order in prop::collection::vec(
            (0usize..20, 0u64..2 * TIMEOUT_NS, any::<bool>()),
            0..60,
        ),
    ) {
        let mut bench = Bench::new();
        let train = bench.send(20);
        bench.receive(&bytes, "192.0.2.1:7", 2000);
        for (index, received_ns, is_right) in order {
            let source = if is_right { "192.0.2.1:7" } else { "192.0.2.2:7" };
            bench.receive(&train[index * 64..][..64], source, received_ns);
        }
        bench.end();
    }
}
