//! What became of each datagram of one flow: a sliding bitmap of answers. Pure.
//!
//! Sequence numbers live in three ranges: given up (older than the timeout), open, not sent yet.
//! One bit each says whether it is settled; the bits of those given up stay readable until their
//! place is needed, so that a second answer is still told from a late first one.

use std::collections::VecDeque;

/// Parts of the timeout that giving up is exact to.
const STEPS: u64 = 64;

/// The answers of one flow.
#[derive(Debug)]
pub(crate) struct Track {
    /// Bit `sequence % capacity` is set once `sequence` is settled.
    settled: Box<[u64]>,
    /// The sequence number sent next.
    next: u64,
    /// All below are given up.
    open_from: u64,
    /// All below were warm-up, and do not count.
    counted_from: u64,
    /// All below were sent before the first answer came; `u64::MAX` until it does.
    cold_to: u64,
    /// Of these, those that count and were lost.
    cold_lost: u64,
    /// The number that follows those whose round trip was told last, and how long that was.
    timed: Option<(u64, u64)>,
    /// Numbers of datagrams that the kernel refused.
    taken_back: u64,
    /// Highest number that was answered, plus one.
    answered_to: u64,
    /// Open and not settled.
    outstanding: u64,
    timeout_ns: u64,
    marks: VecDeque<Mark>,
}

/// Datagrams up to `to` were sent between the two times.
#[derive(Clone, Copy, Debug)]
struct Mark {
    to: u64,
    first_ns: u64,
    last_ns: u64,
}

/// What answers to consecutive datagrams are to their flow; each is one of these.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Answers {
    /// The first ones to open datagrams.
    pub(crate) first: u64,
    /// Of these: a datagram that was sent later had been answered before.
    pub(crate) reordered: u64,
    /// The first ones to datagrams that were given up.
    pub(crate) given_up: u64,
    /// Not the first ones.
    pub(crate) again: u64,
    /// To datagrams so old that nobody remembers whether there was an answer before.
    pub(crate) forgotten: u64,
    /// To datagrams that were never sent.
    pub(crate) unknown: u64,
    /// To datagrams of the warm-up.
    pub(crate) uncounted: u64,
}

impl Track {
    /// A flow that has sent nothing; it remembers at least `capacity` datagrams.
    pub(crate) fn new(capacity: u64, timeout_ns: u64) -> Self {
        let words = capacity.max(64).next_power_of_two() / 64;
        Self {
            // Zeroed by the kernel, and resident only where it is used.
            settled: vec![0; words as usize].into_boxed_slice(),
            next: 0,
            open_from: 0,
            counted_from: 0,
            cold_to: u64::MAX,
            cold_lost: 0,
            timed: None,
            taken_back: 0,
            answered_to: 0,
            outstanding: 0,
            timeout_ns,
            marks: VecDeque::with_capacity(STEPS as usize + 8),
        }
    }

    fn capacity(&self) -> u64 {
        self.settled.len() as u64 * 64
    }

    /// The sequence number of the next datagram.
    pub(crate) fn next(&self) -> u64 {
        self.next
    }

    /// Datagrams that are neither answered nor given up.
    pub(crate) fn outstanding(&self) -> u64 {
        self.outstanding
    }

    /// Whether anything was ever answered, the warm-up included.
    pub(crate) fn is_answered(&self) -> bool {
        self.answered_to > 0
    }

    /// Whether anything was sent, the warm-up included.
    pub(crate) fn is_used(&self) -> bool {
        self.next > self.taken_back
    }

    /// Notes that the next `count` datagrams are sent at `now_ns`. Returns how many had to be given
    /// up before their time because the memory is full.
    #[inline]
    pub(crate) fn send(&mut self, count: u32, now_ns: u64) -> u64 {
        let to = self.next + u64::from(count);
        let oldest = to.saturating_sub(self.capacity());
        let lost = if oldest > self.open_from {
            self.give_up(oldest)
        } else {
            0
        };
        self.each_word(self.next, to, |word, mask| *word &= !mask);
        self.next = to;
        self.outstanding += u64::from(count);
        let step_ns = self.timeout_ns / STEPS;
        match self.marks.back_mut() {
            Some(mark) if now_ns.saturating_sub(mark.first_ns) < step_ns => {
                mark.to = to;
                mark.last_ns = now_ns;
            }
            _ => self.marks.push_back(Mark {
                to,
                first_ns: now_ns,
                last_ns: now_ns,
            }),
        }
        lost
    }

    /// Takes back `count` datagrams from `first` on: the kernel refused them.
    pub(crate) fn take_back(&mut self, first: u64, count: u32) {
        let to = first + u64::from(count);
        self.each_word(first, to, |word, mask| *word |= mask);
        self.outstanding -= u64::from(count);
        self.taken_back += u64::from(count);
    }

    /// Notes answers to the `count` datagrams from `first` on, that came in this order.
    #[inline]
    pub(crate) fn answer(&mut self, first: u64, count: u64) -> Answers {
        let to = first.saturating_add(count);
        let answered_to = self.answered_to;
        let remembered_from = self.next.saturating_sub(self.capacity());
        if first < self.next {
            self.answered_to = answered_to.max(to.min(self.next));
        }
        let mut answers = Answers::default();
        let mut at = first;
        while at < to {
            // Up to the next place where something about them changes.
            let end = [
                remembered_from,
                self.counted_from,
                self.open_from,
                answered_to,
                self.next,
            ]
            .into_iter()
            .fold(
                to,
                |end, change| if change > at { end.min(change) } else { end },
            );
            let count = end - at;
            if at >= self.next {
                answers.unknown += count;
            } else if at < remembered_from {
                answers.forgotten += count;
            } else {
                let fresh = self.settle(at, end);
                let is_open = at >= self.open_from;
                if is_open {
                    self.outstanding -= fresh;
                }
                if at < self.counted_from {
                    answers.uncounted += count;
                } else {
                    let first = if is_open { fresh } else { 0 };
                    answers.first += first;
                    answers.reordered += if at < answered_to { first } else { 0 };
                    answers.given_up += fresh - first;
                    answers.again += count - fresh;
                }
            }
            at = end;
        }
        answers
    }

    /// Settles a range of remembered datagrams. Returns how many were not settled yet.
    fn settle(&mut self, from: u64, to: u64) -> u64 {
        let mut fresh = 0;
        self.each_word(from, to, |word, mask| {
            fresh += u64::from((!*word & mask).count_ones());
            *word |= mask;
        });
        fresh
    }

    /// Gives up what was sent a timeout or longer before `now_ns`. Returns how many of those that
    /// count were not answered.
    pub(crate) fn expire(&mut self, now_ns: u64) -> u64 {
        let Some(horizon_ns) = now_ns.checked_sub(self.timeout_ns) else {
            return 0;
        };
        let mut to = self.open_from;
        while let Some(mark) = self.marks.front().filter(|mark| mark.last_ns <= horizon_ns) {
            to = to.max(mark.to);
            self.marks.pop_front();
        }
        self.give_up(to)
    }

    /// Gives up everything that is open, and says how many of it count.
    pub(crate) fn expire_all(&mut self) -> u64 {
        self.marks.clear();
        self.give_up(self.next)
    }

    /// What is sent from now on counts, and what was sent before does not.
    pub(crate) fn start_counting(&mut self) {
        self.counted_from = self.next;
    }

    /// By how much `rtt_ns`, of the `count` datagrams from `first` on, differs from the round trip
    /// of the one before them (IPDV, RFC 3393); `None` where that was not the last one told.
    pub(crate) fn ipdv_ns(&mut self, first: u64, count: u64, rtt_ns: u64) -> Option<u64> {
        let before = self.timed.replace((first + count, rtt_ns));
        let before = before.filter(|&(next, _)| next == first);
        before.map(|(_, before_ns)| rtt_ns.abs_diff(before_ns))
    }

    /// The first answer has come, at this flow or another one.
    pub(crate) fn end_cold(&mut self) {
        self.cold_to = self.cold_to.min(self.next);
    }

    /// Notes that `count` datagrams from `first` on were answered, and are lost all the same.
    pub(crate) fn lose_answered(&mut self, first: u64, count: u64) {
        if first < self.cold_to {
            self.cold_lost += count;
        }
    }

    /// Datagrams lost of those that were sent before the first answer came.
    pub(crate) fn cold_lost(&self) -> u64 {
        self.cold_lost
    }

    fn give_up(&mut self, to: u64) -> u64 {
        let from = self.open_from;
        let warm_to = self.counted_from.clamp(from, to);
        let warm = self.unsettled(from, warm_to);
        let lost = self.unsettled(warm_to, to);
        self.cold_lost += self.unsettled(warm_to, self.cold_to.clamp(warm_to, to));
        self.open_from = to;
        self.outstanding -= warm + lost;
        lost
    }

    fn unsettled(&mut self, from: u64, to: u64) -> u64 {
        let mut count = 0;
        self.each_word(from, to, |word, mask| {
            count += u64::from((!*word & mask).count_ones());
        });
        count
    }

    /// Calls `visit` with each word that has bits of `from..to`, and these bits.
    #[inline]
    fn each_word(&mut self, from: u64, to: u64, mut visit: impl FnMut(&mut u64, u64)) {
        debug_assert!(to - from <= self.capacity(), "a bit for each");
        let mut at = from;
        while at < to {
            let bit = at & (self.capacity() - 1);
            let in_word = (64 - bit % 64).min(to - at);
            let mask = (u64::MAX >> (64 - in_word)) << (bit % 64);
            visit(&mut self.settled[(bit / 64) as usize], mask);
            at += in_word;
        }
    }
}

#[cfg(test)]
mod tests;
