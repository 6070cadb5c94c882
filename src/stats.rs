//! What a worker counts: plain numbers, written by one thread, handed over to the server.

pub mod batches;
pub mod counters;
pub mod latency;
pub mod lengths;
pub mod report;
pub mod share;
pub mod snapshot;

use batches::Batches;
use counters::Counters;
use latency::Latency;
use reflector_measure::handover;

/// The counters of one worker since it last handed them over.
///
/// Aligned to two cache lines, so that no worker's counters share a line (or the pair that the
/// prefetcher fetches) with another's.
///
/// `received = replied + Σ dropped + Σ send_errors + in_flight`, the last of which is counted where
/// the buffers are, so that a datagram that is lost here is missed.
#[derive(Debug)]
#[repr(align(128))]
pub struct Stats {
    /// What became of the datagrams of each socket.
    sockets: Box<[Counters]>,
    /// What the loop was like.
    pub batches: Batches,
    /// Datagrams in buffers of the worker, more (or fewer) than when it last handed over.
    pub in_flight: i64,
    /// How long.
    pub latency: Latency,
}

impl Stats {
    /// All zero, of so many `sockets`; allocates.
    pub fn new(sockets: usize) -> Self {
        Self {
            sockets: vec![Counters::default(); sockets].into(),
            batches: Batches::default(),
            in_flight: 0,
            latency: Latency::new(),
        }
    }

    /// The same, to add others to: the histogram grows as that needs it.
    pub fn growing(sockets: usize) -> Self {
        Self {
            sockets: vec![Counters::default(); sockets].into(),
            batches: Batches::default(),
            in_flight: 0,
            latency: Latency::growing(),
        }
    }

    /// The counters of the socket with the index `socket`.
    #[inline]
    pub fn of(&mut self, socket: usize) -> &mut Counters {
        &mut self.sockets[socket]
    }

    /// The counters of each socket, in their order.
    pub fn sockets(&self) -> &[Counters] {
        &self.sockets
    }

    /// Datagrams received, by any of them.
    pub fn received(&self) -> u64 {
        self.sockets.iter().map(|it| it.received).sum()
    }

    /// The counters of all sockets together.
    pub fn counters(&self) -> Counters {
        let mut sum = Counters::default();
        self.sockets.iter().for_each(|it| sum.add(it));
        sum
    }

    /// Datagrams received that neither have an end nor are in flight: 0, unless this program has
    /// lost them, or counted something twice (below 0).
    pub fn unaccounted(&self) -> i64 {
        self.counters().open() - self.in_flight
    }

    /// Adds `other`, all of whose sockets are the first one here.
    pub fn merge(&mut self, other: &Self) {
        let sum = other.counters();
        self.sockets[0].add(&sum);
        self.add_rest(other);
    }

    fn add_rest(&mut self, other: &Self) {
        self.batches.add(&other.batches);
        self.in_flight += other.in_flight;
        self.latency.add(&other.latency);
    }
}

impl handover::Counters for Stats {
    fn add(&mut self, other: &Self) {
        let both = self.sockets.iter_mut().zip(&other.sockets);
        both.for_each(|(sum, more)| sum.add(more));
        self.add_rest(other);
    }

    /// Allocates nothing.
    fn reset(&mut self) {
        self.sockets.fill_with(Counters::default);
        self.batches = Batches::default();
        self.in_flight = 0;
        self.latency.reset();
    }
}

const _: () = assert!(align_of::<Stats>() == 128 && size_of::<Stats>().is_multiple_of(128));

#[cfg(test)]
mod tests {
    use super::*;
    use crate::datagram::DropReason;

    #[test]
    fn the_counters_add_up_whichever_socket_it_was() {
        let mut stats = Stats::new(2);
        stats.of(0).receive(32, 2048);
        stats.of(1).receive(1, 0);
        assert_eq!(stats.unaccounted(), 33, "in no buffer");
        stats.in_flight = 33;
        assert_eq!(stats.unaccounted(), 0);
        stats.of(0).reply(30, 1920);
        stats.of(1).drop(DropReason::NotAllowed, 1);
        stats.of(0).send_error(libc::EPERM, 2);
        assert_eq!(stats.unaccounted(), -33, "still said to be in flight");
        stats.in_flight = 0;
        assert_eq!(stats.unaccounted(), 0);
        let open: Vec<_> = stats.sockets().iter().map(Counters::open).collect();
        assert_eq!(open, [0, 0], "each by itself");
    }

    #[test]
    fn what_is_handed_over_is_added_by_socket_and_in_all() {
        use handover::Counters as _;

        let (mut stats, mut by_socket, mut in_all) = (Stats::new(2), Stats::new(2), Stats::new(1));
        stats.of(1).receive(3, 30);
        stats.batches.brought(1);
        for _ in 0..2 {
            by_socket.add(&stats);
            in_all.merge(&stats);
        }
        let received: Vec<_> = by_socket.sockets().iter().map(|it| it.received).collect();
        assert_eq!(received, [0, 6]);
        assert_eq!(in_all.counters().received, 6);
        assert_eq!(in_all.batches.lengths.count(), 2);
        stats.reset();
        assert_eq!(stats.counters().received + stats.batches.lengths.count(), 0);
    }
}
