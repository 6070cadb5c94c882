//! Peers, lengths and attributes in, messages out.

use super::*;
use crate::datagram::LocalAddr;
use reflector_udp::addr::PeerAddr;

const PLAIN: Attributes = Attributes::NONE;
const LIMIT: Limit = Limit {
    segments_max: 128,
    segment_len_max: u32::MAX,
};

fn flow(peer: &str) -> Flow {
    let local = LocalAddr {
        addr: "10.0.0.1".parse().unwrap(),
        interface: 0,
    };
    Flow {
        socket: 0,
        peer: PeerAddr::new(peer.parse().unwrap()),
        local,
    }
}

fn single(lease: u32, len: u32) -> Run {
    Run {
        lease,
        start: 0,
        len,
        segment_len: len,
    }
}

/// Peers and lengths in, messages out: (count, len, segment_len, buffers).
fn joined(replies: &[(&str, u32)], limit: &Limit) -> Vec<(u32, u32, u32, Vec<u32>)> {
    let mut trains = Trains::new(replies.len() + SEGMENTS_MAX);
    for (lease, &(peer, len)) in (0..).zip(replies) {
        trains.join(&flow(peer), PLAIN, single(lease, len), limit);
    }
    let message = |(train, pieces): (&Train, _)| {
        let pieces: Vec<Piece> = Iterator::collect(pieces);
        let leases = pieces.iter().map(|piece| piece.lease).collect();
        (train.count, train.len, train.segment_len, leases)
    };
    trains
        .iter()
        .map(|(train, pieces)| {
            message((train, Box::new(pieces) as Box<dyn Iterator<Item = Piece>>))
        })
        .collect()
}

const A: &str = "10.0.0.2:1000";
const B: &str = "10.0.0.3:1000";

#[test]
fn replies_to_one_peer_are_joined_also_across_others() {
    let messages = joined(&[(A, 64), (B, 64), (A, 64), (B, 64), (A, 64)], &LIMIT);
    assert_eq!(
        messages,
        [(3, 192, 64, vec![0, 2, 4]), (2, 128, 64, vec![1, 3])]
    );
}

#[test]
fn a_longer_reply_opens_a_new_train_and_a_shorter_one_closes_it() {
    let messages = joined(&[(A, 64), (A, 64), (A, 100), (A, 30), (A, 30)], &LIMIT);
    let expected = [
        (2, 128, 64, vec![0, 1]),
        (2, 130, 100, vec![2, 3]),
        (1, 30, 30, vec![4]),
    ];
    assert_eq!(messages, expected);
}

#[test]
fn an_empty_datagram_is_always_alone() {
    let messages = joined(&[(A, 64), (A, 0), (A, 0), (A, 64)], &LIMIT);
    assert_eq!(
        messages.iter().map(|it| it.0).collect::<Vec<_>>(),
        [1, 1, 1, 1]
    );
}

#[test]
fn limits_on_count_bytes_and_segments_hold() {
    let replies = [(A, 100); 5];
    let two = Limit {
        segments_max: 2,
        ..LIMIT
    };
    assert_eq!(
        joined(&replies, &two)
            .iter()
            .map(|it| it.0)
            .collect::<Vec<_>>(),
        [2, 2, 1]
    );
    let short = Limit {
        segment_len_max: 99,
        ..LIMIT
    };
    assert_eq!(joined(&replies, &short).len(), 5);
    let large = [(A, 30_000); 3];
    assert_eq!(
        joined(&large, &LIMIT)
            .iter()
            .map(|it| it.1)
            .collect::<Vec<_>>(),
        [60_000, 30_000]
    );
}

#[test]
fn a_received_train_joins_whole_or_is_taken_apart() {
    let mut trains = Trains::new(8 + SEGMENTS_MAX);
    let run = Run {
        lease: 0,
        start: 0,
        len: 64 * 3 + 10,
        segment_len: 64,
    };
    trains.join(&flow(A), PLAIN, single(1, 64), &LIMIT);
    trains.join(&flow(A), PLAIN, run, &LIMIT);
    trains.join(&flow(A), PLAIN, single(2, 10), &LIMIT);
    let counts: Vec<_> = trains
        .iter()
        .map(|(train, _)| (train.count, train.len))
        .collect();
    assert_eq!(counts, [(5, 266), (1, 10)]);
    trains.clear();
    trains.join(
        &flow(A),
        PLAIN,
        run,
        &Limit {
            segments_max: 1,
            ..LIMIT
        },
    );
    let counts: Vec<_> = trains
        .iter()
        .map(|(train, _)| (train.count, train.len))
        .collect();
    assert_eq!(counts, [(1, 64), (1, 64), (1, 64), (1, 10)]);
}

#[test]
fn different_sources_and_attributes_do_not_mix() {
    let mut other_local = flow(A);
    other_local.local.addr = "10.0.0.9".parse().unwrap();
    let (hops, tos) = (PLAIN.with_hop_limit(3), PLAIN.with_tos(0xb8));
    let mut trains = Trains::new(8 + SEGMENTS_MAX);
    for (lease, (flow, attributes)) in (0..).zip([
        (flow(A), PLAIN),
        (other_local, PLAIN),
        (flow(A), PLAIN),
        (flow(A), hops),
        (flow(A), hops),
        (flow(A), tos),
        (flow(A), PLAIN),
    ]) {
        trains.join(&flow, attributes, single(lease, 64), &LIMIT);
    }
    let messages = trains
        .iter()
        .map(|(train, _)| (train.attributes, train.count));
    assert_eq!(
        messages.collect::<Vec<_>>(),
        [(PLAIN, 2), (PLAIN, 1), (hops, 2), (tos, 1), (PLAIN, 1)]
    );
}
