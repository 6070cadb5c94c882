//! One measurement of a search, and what it says about its rate.

use serde::Serialize;

use crate::kept;
use crate::summary::Summary;
use reflector_measure::clock::Span;

/// One measurement of a search.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub(crate) struct Step {
    /// When it was measured.
    #[serde(flatten)]
    pub(crate) span: Span,
    /// Datagrams per second that were asked for; `None` is as many as can be sent.
    pub(crate) offered_pps: Option<f64>,
    /// Datagrams per second that were sent.
    pub(crate) achieved_pps: f64,
    /// Datagrams per second that were answered.
    pub(crate) received_pps: f64,
    /// Lost, in percent of what was sent.
    pub(crate) loss_percent: f64,
    /// 99th percentile of the round trips, what is lost included.
    pub(crate) rtt_p99_us: f64,
    /// Datagrams sent more than a millisecond after their time.
    pub(crate) sent_late: u64,
    /// The longest time from the scheduled time to the actual send.
    pub(crate) send_lag_max_us: f64,
    /// What it says about the rate.
    pub(crate) verdict: Verdict,
}

/// What a step says about its rate.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Verdict {
    /// No more is lost than may be.
    Holds,
    /// Too much is lost, and more than the sender's own bursts may have cost.
    TooMuchLost,
    /// Round trips take longer than they may, from the actual send as well.
    TooSlow,
    /// The generator could not send it.
    NotSent,
    /// The generator sent late and then all at once, which may be why it does not hold.
    SentLate,
}

impl std::fmt::Display for Verdict {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Holds => "holds",
            Self::TooMuchLost => "too much lost",
            Self::TooSlow => "too slow",
            Self::NotSent => "generator too slow",
            Self::SentLate => "generator was late",
        })
    }
}

impl Step {
    /// What `summary` says about its rate, where `max_loss` percent may be lost and no threshold
    /// may be missed. The target is judged only by what the generator sent in time.
    pub(crate) fn new(summary: &Summary, max_loss: f64) -> Self {
        let totals = &summary.totals;
        let loss_percent = totals.loss_percent.unwrap_or(0.0);
        // What this host lost by itself says nothing about the target.
        let here = summary.missing.lost_here() as f64;
        let here_percent = 100.0 * here / totals.sent.max(1) as f64;
        let is_refused = kept::is_short(totals.refused, totals.sent + totals.refused);
        let verdict = if summary.is_short || is_refused {
            // Not by the achieved rate: one datagram that leaves late at the end stretches it.
            Verdict::NotSent
        } else if loss_percent > max_loss && loss_percent - here_percent <= max_loss {
            Verdict::NotSent
        } else if loss_percent > max_loss {
            // What a stall of ours held up, it sent at once when it was over: it may have cost each
            // of these its place at the target, or that of another, and no more.
            let late_percent = 100.0 * totals.sent_late as f64 / totals.sent.max(1) as f64;
            if loss_percent - late_percent > max_loss {
                Verdict::TooMuchLost
            } else {
                Verdict::SentLate
            }
        } else if summary.missed.is_empty() {
            Verdict::Holds
        } else if summary.is_slow_from_send {
            Verdict::TooSlow
        } else {
            Verdict::SentLate
        };
        Self {
            span: totals.span,
            offered_pps: totals.offered_pps,
            achieved_pps: totals.achieved_pps,
            received_pps: totals.received as f64 / totals.seconds.max(1e-9),
            loss_percent,
            rtt_p99_us: totals.rtt_us.p99,
            sent_late: totals.sent_late,
            send_lag_max_us: totals.send_lag_us.max,
            verdict,
        }
    }

    /// Whether the rate holds.
    pub(crate) fn holds(&self) -> bool {
        self.verdict == Verdict::Holds
    }
}
