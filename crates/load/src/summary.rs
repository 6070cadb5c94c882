//! What a measurement comes to, and what a reader should know about it.

use std::net::SocketAddr;
use std::time::Duration;

use serde::Serialize;

use crate::kept::{self, Moved};
use crate::missing::{Known, Missing};
use crate::options::Rate;
use crate::plan::{Offer, Plan};
use crate::run::Outcome;
use crate::totals::Totals;
use crate::verdicts;
use reflector_measure::drops::Drops;
use reflector_measure::exit::Exit;

/// Part of the loss that may be before the first answer without being remarked upon.
const COLD_MAX: f64 = 0.1;
/// What the coefficient of variation of departures may be off that of their schedule.
const CV_OFF_MAX: f64 = 0.1;
/// Source ports without an answer that are listed.
const SILENT_PORTS_MAX: usize = 32;

/// Everything about a measurement.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Summary {
    /// The target, as typed.
    pub(crate) target: String,
    /// The address that this was.
    pub(crate) address: SocketAddr,
    /// The counters.
    #[serde(flatten)]
    pub(crate) totals: Totals,
    /// Datagrams that were due and not sent.
    pub(crate) unsent: u64,
    /// Where what did not come back is missing.
    pub(crate) missing: Missing,
    /// What our own sockets dropped for want of receive buffer.
    #[serde(flatten)]
    pub(crate) drops: Drops,
    /// Packets that the queue of our device dropped, ours and others'; `None` if not known.
    pub(crate) queue_drops: Option<u64>,
    /// The device and its queue; `None` if not known.
    pub(crate) queue: Option<Queue>,
    /// UDP `SndbufErrors` of this network namespace meanwhile, ours and others'.
    pub(crate) sndbuf_errors: u64,
    /// Source ports that sent and never got an answer.
    pub(crate) silent_flows: SilentFlows,
    /// When the first answer came, from the start of the warm-up, if there is one; `None` if none
    /// came.
    pub(crate) first_answer_seconds: Option<f64>,
    /// Datagrams lost of those that were sent before the first answer came.
    pub(crate) lost_before_answer: u64,
    /// Why the schedule was missed: `generator`, `window`, or `None` if it was not.
    pub(crate) limited_by: Option<&'static str>,
    /// The percentile that shows the send lag instead of the target, if one does.
    pub(crate) send_lag_moved: Option<Moved>,
    /// Whether more was left out than may be.
    #[serde(skip)]
    pub(crate) is_short: bool,
    /// Whether `--max-p99` is exceeded from the actual send as well.
    #[serde(skip)]
    pub(crate) is_slow_from_send: bool,
    /// Whether it was stopped before its end.
    pub(crate) interrupted: bool,
    /// Thresholds that were missed, a sentence each.
    pub(crate) missed: Vec<String>,
    /// What a reader should know, a sentence each.
    pub(crate) notes: Vec<String>,
    /// Seed of everything random.
    pub(crate) seed: u64,
    /// How the program ends.
    pub(crate) exit_code: u8,
}

/// The queue that the datagrams leave by.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Queue {
    /// The device.
    pub(crate) device: String,
    /// Its kind, as tc(8) names it.
    pub(crate) kind: String,
}

/// Source ports that sent and never got an answer.
#[derive(Clone, Debug, Default, Serialize)]
pub(crate) struct SilentFlows {
    /// How many.
    pub(crate) total: usize,
    /// Source ports that sent.
    pub(crate) of: usize,
    /// The first of them.
    pub(crate) ports: Vec<u16>,
}

impl Summary {
    /// What `outcome` comes to.
    pub(crate) fn new(plan: &Plan, offer: &Offer, outcome: &Outcome) -> Self {
        let mut totals = Totals::new(plan, offer, &outcome.stats, outcome.seconds);
        totals.span = outcome.span;
        if offer.rate != Rate::Max && outcome.seconds == 0.0 {
            totals.achieved_pps = 0.0;
        }
        let counters = &outcome.stats.counters;
        let due = counters.sent + counters.refused() + outcome.ended.unsent;
        let has_schedule = offer.rate != Rate::Max;
        let is_short = has_schedule && kept::is_short(outcome.ended.unsent, due);
        let moved = kept::moved(&outcome.stats, plan.timeout_ns()).filter(|_| has_schedule);
        let limit = match counters.window_waits {
            0 => "generator",
            _ => "window",
        };
        let counts = outcome.host.queue.as_ref();
        let known = Known {
            queue: counts,
            drops: outcome.host.drops,
            has_warmup: !plan.warmup.is_zero(),
            train_max: plan.burst.into(),
        };
        let mut ports = outcome.ended.silent_ports.clone();
        ports.truncate(SILENT_PORTS_MAX);
        let mut summary = Self {
            target: plan.target_name.clone(),
            address: plan.target,
            totals,
            unsent: outcome.ended.unsent,
            missing: Missing::new(counters, known),
            drops: outcome.host.drops,
            queue_drops: counts.map(|it| it.drops),
            queue: counts.map(|it| Queue {
                device: it.device.clone(),
                kind: it.kind.clone(),
            }),
            sndbuf_errors: outcome.host.sndbuf_errors,
            silent_flows: SilentFlows {
                total: outcome.ended.silent_ports.len(),
                of: outcome.ended.used_flows,
                ports,
            },
            first_answer_seconds: outcome.ended.first_answer_ns.map(|ns| ns as f64 / 1e9),
            // What was given up and then came in time after all is not lost.
            lost_before_answer: outcome.ended.cold_lost.min(counters.lost()),
            limited_by: (is_short || moved.is_some_and(|it| it.is_limit)).then_some(limit),
            send_lag_moved: moved,
            is_short,
            is_slow_from_send: is_slow_from_send(plan, outcome),
            interrupted: outcome.is_interrupted,
            missed: Vec::new(),
            notes: Vec::new(),
            seed: plan.seed,
            exit_code: 0,
        };
        summary.missed = verdicts::missed(plan, &summary.totals);
        summary.notes = notes(plan, &summary);
        summary.exit_code = summary.exit() as u8;
        summary
    }

    /// How the program ends.
    pub(crate) fn exit(&self) -> Exit {
        let totals = &self.totals;
        if totals.wrong_source.total > 0 {
            Exit::WrongSource
        } else if totals.sent == 0 && !self.interrupted {
            Exit::Failed
        } else if totals.sent > 0 && !self.is_answered() {
            Exit::Unanswered
        } else if !self.missed.is_empty() {
            Exit::ThresholdMissed
        } else {
            Exit::Done
        }
    }

    /// Whether the target answered anything as it should, late or not.
    fn is_answered(&self) -> bool {
        self.totals.received + self.totals.late + self.totals.duplicated > 0
    }
}

/// Whether the 99th percentile is too long without what the sender added to it.
fn is_slow_from_send(plan: &Plan, outcome: &Outcome) -> bool {
    let stats = &outcome.stats;
    let times_ns = stats.with_losses_ns(&stats.rtt_uncorrected_ns, plan.timeout_ns());
    let p99 = Duration::from_nanos(times_ns.value_at_quantile(0.99));
    plan.max_p99.is_some_and(|max| p99 > max)
}

/// What a reader should know, most important first.
fn notes(plan: &Plan, summary: &Summary) -> Vec<String> {
    let totals = &summary.totals;
    let mut notes = Vec::new();
    if totals.wrong_source.total > 0 {
        let seen: Vec<_> = totals
            .wrong_source
            .seen
            .keys()
            .map(ToString::to_string)
            .collect();
        notes.push(format!(
            "asked {}, answered by {}: the service lets the routing table choose its source \
             address; bind it to the address asked, or use one that replies with pktinfo",
            plan.target,
            seen.join(", ")
        ));
    }
    if totals.sent == 0 && !totals.send_errors.is_empty() {
        let errors: Vec<_> = totals.send_errors.keys().map(String::as_str).collect();
        notes.push(format!(
            "nothing could be sent: the kernel returned {}; EPERM means a firewall on this host",
            errors.join(", ")
        ));
    } else if totals.sent == 0 && !summary.interrupted {
        notes.push("nothing was sent: at this rate no datagram was due in this time".to_owned());
    } else if totals.sent > 0 && !summary.is_answered() && totals.wrong_source.total == 0 {
        notes.push(verdicts::unanswered(plan, totals));
    } else if summary.silent_flows.total > 0 {
        notes.push(silent(plan, &summary.silent_flows));
    }
    notes.extend(verdicts::refused(totals));
    notes.extend(in_queue(plan, summary));
    notes.extend(cold(summary));
    notes.extend(limited(summary));
    let gaps = totals.departure_gaps.filter(|_| plan.poisson);
    if let Some(gaps) = gaps.filter(|it| (it.cv - it.scheduled_cv).abs() > CV_OFF_MAX) {
        notes.push(format!(
            "departures were not as random as scheduled: the times between them deviate from their \
             mean by {:.2} of it, and {:.2} was scheduled; a lower --rate or more --cores helps",
            gaps.cv, gaps.scheduled_cv
        ));
    }
    if totals.late > 0 {
        notes.push(format!(
            "at least {} answers came after the timeout: those that come after the end of the run \
             are not seen; a longer --timeout measures them",
            totals.late
        ));
    }
    notes.extend(at_sockets(summary));
    if totals.trains_refused > 0 {
        notes.push(
            "the kernel refused trains (longer than the MTU, or no UDP_SEGMENT on this path); \
             their datagrams were sent one by one"
                .to_owned(),
        );
    }
    if totals.clock_stepped > 0 {
        notes.push("the clock was set during the run: some times are unknown".to_owned());
    }
    notes
}

/// What the queue of this host's own device dropped.
fn in_queue(plan: &Plan, summary: &Summary) -> Option<String> {
    let lost = summary.missing.queue.filter(|it| it.most > 0)?;
    let (queue, drops) = summary.queue.as_ref().zip(summary.queue_drops)?;
    let cuts = if queue.kind == "tbf" && plan.gso && plan.burst > 1 {
        "; a tbf cuts trains that are longer than its burst, and may drop parts of them"
    } else {
        ""
    };
    Some(format!(
        "the queue of this host's device {} ({}) dropped {drops} packets: {lost} of {} lost \
         datagrams never left; a lower --rate or --burst avoids that, and `tc -s qdisc show dev \
         {}` says more{cuts}",
        queue.device, queue.kind, summary.totals.lost, queue.device
    ))
}

/// What was lost at the generator's own sockets.
fn at_sockets(summary: &Summary) -> Option<String> {
    let Drops { trains, .. } = summary.drops;
    (trains > 0).then(|| {
        format!(
            "{} of {} lost datagrams were lost at this generator's own sockets, not at the target: \
             raise net.core.rmem_max, or add --cores",
            summary.missing.own_sockets, summary.totals.lost
        )
    })
}

/// How much of the loss was before anything had come back.
fn cold(summary: &Summary) -> Option<String> {
    let (cold, lost) = (summary.lost_before_answer, summary.totals.lost);
    let seconds = summary.first_answer_seconds?;
    (cold as f64 > COLD_MAX * lost as f64).then(|| {
        format!(
            "{cold} of {lost} lost datagrams were sent before the first answer came, {seconds:.3} \
             s after the start: this host may have been looking for its neighbour (ARP, ND) then, \
             or the target was not up; --warmup leaves the start out"
        )
    })
}

/// Why the schedule was missed, with the figures, and what to try.
fn limited(summary: &Summary) -> Option<String> {
    let unsent = summary.unsent;
    let left_out = (unsent > 0).then(|| format!("{unsent} datagrams were not sent"));
    let moved = summary.send_lag_moved.map(|moved| {
        format!(
            "what was sent late moved the {}th percentile from {:.1} to {:.1} us",
            moved.percentile, moved.from_us, moved.to_us
        )
    });
    let has_moved = moved.is_some();
    let figures: Vec<_> = left_out.into_iter().chain(moved).collect();
    let figures = figures.join(", and ");
    match summary.limited_by {
        Some("window") => Some(format!(
            "limited by the window: answers came too slowly for this rate; {figures}"
        )),
        Some(_) if summary.is_short => Some(format!(
            "limited by the generator, not by the target: {figures}; lower --rate, add --cores, or \
             send trains with --burst 64"
        )),
        Some(_) => Some(format!(
            "limited by the generator, not by the target: {figures}; uncorrected times are without \
             that, and a host with less to do or a lower --rate avoids it"
        )),
        None => has_moved.then(|| format!("{figures}; uncorrected times are without that")),
    }
}

fn silent(plan: &Plan, silent: &SilentFlows) -> String {
    let &SilentFlows { total, of, .. } = silent;
    let first = silent.ports.first().copied().unwrap_or_default();
    if silent
        .ports
        .iter()
        .all(|it| plan.avoided_ports.contains(it))
    {
        return format!(
            "{total} of {of} flows never got an answer: their source ports are those of services \
             (one is {first}), from which servers refuse requests; lower --flows, or widen \
             net.ipv4.ip_local_port_range"
        );
    }
    format!(
        "{total} of {of} flows never got an answer: with NAT on the path, a stale conntrack entry \
         can hold such a flow; delete it on the NAT host: `conntrack -D -p udp --orig-port-src \
         {first} --orig-port-dst {}`",
        plan.target.port()
    )
}

#[cfg(test)]
mod sums;
#[cfg(test)]
mod tests;
