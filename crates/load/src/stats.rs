//! Counters and times of one worker, and their sum over workers.

use std::collections::BTreeMap;
use std::net::SocketAddr;

use hdrhistogram::Histogram;

use crate::gaps::Gaps;
use reflector_measure::drops::Received;
use reflector_measure::handover;

/// Longest time that is told apart from longer ones, in nanoseconds: an hour.
const TIME_NS_MAX: u64 = 3_600_000_000_000;
/// Significant decimal digits: 0.1 %.
const SIGNIFICANT_DIGITS: u8 = 3;
/// Wrong sources that are told by address; the rest is counted together.
const SOURCES_MAX: usize = 64;

/// Counters and times since the start, or since they were last gathered.
#[derive(Clone, Debug)]
pub(crate) struct Stats {
    /// How many.
    pub(crate) counters: Counters,
    /// Round trips from the scheduled time, in nanoseconds.
    pub(crate) rtt_ns: Histogram<u64>,
    /// Round trips from the actual send, in nanoseconds.
    pub(crate) rtt_uncorrected_ns: Histogram<u64>,
    /// From the scheduled time to the actual send, in nanoseconds.
    pub(crate) send_lag_ns: Histogram<u64>,
    /// From the actual send until the kernel handed the datagram to the device, of one message in
    /// [`STAMP_EVERY`](crate::flow::STAMP_EVERY), in nanoseconds.
    pub(crate) stamp_to_wire_ns: Histogram<u64>,
    /// Times between departures.
    pub(crate) gaps: Gaps,
}

impl Stats {
    /// All zero; allocates the histograms.
    pub(crate) fn new() -> Self {
        let times = || {
            Histogram::new_with_bounds(1, TIME_NS_MAX, SIGNIFICANT_DIGITS)
                .expect("1 < the maximum, and 3 is between 0 and 5")
        };
        Self {
            counters: Counters::default(),
            rtt_ns: times(),
            rtt_uncorrected_ns: times(),
            send_lag_ns: times(),
            stamp_to_wire_ns: times(),
            gaps: Gaps::default(),
        }
    }

    /// The round trip at `quantile` of everything that was sent, in nanoseconds; `None` if that was
    /// lost, and so took longer than any that was received.
    pub(crate) fn rtt_at(&self, quantile: f64) -> Option<u64> {
        let received = self.rtt_ns.len();
        let all = received + self.counters.lost();
        let rank = ((quantile * all as f64).ceil() as u64).clamp(1, all.max(1));
        let in_received = rank as f64 / received as f64;
        let at = || self.rtt_ns.value_at_quantile(in_received);
        (rank <= received).then(|| at().min(self.rtt_max_ns()))
    }

    /// The longest round trip from the scheduled time of what was received.
    pub(crate) fn rtt_max_ns(&self) -> u64 {
        self.counters.rtt_max_ns.unwrap_or(u64::MAX)
    }

    /// The longest time from the scheduled time to the actual send.
    pub(crate) fn send_lag_max_ns(&self) -> u64 {
        self.counters.send_lag_max_ns.unwrap_or(u64::MAX)
    }

    /// Round trips from the scheduled time, in which everything that was lost took `timeout_ns`: it
    /// took at least that. What the kernel refused was never under way.
    pub(crate) fn rtt_with_losses_ns(&self, timeout_ns: u64) -> Histogram<u64> {
        self.with_losses_ns(&self.rtt_ns, timeout_ns)
    }

    /// `times_ns` of what was received, with the same for what was not.
    pub(crate) fn with_losses_ns(
        &self,
        times_ns: &Histogram<u64>,
        timeout_ns: u64,
    ) -> Histogram<u64> {
        let mut times = times_ns.clone();
        let lost = self.counters.lost();
        if lost > 0 {
            // Of a count of 0 the histogram would remember the value as its largest.
            times.saturating_record_n(timeout_ns, lost);
        }
        times
    }
}

impl handover::Counters for Stats {
    fn add(&mut self, other: &Self) {
        self.counters.add(&other.counters);
        self.gaps.add(&other.gaps);
        for (sum, more) in [
            (&mut self.rtt_ns, &other.rtt_ns),
            (&mut self.rtt_uncorrected_ns, &other.rtt_uncorrected_ns),
            (&mut self.send_lag_ns, &other.send_lag_ns),
            (&mut self.stamp_to_wire_ns, &other.stamp_to_wire_ns),
        ] {
            sum.add(more).expect("both have the same bounds");
        }
    }

    /// Keeps the histograms' memory.
    fn reset(&mut self) {
        self.counters = Counters::default();
        self.gaps = Gaps::default();
        self.rtt_ns.reset();
        self.rtt_uncorrected_ns.reset();
        self.send_lag_ns.reset();
        self.stamp_to_wire_ns.reset();
    }
}

/// How many of everything. Datagrams are counted, not buffers.
///
/// At the end `sent = received + lost`: what is late, corrupt or from a wrong source is lost.
#[derive(Clone, Debug, Default)]
pub(crate) struct Counters {
    /// Datagrams that the kernel took.
    pub(crate) sent: u64,
    /// Datagrams answered in time, unharmed, from the target's address.
    pub(crate) received: u64,
    /// Datagrams given up, or answered too late, corrupt or from a wrong source.
    pub(crate) given_up: u64,
    /// Of these: answers in time after all, which had waited in our socket.
    pub(crate) recovered: u64,
    /// Answers to a datagram that was answered already.
    pub(crate) duplicated: u64,
    /// Answers to a datagram that was sent before one that was answered already.
    pub(crate) reordered: u64,
    /// Answers after the timeout.
    pub(crate) late: u64,
    /// Answers that are not what was sent.
    pub(crate) corrupt: u64,
    /// Datagrams that are none of ours.
    pub(crate) foreign: u64,
    /// Answers from an address or port that was not asked.
    pub(crate) wrong_source: Sources,
    /// Datagrams that the kernel refused, by error number.
    pub(crate) send_errors: BTreeMap<i32, u64>,
    /// Of these, those that the queue of the device had no room for (`ENOBUFS`).
    pub(crate) queue_refused: u64,
    /// The same in messages, each a datagram or a train.
    pub(crate) queue_refusals: u64,
    /// Trains that the kernel took.
    pub(crate) trains_sent: u64,
    /// What came to our sockets, whatever it was.
    pub(crate) arrived: Received,
    /// Lost datagrams that an answer came to: late, corrupt, or from a wrong source.
    pub(crate) answered_otherwise: u64,
    /// Times that sending had to wait for room in the send buffer.
    pub(crate) send_waits: u64,
    /// Times that no flow's window had room for what was due.
    pub(crate) window_waits: u64,
    /// Trains that the kernel refused and that were sent datagram by datagram.
    pub(crate) trains_refused: u64,
    /// ICMP errors, by what they say.
    pub(crate) icmp: BTreeMap<&'static str, u64>,
    /// Datagrams and trains, each once, that found our receive buffers full.
    pub(crate) receive_drops: u64,
    /// Answers whose time is unknown because `CLOCK_REALTIME` was set meanwhile.
    pub(crate) clock_stepped: u64,
    /// The longest round trip from the scheduled time, to the nanosecond.
    pub(crate) rtt_max_ns: Option<u64>,
    /// The longest time from the scheduled time to the actual send, to the nanosecond.
    pub(crate) send_lag_max_ns: Option<u64>,
    /// Round trips that followed another one of their flow without a loss between.
    pub(crate) ipdv_count: u64,
    /// Sum of the differences between the two, in nanoseconds.
    pub(crate) ipdv_sum_ns: u64,
}

impl Counters {
    /// Datagrams sent and not answered in time; what is still open is neither.
    pub(crate) fn lost(&self) -> u64 {
        self.given_up.saturating_sub(self.recovered)
    }

    /// Datagrams that the kernel refused.
    pub(crate) fn refused(&self) -> u64 {
        self.send_errors.values().sum()
    }

    /// Loss in percent of what was sent and is received or lost; `None` where that is nothing.
    pub(crate) fn loss_percent(&self) -> Option<f64> {
        percent(self.lost(), self.received + self.lost())
    }

    /// What our own kernel refused, in percent of what it was given; `None` where that is nothing.
    pub(crate) fn refused_percent(&self) -> Option<f64> {
        percent(self.refused(), self.sent + self.refused())
    }

    fn add(&mut self, other: &Self) {
        self.sent += other.sent;
        self.received += other.received;
        self.given_up += other.given_up;
        self.recovered += other.recovered;
        self.duplicated += other.duplicated;
        self.reordered += other.reordered;
        self.late += other.late;
        self.corrupt += other.corrupt;
        self.foreign += other.foreign;
        self.wrong_source.add(&other.wrong_source);
        self.queue_refused += other.queue_refused;
        self.queue_refusals += other.queue_refusals;
        self.trains_sent += other.trains_sent;
        self.arrived.datagrams += other.arrived.datagrams;
        self.arrived.buffers += other.arrived.buffers;
        self.answered_otherwise += other.answered_otherwise;
        self.send_waits += other.send_waits;
        self.window_waits += other.window_waits;
        self.trains_refused += other.trains_refused;
        self.receive_drops += other.receive_drops;
        self.clock_stepped += other.clock_stepped;
        self.rtt_max_ns = self.rtt_max_ns.max(other.rtt_max_ns);
        self.send_lag_max_ns = self.send_lag_max_ns.max(other.send_lag_max_ns);
        self.ipdv_count += other.ipdv_count;
        self.ipdv_sum_ns += other.ipdv_sum_ns;
        for (&errno, count) in &other.send_errors {
            *self.send_errors.entry(errno).or_default() += count;
        }
        for (&name, count) in &other.icmp {
            *self.icmp.entry(name).or_default() += count;
        }
    }
}

fn percent(part: u64, of: u64) -> Option<f64> {
    (of > 0).then(|| 100.0 * part as f64 / of as f64)
}

impl Default for Stats {
    fn default() -> Self {
        Self::new()
    }
}

/// Addresses that answered without having been asked.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Sources {
    /// The first ones, in the order of their first answer.
    pub(crate) seen: Vec<(SocketAddr, u64)>,
    /// Answers from all others.
    pub(crate) others: u64,
}

impl Sources {
    /// Counts `count` answers from `source`.
    pub(crate) fn record(&mut self, source: SocketAddr, count: u64) {
        if let Some((_, sum)) = self.seen.iter_mut().find(|(addr, _)| *addr == source) {
            *sum += count;
        } else if self.seen.len() < SOURCES_MAX {
            self.seen.push((source, count));
        } else {
            self.others += count;
        }
    }

    /// Answers from any wrong source.
    pub(crate) fn total(&self) -> u64 {
        self.others + self.seen.iter().map(|(_, count)| count).sum::<u64>()
    }

    fn add(&mut self, other: &Self) {
        self.others += other.others;
        for &(source, count) in &other.seen {
            self.record(source, count);
        }
    }
}

#[cfg(test)]
mod tests {
    use reflector_measure::handover::Counters as _;

    use super::*;

    #[test]
    fn what_is_lost_took_the_timeout_and_what_is_refused_took_none() {
        let mut stats = Stats::new();
        stats.counters.received = 90;
        stats.rtt_ns.record_n(20_000, 90).unwrap();
        stats.counters.given_up = 11;
        stats.counters.recovered = 1;
        stats.counters.sent = 100;
        stats.counters.send_errors.insert(libc::EPERM, 300);
        assert!(stats.rtt_ns.max() < 30_000);
        let times = stats.rtt_with_losses_ns(1_000_000_000);
        assert_eq!(times.len(), 100);
        assert!(times.equivalent(times.value_at_quantile(0.9), 20_000));
        assert!(times.equivalent(times.value_at_quantile(0.91), 1_000_000_000));
        assert_eq!(stats.counters.loss_percent(), Some(10.0));
        assert_eq!(stats.counters.refused_percent(), Some(75.0));
        let nothing = Counters::default();
        assert_eq!(
            (nothing.loss_percent(), nothing.refused_percent()),
            (None, None)
        );
    }

    #[test]
    fn a_sum_and_a_reset_forget_nothing() {
        let mut one = Stats::new();
        one.counters.sent = 3;
        one.counters.icmp.insert("port_unreachable", 2);
        one.counters
            .wrong_source
            .record("192.0.2.1:7".parse().unwrap(), 5);
        one.send_lag_ns.record(7).unwrap();
        let mut sum = Stats::new();
        sum.add(&one);
        sum.add(&one);
        assert_eq!(
            (sum.counters.sent, sum.counters.icmp["port_unreachable"]),
            (6, 4)
        );
        assert_eq!(
            (sum.counters.wrong_source.total(), sum.send_lag_ns.len()),
            (10, 2)
        );
        sum.reset();
        assert_eq!(
            (
                sum.counters.sent,
                sum.counters.icmp.len(),
                sum.counters.wrong_source.total()
            ),
            (0, 0, 0)
        );
        assert_eq!(
            (sum.send_lag_ns.len(), sum.send_lag_ns.high()),
            (0, TIME_NS_MAX)
        );
    }

    #[test]
    fn the_table_of_sources_is_bounded() {
        let mut sources = Sources::default();
        (0..1000).for_each(|port| sources.record(([192, 0, 2, 1], port).into(), 1));
        assert_eq!((sources.seen.len(), sources.total()), (SOURCES_MAX, 1000));
    }
}
