//! The highest rate at which no more than so much is lost, searched as NDR tests do: bounds above
//! and below are drawn together, then the lower one is confirmed by repetition.
//!
//! A target is judged only by steps that the generator kept (`step`): what was left out, or sent
//! late and then at once, says nothing about it. Such a step is measured again.

mod goal;
mod notes;
mod step;

use serde::Serialize;

use crate::options::Rate;
pub(crate) use goal::{Goal, Limit};
use reflector_measure::clock::Span;
use reflector_measure::error::Error;
use reflector_measure::exit::Exit;
pub(crate) use step::{Step, Verdict};

/// Steps that narrow the bounds, at most.
const STEPS_MAX: usize = 20;
/// Bounds closer than this, relative to the upper one, are close enough.
const RESOLUTION: f64 = 0.02;
/// Times that a rate has to hold again.
const CONFIRMATIONS: u32 = 2;
/// What a rate that was not confirmed is lowered by.
const BACK_OFF: f64 = 1.0 - RESOLUTION;
/// Rates that are tried to be confirmed.
const CANDIDATES_MAX: usize = 10;
/// Times that a rate is measured again because the generator sent late, or could not send what it
/// could in another step.
const LATE_MAX: usize = 5;
const NOT_SENT_MAX: usize = 1;
/// Bounds farther apart than this are halved by their ratio, closer ones by their difference.
const RATIO_MAX: f64 = 2.0;

/// What a search found.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Found {
    /// From the first step to the last.
    #[serde(flatten)]
    pub(crate) span: Option<Span>,
    /// The rate; `None` if none holds.
    pub(crate) rate_pps: Option<f64>,
    /// What may be lost, in percent.
    pub(crate) max_loss_percent: f64,
    /// Times that the rate held again.
    pub(crate) confirmations: u32,
    /// Whether it was stopped before its end.
    pub(crate) interrupted: bool,
    /// `generator` or `rate` if the target may well hold more than was sent to it.
    pub(crate) limited_by: Option<Limit>,
    /// No lower rate was asked for: less than one lost datagram in a step would be too much.
    pub(crate) floor_pps: f64,
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

/// Searches for `goal`. `measure` makes one measurement at the rate that it is given.
///
/// # Errors
/// The first error of `measure`, which ends the search.
pub(crate) fn search(
    goal: &Goal,
    measure: impl FnMut(Rate) -> Result<Trial, Error>,
) -> Result<Found, Error> {
    let mut search = Search {
        measure,
        goal,
        ladder: Vec::new(),
    };
    let end = search.climb()?;
    let mut span = search.ladder.first().map(|step| step.span);
    if let (Some(span), Some(last)) = (&mut span, search.ladder.last()) {
        span.end_unix_seconds = last.span.end_unix_seconds;
    }
    let mut found = Found {
        span,
        rate_pps: None,
        max_loss_percent: goal.max_loss,
        confirmations: 0,
        interrupted: false,
        limited_by: None,
        floor_pps: goal.floor_pps(),
        ladder: search.ladder,
        notes: Vec::new(),
        exit: Exit::ThresholdMissed,
    };
    match end {
        Ok((rate_pps, limit)) if rate_pps > 0.0 => {
            found.rate_pps = Some(rate_pps);
            found.confirmations = CONFIRMATIONS;
            found.limited_by = limit;
            found.exit = Exit::Done;
            found.notes.extend(limit.map(notes::limited));
        }
        Ok(_) => found.notes = notes::why_none(&found.ladder, goal),
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
    found.notes.extend(notes::late(&found.ladder));
    Ok(found)
}

struct Search<'a, M> {
    measure: M,
    goal: &'a Goal,
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

impl<M: FnMut(Rate) -> Result<Trial, Error>> Search<'_, M> {
    /// Measures at `rate` until the generator has kept the step, a few times at most.
    fn step(&mut self, rate: Rate) -> Result<Result<Step, End>, Error> {
        let mut repeats = 0;
        loop {
            let step = match (self.measure)(rate)? {
                Trial::Measured(step) => step,
                Trial::Hopeless(exit, why) => return Ok(Err(End::Hopeless(exit, why))),
                Trial::Stopped => return Ok(Err(End::Stopped)),
            };
            let repeats_max = match step.verdict {
                Verdict::SentLate => LATE_MAX,
                Verdict::NotSent if self.has_sent(step.offered_pps) => NOT_SENT_MAX,
                _ => 0,
            };
            self.ladder.push(step);
            if repeats >= repeats_max {
                return Ok(Ok(step));
            }
            repeats += 1;
        }
    }

    /// Whether as much was sent in one of the steps.
    fn has_sent(&self, offered_pps: Option<f64>) -> bool {
        let sent = |pps| self.ladder.iter().any(|step| step.achieved_pps >= pps);
        offered_pps.is_some_and(sent)
    }

    /// The highest confirmed rate, 0 if there is none, and what set the limit besides the target.
    fn climb(&mut self) -> Result<Result<(f64, Option<Limit>), End>, Error> {
        let ceiling = self.goal.ceiling;
        let top = go_on!(self.step(ceiling));
        let mut high = match ceiling {
            Rate::Pps(pps) if top.verdict != Verdict::NotSent => pps,
            _ => top.achieved_pps,
        };
        let mut low = 0.0;
        // What is the limit besides the target: where the generator ends, or nothing at all.
        let mut limit = limit_of(&top);
        if top.holds() {
            low = high;
            limit = Some(match ceiling {
                Rate::Max => Limit::Generator,
                Rate::Pps(_) => Limit::Rate,
            });
        }
        let mut guesses = self.guesses(&top);
        for _ in 0..STEPS_MAX {
            let Some(pps) = self.between(low, high, &mut guesses) else {
                break;
            };
            let step = go_on!(self.step(Rate::Pps(pps)));
            if step.holds() {
                low = pps;
            } else {
                high = pps;
                limit = limit_of(&step);
                guesses = self.guesses(&step);
            }
        }
        for _ in 0..CANDIDATES_MAX {
            if low == 0.0 {
                break;
            }
            let Some(failed) = go_on!(self.confirm(low)) else {
                return Ok(Ok((low, limit)));
            };
            low *= BACK_OFF;
            limit = limit_of(&failed);
        }
        Ok(Ok((0.0, None)))
    }

    /// Rates to try next, the last one first, after a `step` that did not hold: what came back is
    /// what a target can do that is no worse for being asked for more, and, of a step that could
    /// not be sent, what generator and target can do together.
    fn guesses(&self, step: &Step) -> Vec<f64> {
        let held = step.received_pps;
        match step.verdict {
            Verdict::TooMuchLost => {
                let part = (1.0 - self.goal.max_loss / 100.0).max(0.01);
                vec![held / part * (1.0 + RESOLUTION), held]
            }
            Verdict::NotSent => vec![held * (1.0 - RESOLUTION)],
            _ => Vec::new(),
        }
    }

    /// A rate between those that hold and those that do not; `None` where they are close enough.
    fn between(&self, low: f64, high: f64, guesses: &mut Vec<f64>) -> Option<f64> {
        let floor = self.goal.floor_pps();
        if high - low <= RESOLUTION * high || high <= floor {
            return None;
        }
        // A rate that is nearly one of the bounds tells nothing new.
        let [above, below] = [1.0 + RESOLUTION / 4.0, 1.0 - RESOLUTION / 4.0];
        let is_between = |pps: f64| pps > low * above && pps < high * below;
        while let Some(guess) = guesses.pop() {
            if is_between(guess.max(floor)) {
                return Some(guess.max(floor));
            }
        }
        let middle = if low > 0.0 && high > RATIO_MAX * low {
            (low * high).sqrt()
        } else {
            (low + high) / 2.0
        };
        // At the floor once, and not below it.
        let middle = middle.max(floor);
        is_between(middle).then_some(middle)
    }

    /// Measures at `pps` again. Returns the step that did not hold, if one did not.
    fn confirm(&mut self, pps: f64) -> Result<Result<Option<Step>, End>, Error> {
        for _ in 0..CONFIRMATIONS {
            let step = go_on!(self.step(Rate::Pps(pps)));
            if !step.holds() {
                return Ok(Ok(Some(step)));
            }
        }
        Ok(Ok(None))
    }
}

/// Whether a rate that does not hold says so of the generator.
fn limit_of(step: &Step) -> Option<Limit> {
    matches!(step.verdict, Verdict::NotSent | Verdict::SentLate).then_some(Limit::Generator)
}

#[cfg(test)]
mod tests;
