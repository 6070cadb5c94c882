//! The highest rate at which no more than so much is lost, searched as NDR tests do: halving
//! between a rate that holds and one that does not, then confirmed by repetition.

use serde::Serialize;

use crate::options::Rate;
use crate::summary::Summary;
use reflector_measure::error::Error;
use reflector_measure::exit::Exit;

/// Steps of halving at most: the result is then within 0.1 % of the ceiling.
const HALVINGS_MAX: usize = 10;
/// Bounds closer than this, relative to the upper one, are close enough.
const RESOLUTION: f64 = 0.02;
/// Times that a rate has to hold again.
const CONFIRMATIONS: u32 = 2;
/// What a rate that was not confirmed is lowered by.
const BACK_OFF: f64 = 0.95;
/// Rates that are tried to be confirmed.
const CANDIDATES_MAX: usize = 6;
/// Part of what is due that may be left out for the step to say something about the target.
const UNSENT_MAX: f64 = 0.01;

/// One measurement of a search.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub(crate) struct Step {
    /// Datagrams per second that were asked for; `None` is as many as can be sent.
    pub(crate) offered_pps: Option<f64>,
    /// Datagrams per second that were sent.
    pub(crate) achieved_pps: f64,
    /// Lost, or refused by our own kernel, in percent.
    pub(crate) loss_percent: f64,
    /// 99th percentile of the round trips, what is lost included.
    pub(crate) rtt_p99_us: f64,
    /// What it says about the rate.
    pub(crate) verdict: Verdict,
}

/// What a step says about its rate.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Verdict {
    /// No more is lost than may be.
    Holds,
    /// Too much is lost.
    TooMuchLost,
    /// Round trips take longer than they may.
    TooSlow,
    /// The generator could not send it.
    NotSent,
}

impl std::fmt::Display for Verdict {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Holds => "holds",
            Self::TooMuchLost => "too much lost",
            Self::TooSlow => "too slow",
            Self::NotSent => "generator too slow",
        })
    }
}

impl Step {
    /// What `summary` says about its rate, where `max_loss` percent may be lost and no threshold
    /// may be missed.
    pub(crate) fn new(summary: &Summary, max_loss: f64) -> Self {
        let totals = &summary.totals;
        // Not by the achieved rate: one datagram that leaves late at the end stretches its time.
        let due = totals.sent + summary.unsent;
        let is_sent = summary.unsent as f64 <= UNSENT_MAX * due as f64;
        let verdict = if totals.loss_percent > max_loss {
            Verdict::TooMuchLost
        } else if !is_sent {
            Verdict::NotSent
        } else if summary.missed.is_empty() {
            Verdict::Holds
        } else {
            Verdict::TooSlow
        };
        Self {
            offered_pps: totals.offered_pps,
            achieved_pps: totals.achieved_pps,
            loss_percent: totals.loss_percent,
            rtt_p99_us: totals.rtt_us.p99,
            verdict,
        }
    }

    fn holds(&self) -> bool {
        self.verdict == Verdict::Holds
    }
}

/// What a search found.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Found {
    /// The rate; `None` if none holds.
    pub(crate) rate_pps: Option<f64>,
    /// What may be lost, in percent.
    pub(crate) max_loss_percent: f64,
    /// Times that the rate held again.
    pub(crate) confirmations: u32,
    /// Whether it was stopped before its end.
    pub(crate) interrupted: bool,
    /// `generator` if the target may well hold more than could be sent to it.
    pub(crate) limited_by: Option<&'static str>,
    /// Every step, in order.
    pub(crate) ladder: Vec<Step>,
    /// What a reader should know, a sentence each.
    pub(crate) notes: Vec<String>,
    /// How the program ends.
    #[serde(skip)]
    pub(crate) exit: Exit,
}

/// How a search's measurement ended.
pub(crate) enum Trial {
    /// It says something about its rate.
    Measured(Step),
    /// There is no sense in going on, with the reason.
    Hopeless(Exit, Vec<String>),
    /// It was interrupted.
    Stopped,
}

/// Searches up to `ceiling`. `measure` makes one measurement, of `seconds`; a rate so low that a
/// single lost datagram of it would be too much is not asked for, since it would tell chance.
///
/// # Errors
/// The first error of `measure`, which ends the search.
pub(crate) fn search(
    ceiling: Rate,
    max_loss: f64,
    seconds: f64,
    measure: impl FnMut(Rate) -> Result<Trial, Error>,
) -> Result<Found, Error> {
    let mut search = Search {
        measure,
        floor_pps: if max_loss > 0.0 {
            100.0 / (max_loss * seconds)
        } else {
            0.0
        },
        ladder: Vec::new(),
    };
    let end = search.climb(ceiling)?;
    let mut found = Found {
        rate_pps: None,
        max_loss_percent: max_loss,
        confirmations: 0,
        interrupted: false,
        limited_by: None,
        ladder: search.ladder,
        notes: Vec::new(),
        exit: Exit::Done,
    };
    match end {
        Ok((rate_pps, is_generator_limit)) if rate_pps > 0.0 => {
            found.rate_pps = Some(rate_pps);
            found.confirmations = CONFIRMATIONS;
            if is_generator_limit {
                found.limited_by = Some("generator");
                found.notes.push(
                    "the generator could not send more; the target may hold more: add --cores, or \
                     send trains with --burst 64"
                        .to_owned(),
                );
            }
        }
        Ok(_) => {
            found.exit = Exit::ThresholdMissed;
            found.notes = why_none(&found.ladder, max_loss);
        }
        Err(End::Hopeless(exit, why)) => (found.exit, found.notes) = (exit, why),
        Err(End::Stopped) => {
            let held = found.ladder.iter().filter(|step| step.holds());
            let rates = held.map(|step| step.offered_pps.unwrap_or(step.achieved_pps));
            found.rate_pps = rates.max_by(f64::total_cmp);
            found.interrupted = true;
            found
                .notes
                .push("stopped before the search was over".to_owned());
        }
    }
    Ok(found)
}

/// Why no rate of `ladder` holds where `max_loss` percent may be lost, and what to try.
fn why_none(ladder: &[Step], max_loss: f64) -> Vec<String> {
    let notes = [
        (
            Verdict::Holds,
            "no rate that held did so again: measure each longer, with --duration".to_owned(),
        ),
        (
            Verdict::TooMuchLost,
            format!(
                "more than {max_loss} % was lost: allow more with --find-rate, or search lower \
                 with a lower --rate and a longer --duration"
            ),
        ),
        (
            Verdict::TooSlow,
            "round trips took too long: allow more with --max-p99, or search lower with a lower \
             --rate and a longer --duration"
                .to_owned(),
        ),
        (
            Verdict::NotSent,
            "the generator could not send at some of the rates: lower --rate, add --cores, or send \
             trains with --burst 64"
                .to_owned(),
        ),
    ];
    let is_seen = |verdict| ladder.iter().any(|step| step.verdict == verdict);
    let seen = notes.into_iter().filter(|&(verdict, _)| is_seen(verdict));
    seen.map(|(_, note)| note).collect()
}

struct Search<M> {
    measure: M,
    /// The lowest rate that is asked for.
    floor_pps: f64,
    ladder: Vec<Step>,
}

/// Why a search ends before it is over.
enum End {
    Hopeless(Exit, Vec<String>),
    Stopped,
}

/// The value of a `Result` in a `Result`, or return early with either failure.
macro_rules! go_on {
    ($trial:expr) => {
        match $trial? {
            Ok(value) => value,
            Err(end) => return Ok(Err(end)),
        }
    };
}

impl<M: FnMut(Rate) -> Result<Trial, Error>> Search<M> {
    fn step(&mut self, rate: Rate) -> Result<Result<Step, End>, Error> {
        Ok(match (self.measure)(rate)? {
            Trial::Measured(step) => {
                self.ladder.push(step);
                Ok(step)
            }
            Trial::Hopeless(exit, why) => Err(End::Hopeless(exit, why)),
            Trial::Stopped => Err(End::Stopped),
        })
    }

    /// The highest confirmed rate, 0 if there is none, and whether the generator set the limit.
    fn climb(&mut self, ceiling: Rate) -> Result<Result<(f64, bool), End>, Error> {
        let top = go_on!(self.step(ceiling));
        let mut high = match ceiling {
            Rate::Pps(pps) if top.verdict != Verdict::NotSent => pps,
            _ => top.achieved_pps,
        };
        let mut low = 0.0;
        // Whether `high` is where the generator ends, and not where the target does.
        let mut is_generator_limit =
            top.verdict == Verdict::NotSent || (top.holds() && ceiling == Rate::Max);
        if top.holds() {
            low = high;
        }
        for _ in 0..HALVINGS_MAX {
            if high - low <= RESOLUTION * high {
                break;
            }
            let middle = (low + high) / 2.0;
            if middle < self.floor_pps {
                break;
            }
            let step = go_on!(self.step(Rate::Pps(middle)));
            if step.holds() {
                low = middle;
            } else {
                high = middle;
                is_generator_limit = step.verdict == Verdict::NotSent;
            }
        }
        for _ in 0..CANDIDATES_MAX {
            if low == 0.0 {
                break;
            }
            if go_on!(self.confirm(low)) {
                return Ok(Ok((low, is_generator_limit)));
            }
            low *= BACK_OFF;
            is_generator_limit = false;
        }
        Ok(Ok((0.0, false)))
    }

    fn confirm(&mut self, pps: f64) -> Result<Result<bool, End>, Error> {
        for _ in 0..CONFIRMATIONS {
            let step = go_on!(self.step(Rate::Pps(pps)));
            if !step.holds() {
                return Ok(Ok(false));
            }
        }
        Ok(Ok(true))
    }
}

#[cfg(test)]
mod tests;
