//! What was counted and measured over some time, as it is reported.

use std::collections::BTreeMap;
use std::net::SocketAddr;

use serde::Serialize;

use crate::gaps::DepartureGaps;
use crate::kept;
use crate::options::Rate;
use crate::plan::{Offer, Plan};
use crate::run::Interval;
use crate::stats::{Counters, Stats};
use reflector_measure::clock::Span;
use reflector_measure::errno;
use reflector_measure::quantiles::Quantiles;

/// Counters over some time.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Totals {
    /// How long.
    pub(crate) seconds: f64,
    /// When.
    #[serde(flatten)]
    pub(crate) span: Span,
    /// Datagrams per second that were asked for; `None` where as many as could be sent.
    pub(crate) offered_pps: Option<f64>,
    /// Datagrams per second that were sent.
    pub(crate) achieved_pps: f64,
    /// Datagrams that the kernel took.
    pub(crate) sent: u64,
    /// Datagrams answered in time, unharmed, from the target's address.
    pub(crate) received: u64,
    /// Datagrams not answered so.
    pub(crate) lost: u64,
    /// Lost in percent of what was sent and is received or lost; `None` where that is nothing.
    pub(crate) loss_percent: Option<f64>,
    /// Datagrams that our own kernel refused: neither sent nor lost.
    pub(crate) refused: u64,
    /// The same in percent of these and of those sent; `None` where that is nothing.
    pub(crate) refused_percent: Option<f64>,
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
    /// Answers from an address that was not asked.
    pub(crate) wrong_source: WrongSource,
    /// ICMP errors, by what they say.
    pub(crate) icmp: BTreeMap<&'static str, u64>,
    /// Datagrams that the kernel refused, by error.
    pub(crate) send_errors: BTreeMap<String, u64>,
    /// Times that sending had to wait for room in the send buffer.
    pub(crate) send_waits: u64,
    /// Trains that the kernel refused and that were sent datagram by datagram.
    pub(crate) trains_refused: u64,
    /// Times that are unknown because the clock was set meanwhile.
    pub(crate) clock_stepped: u64,
    /// Round trips from the scheduled time; what is lost took at least the timeout.
    pub(crate) rtt_us: Quantiles,
    /// Round trips of what was received, from the actual send.
    pub(crate) rtt_uncorrected_us: Quantiles,
    /// Mean of the same; `None` where nothing was received.
    pub(crate) rtt_mean_us: Option<f64>,
    /// Standard deviation of the same.
    pub(crate) rtt_deviation_us: Option<f64>,
    /// Mean difference between one of the same and the next of its flow (IPDV); `None`
    /// where no two followed each other.
    pub(crate) ipdv_us: Option<f64>,
    /// From the scheduled time to the actual send.
    pub(crate) send_lag_us: Quantiles,
    /// From the actual send until the kernel handed the datagram to the device, of a sample.
    pub(crate) stamp_to_wire_us: Quantiles,
    /// Times between departures; `None` where there are none, or no schedule.
    pub(crate) departure_gaps: Option<DepartureGaps>,
    /// Datagrams sent more than a millisecond after their time.
    pub(crate) sent_late: u64,
}

/// Answers from an address or port that was not asked.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct WrongSource {
    /// How many.
    pub(crate) total: u64,
    /// Who was asked.
    pub(crate) expected: SocketAddr,
    /// Who answered, and how often.
    pub(crate) seen: BTreeMap<SocketAddr, u64>,
    /// Answers from still others.
    pub(crate) others: u64,
}

impl Totals {
    /// The counters in `stats`, taken over `seconds` of `offer`.
    pub(crate) fn new(plan: &Plan, offer: &Offer, stats: &Stats, seconds: f64) -> Self {
        let counters = &stats.counters;
        let &Counters {
            sent,
            received,
            duplicated,
            reordered,
            late,
            corrupt,
            foreign,
            send_waits,
            trains_refused,
            clock_stepped,
            ..
        } = counters;
        let errors = counters.send_errors.iter();
        let times_ns = &stats.rtt_uncorrected_ns;
        let received_us = |ns: f64| (!times_ns.is_empty()).then_some(ns / 1000.0);
        let us = |ns: u64| ns as f64 / 1000.0;
        let timeout_us = us(plan.timeout_ns());
        let longest_us = match (counters.rtt_max_ns, counters.lost()) {
            (None, _) if stats.rtt_ns.is_empty() => timeout_us,
            (_, 0) => us(stats.rtt_max_ns()),
            _ => us(stats.rtt_max_ns()).max(timeout_us),
        };
        let rtt_us = Quantiles::from_ns(&stats.rtt_with_losses_ns(plan.timeout_ns()));
        let mut rtt_us = rtt_us.at_most(longest_us);
        if stats.rtt_ns.is_empty() && rtt_us.count > 0 {
            // A histogram gives the lower end of a bucket.
            rtt_us.min = timeout_us;
        }
        Self {
            seconds,
            span: Span::default(),
            offered_pps: offer.pps(),
            achieved_pps: sent as f64 / seconds.max(1e-9),
            sent,
            received,
            lost: counters.lost(),
            loss_percent: counters.loss_percent(),
            refused: counters.refused(),
            refused_percent: counters.refused_percent(),
            duplicated,
            reordered,
            late,
            corrupt,
            foreign,
            wrong_source: WrongSource {
                total: counters.wrong_source.total(),
                expected: plan.target,
                seen: counters.wrong_source.seen.iter().copied().collect(),
                others: counters.wrong_source.others,
            },
            icmp: counters.icmp.clone(),
            send_errors: errors.map(|(&errno, &n)| (errno::name(errno), n)).collect(),
            send_waits,
            trains_refused,
            clock_stepped,
            rtt_us,
            rtt_uncorrected_us: Quantiles::from_ns(times_ns).at_most(timeout_us),
            rtt_mean_us: received_us(times_ns.mean()),
            rtt_deviation_us: received_us(times_ns.stdev()),
            ipdv_us: (counters.ipdv_count > 0)
                .then(|| counters.ipdv_sum_ns as f64 / counters.ipdv_count as f64 / 1000.0),
            send_lag_us: Quantiles::from_ns(&stats.send_lag_ns)
                .at_most(us(stats.send_lag_max_ns())),
            stamp_to_wire_us: Quantiles::from_ns(&stats.stamp_to_wire_ns),
            departure_gaps: stats.gaps.summary().filter(|_| offer.rate != Rate::Max),
            sent_late: kept::sent_late(stats),
        }
    }

    /// The counters of an interval.
    pub(crate) fn of_interval(plan: &Plan, offer: &Offer, interval: &Interval<'_>) -> Self {
        let seconds = interval.length.as_secs_f64();
        Self {
            span: interval.span,
            ..Self::new(plan, offer, interval.stats, seconds)
        }
    }
}
