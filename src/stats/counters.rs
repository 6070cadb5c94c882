//! Plain counters.

use crate::datagram::DropReason;

/// Error numbers with a place of their own; Linux has 133 (errno(3)).
const ERRNO_COUNT: usize = 134;

/// How many of everything. Datagrams are counted, not buffers: a train of n counts n.
///
/// `received = replied + Σ dropped + Σ send_errors + in_flight`, the last of which is counted where
/// the buffers are, so that a datagram that is lost here is missed.
#[derive(Clone, Debug)]
pub struct Counters {
    /// Datagrams received.
    pub received: u64,
    /// Buffers that these came in, each with a datagram or a train.
    pub buffers: u64,
    /// Replies that the kernel took.
    pub replied: u64,
    /// Payload bytes of `received`.
    pub bytes_received: u64,
    /// Payload bytes of `replied`.
    pub bytes_replied: u64,
    /// Buffers received with more than one datagram in them.
    pub trains_received: u64,
    /// Replies handed over as trains.
    pub trains_sent: u64,
    /// Trains that the kernel refused and that were sent datagram by datagram.
    pub trains_refused: u64,
    /// Messages for which a socket had no room, whatever became of them.
    pub sends_without_room: u64,
    /// Datagrams beyond the rate limit that were answered, since it is tried out only.
    pub rate_excess: u64,
    /// Times that `receive` brought something.
    pub batches: u64,
    /// Datagrams in buffers of the worker, more (or fewer) than when it last handed over.
    pub in_flight: i64,
    /// Datagrams whose residence time is unknown because `CLOCK_REALTIME` was set meanwhile.
    pub clock_stepped: u64,
    dropped: [u64; DropReason::ALL.len()],
    send_errors: [u64; ERRNO_COUNT],
    receive_errors: [u64; ERRNO_COUNT],
}

impl Default for Counters {
    fn default() -> Self {
        Self {
            received: 0,
            buffers: 0,
            replied: 0,
            bytes_received: 0,
            bytes_replied: 0,
            trains_received: 0,
            trains_sent: 0,
            trains_refused: 0,
            sends_without_room: 0,
            rate_excess: 0,
            batches: 0,
            in_flight: 0,
            clock_stepped: 0,
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
        self.buffers += 1;
        self.bytes_received += bytes as u64;
        self.trains_received += u64::from(count > 1);
    }

    /// Counts `count` replies that the kernel took in one message.
    #[inline]
    pub fn reply(&mut self, count: u64, bytes: usize) {
        self.replied += count;
        self.bytes_replied += bytes as u64;
        self.trains_sent += u64::from(count > 1);
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

    /// Datagrams received that neither have an end nor are in flight: 0, unless this program has
    /// lost them, or counted something twice (below 0).
    pub fn unaccounted(&self) -> i64 {
        let ended = self.replied + self.dropped_total() + self.send_errors_total();
        self.received.wrapping_sub(ended) as i64 - self.in_flight
    }

    /// Adds `other`.
    pub fn add(&mut self, other: &Self) {
        self.received += other.received;
        self.buffers += other.buffers;
        self.replied += other.replied;
        self.bytes_received += other.bytes_received;
        self.bytes_replied += other.bytes_replied;
        self.trains_received += other.trains_received;
        self.trains_sent += other.trains_sent;
        self.trains_refused += other.trains_refused;
        self.sends_without_room += other.sends_without_room;
        self.rate_excess += other.rate_excess;
        self.batches += other.batches;
        self.in_flight += other.in_flight;
        self.clock_stepped += other.clock_stepped;
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
    fn the_counters_add_up() {
        let mut counters = Counters::default();
        counters.receive(32, 2048);
        counters.receive(1, 0);
        assert_eq!(counters.unaccounted(), 33, "in no buffer");
        counters.in_flight = 33;
        assert_eq!(counters.unaccounted(), 0);
        counters.reply(30, 1920);
        counters.drop(DropReason::NotAllowed, 1);
        counters.send_error(libc::EPERM, 2);
        assert_eq!(counters.unaccounted(), -33, "still said to be in flight");
        counters.in_flight = 0;
        assert_eq!(counters.unaccounted(), 0);
        assert_eq!(
            counters.send_errors().collect::<Vec<_>>(),
            [(libc::EPERM, 2)]
        );
        assert_eq!((counters.trains_received, counters.trains_sent), (1, 1));
    }

    #[test]
    fn an_unheard_of_errno_is_counted_all_the_same() {
        let mut counters = Counters::default();
        counters.send_error(4095, 1);
        counters.send_error(-1, 1);
        assert_eq!(counters.send_errors_total(), 2);
    }
}
