//! Every kind of answer, and any sequence of them against a plain model.

use std::collections::BTreeSet;

use proptest::prelude::*;

use super::*;

/// The kinds of one answer.
fn one(track: &mut Track, sequence: u64) -> [u64; 7] {
    let it = track.answer(sequence, 1);
    [
        it.first,
        it.reordered,
        it.given_up,
        it.again,
        it.forgotten,
        it.unknown,
        it.uncounted,
    ]
}

const FIRST: [u64; 7] = [1, 0, 0, 0, 0, 0, 0];
const REORDERED: [u64; 7] = [1, 1, 0, 0, 0, 0, 0];
const GIVEN_UP: [u64; 7] = [0, 0, 1, 0, 0, 0, 0];
const AGAIN: [u64; 7] = [0, 0, 0, 1, 0, 0, 0];
const FORGOTTEN: [u64; 7] = [0, 0, 0, 0, 1, 0, 0];
const UNKNOWN: [u64; 7] = [0, 0, 0, 0, 0, 1, 0];
const UNCOUNTED: [u64; 7] = [0, 0, 0, 0, 0, 0, 1];

#[test]
fn every_kind_of_answer_is_told() {
    let mut track = Track::new(1024, 6400);
    track.send(4, 0);
    assert_eq!(one(&mut track, 0), FIRST);
    assert_eq!(one(&mut track, 2), FIRST);
    assert_eq!(one(&mut track, 1), REORDERED);
    assert_eq!(one(&mut track, 1), AGAIN);
    assert_eq!(one(&mut track, 4), UNKNOWN);
    assert_eq!(track.outstanding(), 1);
    assert_eq!(track.expire(6399), 0);
    assert_eq!(track.expire(6400), 1);
    assert_eq!(one(&mut track, 3), GIVEN_UP);
    assert_eq!(one(&mut track, 3), AGAIN);
    assert_eq!(one(&mut track, u64::MAX), [0; 7], "there is no such number");
}

#[test]
fn the_warm_up_is_neither_lost_nor_answered() {
    let mut track = Track::new(1024, 6400);
    track.send(10, 0);
    track.start_counting();
    track.send(10, 0);
    assert_eq!(one(&mut track, 3), UNCOUNTED);
    assert_eq!(one(&mut track, 13), FIRST);
    assert_eq!(track.expire_all(), 9);
    assert_eq!(track.outstanding(), 0);
}

#[test]
fn a_refused_datagram_is_not_lost() {
    let mut track = Track::new(1024, 6400);
    track.send(64, 0);
    track.take_back(10, 54);
    assert_eq!(track.outstanding(), 10);
    assert_eq!(track.expire_all(), 10);
}

#[test]
fn what_there_is_no_room_for_is_given_up_and_then_forgotten() {
    let mut track = Track::new(64, 6400);
    assert_eq!(track.send(64, 0), 0);
    assert_eq!(one(&mut track, 0), FIRST);
    assert_eq!(track.send(64, 1), 63);
    assert_eq!(one(&mut track, 5), FORGOTTEN);
    assert_eq!(track.outstanding(), 64);
}

#[derive(Clone, Debug)]
enum Step {
    Send(u32),
    Answer(u64, u64),
    Wait(u64),
    StartCounting,
}

fn any_step() -> impl Strategy<Value = Step> {
    prop_oneof![
        4 => (1u32..70).prop_map(Step::Send),
        8 => (0u64..600, 1u64..130).prop_map(|it| Step::Answer(it.0, it.1)),
        4 => (1u64..5000).prop_map(Step::Wait),
        1 => Just(Step::StartCounting),
    ]
}

/// The same, one by one and with nothing clever.
#[derive(Default)]
struct Plain {
    settled: BTreeSet<u64>,
    next: u64,
    open_from: u64,
    counted_from: u64,
    answered_to: u64,
}

impl Plain {
    fn answer(&mut self, sequence: u64) -> [u64; 7] {
        if sequence >= self.next {
            return UNKNOWN;
        }
        let is_fresh = self.settled.insert(sequence);
        let is_reordered = sequence < self.answered_to;
        self.answered_to = self.answered_to.max(sequence + 1);
        if sequence < self.counted_from {
            UNCOUNTED
        } else if !is_fresh {
            AGAIN
        } else if sequence < self.open_from {
            GIVEN_UP
        } else if is_reordered {
            REORDERED
        } else {
            FIRST
        }
    }
}

proptest! {
    /// Every datagram ends exactly once, answered or given up, and every answer is told as the
    /// plain way tells it.
    #[test]
    fn trains_are_accounted_for_as_their_datagrams_would_be(
        steps in prop::collection::vec(any_step(), 1..100),
    ) {
        let mut track = Track::new(1 << 14, 6400);
        let mut plain = Plain::default();
        let (mut now_ns, mut first, mut lost) = (0, 0, 0);
        for step in steps {
            match step {
                Step::Send(count) => {
                    lost += track.send(count, now_ns);
                    plain.next += u64::from(count);
                }
                Step::Answer(from, count) => {
                    let it = track.answer(from, count);
                    let told = [
                        it.first, it.reordered, it.given_up, it.again, it.forgotten,
                        it.unknown, it.uncounted,
                    ];
                    let mut expected = [0; 7];
                    for sequence in from..from + count {
                        let one = plain.answer(sequence);
                        expected.iter_mut().zip(one).for_each(|(sum, it)| *sum += it);
                    }
                    prop_assert_eq!(told, expected);
                    first += it.first;
                }
                Step::Wait(ns) => {
                    now_ns += ns;
                    lost += track.expire(now_ns);
                    plain.open_from = track.open_from;
                }
                Step::StartCounting => {
                    track.start_counting();
                    plain.counted_from = plain.next;
                    (first, lost) = (0, 0);
                }
            }
        }
        lost += track.expire_all();
        prop_assert_eq!(plain.next - plain.counted_from, first + lost);
        prop_assert_eq!(track.outstanding(), 0);
    }
}

#[test]
fn what_is_lost_before_the_first_answer_is_told_apart() {
    let mut track = Track::new(1024, 6400);
    track.send(10, 0);
    track.start_counting();
    // Given up before anything came, then the first answer, then more.
    track.send(20, 100);
    assert_eq!(track.expire(6500), 20);
    track.send(30, 6600);
    track.answer(35, 1);
    track.end_cold();
    track.send(40, 6700);
    assert_eq!(track.expire_all(), 29 + 40);
    assert_eq!(track.cold_lost(), 20 + 29);
    track.lose_answered(59, 1);
    track.lose_answered(60, 1);
    assert_eq!(track.cold_lost(), 20 + 29 + 1);
}

#[test]
fn delay_varies_between_datagrams_that_follow_each_other() {
    let mut track = Track::new(1024, 6400);
    assert_eq!(track.ipdv_ns(0, 1, 500), None, "the first");
    assert_eq!(track.ipdv_ns(1, 1, 700), Some(200));
    assert_eq!(track.ipdv_ns(2, 64, 600), Some(100), "a train is one");
    assert_eq!(track.ipdv_ns(67, 1, 900), None, "one was lost between");
    assert_eq!(track.ipdv_ns(68, 1, 900), Some(0));
    assert_eq!(track.ipdv_ns(66, 1, 900), None, "out of order");
}
