//! What has been counted since the start, for whoever watches a long run.

use hdrhistogram::Histogram;

use crate::stats::Stats;

/// Everything from the start until the end of the last interval, the warm-up not counted.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Counted {
    /// Datagrams that the kernel took.
    pub sent: u64,
    /// Datagrams answered in time, unharmed, from the target's address.
    pub received: u64,
    /// Datagrams not answered so; fewer again where an answer that was given up had come in time.
    pub lost: u64,
    /// Datagrams that our own kernel refused.
    pub refused: u64,
    /// Answers to a datagram that was answered already.
    pub duplicated: u64,
    /// Answers to a datagram that was sent before one that was answered already.
    pub reordered: u64,
    /// Answers after the timeout.
    pub late: u64,
    /// Answers that are not what was sent.
    pub corrupt: u64,
    /// Datagrams that are none of ours.
    pub foreign: u64,
    /// Answers from an address or port that was not asked.
    pub wrong_source: u64,
    /// ICMP errors.
    pub icmp: u64,
    /// Round trips of what was received, from the time that each was scheduled for, in nanoseconds.
    pub rtt_ns: Histogram<u64>,
}

impl Counted {
    /// Nothing.
    pub(crate) fn new() -> Self {
        Self {
            sent: 0,
            received: 0,
            lost: 0,
            refused: 0,
            duplicated: 0,
            reordered: 0,
            late: 0,
            corrupt: 0,
            foreign: 0,
            wrong_source: 0,
            icmp: 0,
            rtt_ns: Stats::new().rtt_ns,
        }
    }

    /// Adds what was counted in an interval.
    pub(crate) fn add(&mut self, stats: &Stats) {
        let counters = &stats.counters;
        self.sent += counters.sent;
        self.received += counters.received;
        // What was given up before may turn out to have come now.
        self.lost = (self.lost + counters.given_up).saturating_sub(counters.recovered);
        self.refused += counters.refused();
        self.duplicated += counters.duplicated;
        self.reordered += counters.reordered;
        self.late += counters.late;
        self.corrupt += counters.corrupt;
        self.foreign += counters.foreign;
        self.wrong_source += counters.wrong_source.total();
        self.icmp += counters.icmp.values().sum::<u64>();
        let added = self.rtt_ns.add(&stats.rtt_ns);
        added.expect("both have the same bounds");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn intervals_add_up_and_what_was_given_up_may_come_later() {
        let mut stats = Stats::new();
        stats.counters.sent = 10;
        stats.counters.received = 6;
        stats.counters.given_up = 4;
        stats.counters.icmp.insert("port unreachable", 2);
        stats.rtt_ns.record(20_000).unwrap();
        let mut counted = Counted::new();
        counted.add(&stats);
        stats.counters.given_up = 0;
        stats.counters.recovered = 3;
        counted.add(&stats);
        assert_eq!((counted.sent, counted.received, counted.lost), (20, 12, 1));
        assert_eq!((counted.icmp, counted.rtt_ns.len()), (4, 2));
    }
}
