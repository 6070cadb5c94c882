//! When there were answers, and when not: datagrams in the order in which they were sent. Pure.
//!
//! A gap is a row of datagrams without a right answer. It reaches from when the first of them was
//! sent to when the first one was sent that was answered again, so that a target that was away for
//! some time has a gap of that length, to within the time between two datagrams.

use std::collections::VecDeque;

use serde::Serialize;

/// A time without right answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Gap {
    /// When the first datagram without an answer was sent, nanoseconds of `CLOCK_REALTIME`.
    pub(crate) start_ns: u64,
    /// When the first one was sent that was answered again, or when the watch ended.
    pub(crate) end_ns: u64,
    /// Datagrams without an answer.
    pub(crate) unanswered: u64,
    /// Datagrams that were due meanwhile and were not sent, so that nothing is known of them.
    pub(crate) skipped: u64,
    /// Whether it was still going on at the end.
    pub(crate) is_open: bool,
}

impl Gap {
    /// Its length in nanoseconds.
    pub(crate) fn length_ns(&self) -> u64 {
        self.end_ns.saturating_sub(self.start_ns)
    }
}

/// A gap as it is reported.
#[derive(Clone, Copy, Debug, Serialize)]
pub(crate) struct GapReport {
    pub(crate) start_unix_seconds: f64,
    pub(crate) end_unix_seconds: f64,
    pub(crate) length_ms: f64,
    pub(crate) unanswered: u64,
    /// Datagrams that were due meanwhile and were not sent.
    pub(crate) skipped: u64,
    /// Whether it was still going on when the watch ended.
    pub(crate) is_open: bool,
}

impl From<Gap> for GapReport {
    fn from(gap: Gap) -> Self {
        // To the microsecond: no two hosts agree to more.
        let seconds = |ns: u64| (ns / 1000) as f64 / 1e6;
        Self {
            start_unix_seconds: seconds(gap.start_ns),
            end_unix_seconds: seconds(gap.end_ns),
            length_ms: gap.length_ns() as f64 / 1e6,
            unanswered: gap.unanswered,
            skipped: gap.skipped,
            is_open: gap.is_open,
        }
    }
}

/// A datagram that is not settled.
#[derive(Clone, Copy, Debug)]
struct Sent {
    sent_ns: u64,
    /// How many were due before it and not sent.
    skipped: u64,
    is_answered: bool,
}

/// Whether there were answers, datagram by datagram. As many are remembered as are sent within the
/// timeout.
#[derive(Debug, Default)]
pub(crate) struct Continuity {
    open: VecDeque<Sent>,
    /// The number of the first that is open.
    first: u64,
    /// The gap that has begun.
    begun: Option<Gap>,
    /// Gaps that are over.
    pub(crate) gaps: u64,
    /// All of them together, in nanoseconds.
    pub(crate) gaps_ns: u64,
    /// The longest.
    pub(crate) longest: Option<Gap>,
    /// Datagrams with an answer, and without.
    pub(crate) answered: u64,
    pub(crate) unanswered: u64,
}

impl Continuity {
    /// The next datagram was sent at `sent_ns`, after `skipped` that were due and not sent.
    pub(crate) fn sent(&mut self, sent_ns: u64, skipped: u64) {
        self.open.push_back(Sent {
            sent_ns,
            skipped,
            is_answered: false,
        });
    }

    /// Datagram `sequence` has its answer.
    pub(crate) fn answer(&mut self, sequence: u64) {
        let index = sequence.checked_sub(self.first);
        let index = index.and_then(|it| usize::try_from(it).ok());
        // What is settled stays so: it was late.
        if let Some(sent) = index.and_then(|it| self.open.get_mut(it)) {
            sent.is_answered = true;
        }
    }

    /// Settles what was sent until `horizon_ns`, and what is answered after it; tells `on_gap` of
    /// each gap that is over.
    pub(crate) fn settle(&mut self, horizon_ns: u64, on_gap: &mut impl FnMut(Gap)) {
        while let Some(&Sent {
            sent_ns,
            skipped,
            is_answered,
        }) = self.open.front()
        {
            if !is_answered && sent_ns > horizon_ns {
                break;
            }
            self.open.pop_front();
            self.first += 1;
            if let Some(begun) = &mut self.begun {
                begun.skipped += skipped;
            }
            if is_answered {
                self.answered += 1;
                self.end_gap(sent_ns, false, on_gap);
            } else {
                self.unanswered += 1;
                let begun = self.begun.get_or_insert(Gap {
                    start_ns: sent_ns,
                    end_ns: sent_ns,
                    unanswered: 0,
                    skipped: 0,
                    is_open: false,
                });
                begun.unanswered += 1;
            }
        }
    }

    /// Settles all, at the end of the watch.
    pub(crate) fn end(&mut self, now_ns: u64, on_gap: &mut impl FnMut(Gap)) {
        self.settle(u64::MAX, on_gap);
        self.end_gap(now_ns, true, on_gap);
    }

    /// Whether nothing is open.
    pub(crate) fn is_settled(&self) -> bool {
        self.open.is_empty()
    }

    /// Since when there has been no answer, as far as is known at `now_ns`: the first datagram
    /// without one, if none after it has one.
    pub(crate) fn silent_since_ns(&self) -> Option<u64> {
        let answered = self.open.iter().rposition(|it| it.is_answered);
        match (answered, self.begun) {
            (None, Some(begun)) => Some(begun.start_ns),
            (answered, _) => {
                let next = answered.map_or(0, |it| it + 1);
                self.open.get(next).map(|it| it.sent_ns)
            }
        }
    }

    fn end_gap(&mut self, end_ns: u64, is_open: bool, on_gap: &mut impl FnMut(Gap)) {
        let Some(begun) = self.begun.take() else {
            return;
        };
        let gap = Gap {
            end_ns,
            is_open,
            ..begun
        };
        self.gaps += 1;
        self.gaps_ns += gap.length_ns();
        let is_longest = |it: &Gap| it.length_ns() < gap.length_ns();
        if self.longest.as_ref().is_none_or(is_longest) {
            self.longest = Some(gap);
        }
        on_gap(gap);
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// What is told of datagrams sent at 0, 10, 20 …, of which those in `answered` are answered, in
    /// that order.
    fn told(count: u64, answered: &[u64]) -> (Continuity, Vec<Gap>) {
        let mut continuity = Continuity::default();
        let mut gaps = Vec::new();
        (0..count).for_each(|number| continuity.sent(number * 10, 0));
        answered.iter().for_each(|&it| continuity.answer(it));
        continuity.settle(count * 10, &mut |gap| gaps.push(gap));
        continuity.end(count * 10, &mut |gap| gaps.push(gap));
        (continuity, gaps)
    }

    fn gap(start_ns: u64, end_ns: u64, unanswered: u64) -> Gap {
        Gap {
            start_ns,
            end_ns,
            unanswered,
            skipped: 0,
            is_open: false,
        }
    }

    #[test]
    fn a_gap_is_a_row_of_datagrams_without_an_answer() {
        let (continuity, gaps) = told(10, &[9, 0, 4, 1, 5, 8]);
        assert_eq!(gaps, [gap(20, 40, 2), gap(60, 80, 2)]);
        assert_eq!((continuity.gaps, continuity.gaps_ns), (2, 40));
        assert_eq!(
            continuity.longest,
            Some(gap(20, 40, 2)),
            "the first of the longest"
        );
        assert_eq!((continuity.answered, continuity.unanswered), (6, 4));
        let (continuity, gaps) = told(3, &[0, 1, 2]);
        assert!(gaps.is_empty() && continuity.longest.is_none());
    }

    #[test]
    fn a_gap_that_goes_on_ends_with_the_watch() {
        let (continuity, gaps) = told(5, &[0, 1]);
        let open = Gap {
            is_open: true,
            ..gap(20, 50, 3)
        };
        assert_eq!((&gaps[..], continuity.longest), (&[open][..], Some(open)));
    }

    #[test]
    fn nothing_is_settled_before_its_time_and_nothing_twice() {
        let mut continuity = Continuity::default();
        let mut gaps = Vec::new();
        for number in 0..4 {
            continuity.sent(number * 10, 0);
        }
        continuity.answer(0);
        continuity.answer(2);
        continuity.settle(5, &mut |gap| gaps.push(gap));
        assert_eq!((continuity.answered, continuity.unanswered), (1, 0));
        assert_eq!(continuity.silent_since_ns(), Some(30));
        continuity.settle(10, &mut |gap| gaps.push(gap));
        assert_eq!(gaps, [gap(10, 20, 1)]);
        // Too late, never sent, and settled long ago.
        [1, 99, 0].into_iter().for_each(|it| continuity.answer(it));
        continuity.settle(30, &mut |gap| gaps.push(gap));
        assert!(continuity.is_settled() && gaps.len() == 1);
        assert_eq!(continuity.silent_since_ns(), Some(30));
        continuity.sent(40, 0);
        continuity.answer(4);
        assert_eq!(continuity.silent_since_ns(), None);
    }

    #[test]
    fn a_million_datagrams_take_no_more_room_than_those_within_the_timeout() {
        let mut continuity = Continuity::default();
        for number in 0..1_000_000 {
            continuity.sent(number * 10, 0);
            if number % 3 > 0 {
                continuity.answer(number);
            }
            continuity.settle((number * 10).saturating_sub(1000), &mut |_| {});
            assert!(continuity.open.len() <= 101);
        }
        assert!(
            continuity.open.capacity() <= 256,
            "{}",
            continuity.open.capacity()
        );
        assert!(continuity.gaps >= 333_000);
    }

    #[test]
    fn a_gap_knows_of_what_was_not_sent_in_it() {
        let mut continuity = Continuity::default();
        let mut gaps = Vec::new();
        for (sent_ns, skipped) in [(0, 3), (10, 5), (40, 2), (70, 1), (80, 7)] {
            continuity.sent(sent_ns, skipped);
        }
        [0, 3, 4].into_iter().for_each(|it| continuity.answer(it));
        continuity.settle(100, &mut |gap| gaps.push(gap));
        assert_eq!(
            gaps,
            [Gap {
                skipped: 3,
                ..gap(10, 70, 2)
            }]
        );
    }

    proptest! {
        #[test]
        fn every_datagram_is_answered_or_in_one_gap(
            answered in prop::collection::vec(any::<bool>(), 0..200),
        ) {
            let right = (0..).zip(&answered).filter(|it| *it.1);
            let numbers: Vec<u64> = right.map(|it| it.0).collect();
            let (continuity, gaps) = told(answered.len() as u64, &numbers);
            prop_assert_eq!(continuity.answered, numbers.len() as u64);
            let in_gaps: u64 = gaps.iter().map(|it| it.unanswered).sum();
            prop_assert_eq!(in_gaps, continuity.unanswered);
            prop_assert_eq!(in_gaps + continuity.answered, answered.len() as u64);
            for gap in &gaps {
                prop_assert_eq!(gap.length_ns(), gap.unanswered * 10);
            }
            let rows = answered.split(|it| *it).filter(|it| !it.is_empty());
            prop_assert_eq!(gaps.len(), rows.count());
        }
    }
}
