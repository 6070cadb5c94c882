//! Datagrams that were received and have no end yet, counted where their buffers are.

use crate::stats::Stats;

/// How many there were when they were counted last. Counters that are handed over add up, so what
/// goes into them is the difference.
#[derive(Default)]
pub struct InFlight(u64);

impl InFlight {
    /// There are `now` of them.
    pub fn count(&mut self, now: u64, stats: &mut Stats) {
        stats.in_flight += now.wrapping_sub(self.0) as i64;
        self.0 = now;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::batch::Batch;
    use reflector_udp::memory::Lease;

    /// A batch of three datagrams and a train of 32, as they are counted when they come.
    fn batch(stats: &mut Stats) -> Batch {
        let mut batch = Batch::new(4);
        for (lease, len) in Lease::carve(4, 2048, 2048)
            .unwrap()
            .into_iter()
            .zip([64, 64, 64, 2048])
        {
            batch.spare().segment_len = 64;
            let count = batch.push(lease, 0..len, 0).count();
            stats.of(0).receive(count, len as usize);
        }
        batch
    }

    #[test]
    fn what_is_in_a_batch_is_in_flight() {
        let (mut stats, mut in_flight) = (Stats::new(1), InFlight::default());
        let mut batch = batch(&mut stats);
        in_flight.count(batch.in_flight(), &mut stats);
        assert_eq!(stats.in_flight, 35);
        assert_eq!(stats.unaccounted(), 0);
        while let Some((_, slot, _)) = batch.take() {
            stats.of(0).reply(slot.count(), slot.len as usize);
        }
        in_flight.count(batch.in_flight(), &mut stats);
        assert_eq!(stats.in_flight, 0);
        assert_eq!(stats.unaccounted(), 0);
    }

    #[test]
    fn a_datagram_that_is_lost_here_is_missed_and_one_counted_twice_is_too_much() {
        let (mut stats, mut in_flight) = (Stats::new(1), InFlight::default());
        let mut batch = batch(&mut stats);
        in_flight.count(batch.in_flight(), &mut stats);
        // Taken, and neither sent nor counted.
        batch.take();
        in_flight.count(batch.in_flight(), &mut stats);
        assert_eq!(stats.unaccounted(), 1);
        stats.of(0).reply(2, 128);
        assert_eq!(stats.unaccounted(), -1);
    }
}
