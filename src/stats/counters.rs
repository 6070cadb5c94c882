//! Plain counters.

use super::lengths::Lengths;
use crate::datagram::{DropReason, SEGMENTS_MAX};

/// Error numbers with a place of their own; Linux has 133 (errno(3)).
const ERRNO_COUNT: usize = 134;

/// Buckets of trains: the last but one ends at the longest that a kernel makes.
pub const BUCKETS: usize = SEGMENTS_MAX.ilog2() as usize + 2;

/// What became of the datagrams of one socket. Datagrams are counted, not buffers: a train of n
/// counts n.
#[derive(Clone, Debug)]
pub struct Counters {
    /// Datagrams received.
    pub received: u64,
    /// Payload bytes of `received`.
    pub bytes_received: u64,
    /// Buffers that these came in, by the number of datagrams in each.
    pub trains_received: Lengths<BUCKETS>,
    /// Replies that the kernel took.
    pub replied: u64,
    /// Payload bytes of `replied`.
    pub bytes_replied: u64,
    /// Messages that these left in, by the number of datagrams in each.
    pub trains_sent: Lengths<BUCKETS>,
    /// Trains that the kernel refused and that were sent datagram by datagram.
    pub trains_refused: u64,
    /// Messages for which a socket had no room, whatever became of them.
    pub sends_without_room: u64,
    /// Datagrams beyond the rate limit that were answered, since it is tried out only.
    pub rate_excess: u64,
    dropped: [u64; DropReason::ALL.len()],
    send_errors: [u64; ERRNO_COUNT],
    receive_errors: [u64; ERRNO_COUNT],
}

impl Default for Counters {
    fn default() -> Self {
        Self {
            received: 0,
            bytes_received: 0,
            trains_received: Lengths::default(),
            replied: 0,
            bytes_replied: 0,
            trains_sent: Lengths::default(),
            trains_refused: 0,
            sends_without_room: 0,
            rate_excess: 0,
            dropped: [0; _],
            send_errors: [0; _],
            receive_errors: [0; _],
        }
    }
}

impl Counters {
    /// Counts one received buffer with `count` datagrams.
    #[inline]
    pub fn receive(&mut self, count: u64, bytes: usize) {
        self.received += count;
        self.bytes_received += bytes as u64;
        self.trains_received.record(count);
    }

    /// Counts `count` replies that the kernel took in one message.
    #[inline]
    pub fn reply(&mut self, count: u64, bytes: usize) {
        self.replied += count;
        self.bytes_replied += bytes as u64;
        self.trains_sent.record(count);
    }

    /// Counts `count` datagrams that get no reply.
    #[inline]
    pub fn drop(&mut self, reason: DropReason, count: u64) {
        self.dropped[reason as usize] += count;
    }

    /// Counts `count` replies that the kernel refused with `errno`.
    pub fn send_error(&mut self, errno: i32, count: u64) {
        self.send_errors[index(errno)] += count;
    }

    /// Counts a receive that failed with `errno`.
    pub fn receive_error(&mut self, errno: i32) {
        self.receive_errors[index(errno)] += 1;
    }

    /// Drops by reason, all reasons, in their order.
    pub fn dropped(&self) -> impl Iterator<Item = (DropReason, u64)> {
        DropReason::ALL.iter().copied().zip(self.dropped)
    }

    /// Datagrams dropped for any reason.
    pub fn dropped_total(&self) -> u64 {
        self.dropped.iter().sum()
    }

    /// Error numbers that occurred, with the replies they cost.
    pub fn send_errors(&self) -> impl Iterator<Item = (i32, u64)> {
        (0..).zip(self.send_errors).filter(|&(_, count)| count > 0)
    }

    /// Error numbers with which receives failed, and how often. No datagram is counted with them.
    pub fn receive_errors(&self) -> impl Iterator<Item = (i32, u64)> {
        (0..)
            .zip(self.receive_errors)
            .filter(|&(_, count)| count > 0)
    }

    /// Receives that failed.
    pub fn receive_errors_total(&self) -> u64 {
        self.receive_errors.iter().sum()
    }

    /// Replies that the kernel refused.
    pub fn send_errors_total(&self) -> u64 {
        self.send_errors.iter().sum()
    }

    /// Datagrams received that have no end: those in flight, unless some were lost here, or counted
    /// twice.
    pub fn open(&self) -> i64 {
        let ended = self.replied + self.dropped_total() + self.send_errors_total();
        self.received.wrapping_sub(ended) as i64
    }

    /// Adds `other`.
    pub fn add(&mut self, other: &Self) {
        self.received += other.received;
        self.bytes_received += other.bytes_received;
        self.trains_received.add(&other.trains_received);
        self.replied += other.replied;
        self.bytes_replied += other.bytes_replied;
        self.trains_sent.add(&other.trains_sent);
        self.trains_refused += other.trains_refused;
        self.sends_without_room += other.sends_without_room;
        self.rate_excess += other.rate_excess;
        self.dropped
            .iter_mut()
            .zip(other.dropped)
            .for_each(|(sum, more)| *sum += more);
        self.send_errors
            .iter_mut()
            .zip(other.send_errors)
            .for_each(|(sum, more)| *sum += more);
        self.receive_errors
            .iter_mut()
            .zip(other.receive_errors)
            .for_each(|(sum, more)| *sum += more);
    }
}

/// The place of an error number; those that are none share the first.
fn index(errno: i32) -> usize {
    let index = usize::try_from(errno).ok();
    index.filter(|&index| index < ERRNO_COUNT).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn datagrams_are_counted_and_trains_by_their_length() {
        let mut counters = Counters::default();
        counters.receive(32, 2048);
        counters.receive(1, 0);
        counters.receive(SEGMENTS_MAX as u64, 8192);
        counters.reply(30, 1920);
        let received = &counters.trains_received;
        assert_eq!((received.count(), received.count_above_one()), (3, 2));
        let longest: Vec<_> = received.buckets().skip(7).collect();
        assert_eq!(longest, [(Some(128), 1), (None, 0)]);
        assert_eq!(counters.trains_sent.count_above_one(), 1);
        assert_eq!((counters.received, counters.replied), (161, 30));
        assert_eq!(counters.open(), 131);
    }

    #[test]
    fn an_unheard_of_errno_is_counted_all_the_same() {
        let mut counters = Counters::default();
        counters.send_error(4095, 1);
        counters.send_error(-1, 1);
        assert_eq!(counters.send_errors_total(), 2);
    }
}
