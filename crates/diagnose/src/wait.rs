//! `reflector wait`: asks until a service answers as it should, or for as long as is given.
//!
//! Each try is one datagram from a fresh port: connection tracking keeps the way of a port that was
//! asked from before, also when that way has changed. The time for a try doubles from 20 ms to a
//! second, less a random part of it, so that many who wait for one service do not ask together.

use std::collections::BTreeMap;
use std::hash::{BuildHasher, RandomState};
use std::io::Write;
use std::net::SocketAddr;
use std::thread;
use std::time::Duration;

use serde::Serialize;

use crate::ask::Plan;
use crate::attempt::SocketKind;
use crate::probe::Seen;
use crate::question::Question;
use crate::volley;
use crate::word::Word;
use reflector_measure::error::Error;
use reflector_measure::exit::Exit;
use reflector_measure::target::Target;
use reflector_measure::{clock, json, output};

/// How long the first try has, and how long each has at most.
const TRY_MIN: Duration = Duration::from_millis(20);
const TRY_MAX: Duration = Duration::from_secs(1);

/// What `reflector wait` is asked to do.
#[derive(Clone, Debug)]
pub struct WaitOptions {
    /// Whom to wait for.
    pub target: Target,
    /// What to ask.
    pub question: Question,
    /// How long to wait.
    pub limit: Duration,
    /// JSON instead of a sentence.
    pub json: bool,
}

/// Waits for a right answer, and prints what was seen until then.
///
/// # Errors
/// The target does not have an address of the family that it is asked over; EMFILE.
pub fn wait(options: &WaitOptions, out: &mut impl Write) -> Result<Exit, Error> {
    let started = clock::monotonic();
    let passed = || clock::monotonic().duration_since(started);
    let random = RandomState::new();
    let mut seen = BTreeMap::new();
    let mut time = TRY_MIN;
    for number in 0_usize.. {
        let begun = passed();
        let left = options.limit.saturating_sub(begun);
        let most = jittered(time, random.hash_one(number)).min(left);
        let tried = Tried::once(options, number, most.max(Duration::from_millis(1)))?;
        *seen.entry(tried.word()).or_insert(0) += 1;
        let is_answered = tried.word() == Word::Ok.name();
        if is_answered || passed() >= options.limit {
            let waited = Waited {
                target: options.target.to_string(),
                question: options.question.name(),
                verdict: tried.word(),
                exit_code: tried.exit().code(),
                waited_ms: passed().as_secs_f64() * 1e3,
                tries: number + 1,
                outcomes: seen,
                seen: tried.seen(),
            };
            output::written(match options.json {
                true => json::write_line(out, "wait", &waited),
                false => writeln!(out, "{}", waited.sentence()).and_then(|()| out.flush()),
            })?;
            return Ok(tried.exit());
        }
        thread::sleep((begun + most).saturating_sub(passed()));
        time = (time * 2).min(TRY_MAX);
    }
    unreachable!("the time is over before the numbers are")
}

/// `time`, less up to a quarter of it.
fn jittered(time: Duration, random: u64) -> Duration {
    let part = (random % 1000) as f64 / 1000.0;
    time.mul_f64(1.0 - part / 4.0)
}

/// What came of a try.
enum Tried {
    /// The name has no address yet.
    Unresolved,
    /// It was asked.
    Asked(Word, Box<Seen>),
}

impl Tried {
    /// Asks the address whose turn it is, once.
    fn once(options: &WaitOptions, number: usize, time: Duration) -> Result<Self, Error> {
        let addrs: Vec<SocketAddr> = match options.target.resolve(None) {
            Ok(addrs) => addrs,
            Err(error) if error.is_usage() => return Err(error),
            Err(_) => return Ok(Self::Unresolved),
        };
        let asked = addrs[number % addrs.len()];
        let plan = Plan::new(asked, options.question.clone(), time);
        let volley = volley::ask(&plan, 1, SocketKind::Unconnected, 0)?;
        let seen = Seen::new(&volley, asked, asked);
        let word = Word::of(&volley.fates, asked);
        Ok(Self::Asked(word, Box::new(seen)))
    }

    fn word(&self) -> &'static str {
        match self {
            Self::Unresolved => "unresolved",
            Self::Asked(word, _) => word.name(),
        }
    }

    fn exit(&self) -> Exit {
        match self {
            Self::Unresolved => Exit::Unreachable,
            Self::Asked(word, _) => word.exit(),
        }
    }

    fn seen(&self) -> Option<&Seen> {
        match self {
            Self::Unresolved => None,
            Self::Asked(_, seen) => Some(seen),
        }
    }
}

#[derive(Serialize)]
struct Waited<'a> {
    target: String,
    question: &'static str,
    /// What came of the last try.
    verdict: &'static str,
    exit_code: u8,
    waited_ms: f64,
    tries: usize,
    /// How many tries came to what.
    outcomes: BTreeMap<&'static str, usize>,
    /// What the last try saw.
    #[serde(flatten)]
    seen: Option<&'a Seen>,
}

impl Waited<'_> {
    fn sentence(&self) -> String {
        let seconds = self.waited_ms / 1e3;
        let others = self
            .outcomes
            .iter()
            .filter(|&(&word, _)| word != Word::Ok.name());
        let others: Vec<_> = others
            .map(|(word, count)| format!("{count} {word}"))
            .collect();
        let others = others.join(", ");
        match self.outcomes.contains_key(Word::Ok.name()) {
            true if others.is_empty() => format!("{} answers", self.target),
            true => format!("{} answers after {seconds:.3} s: {others}", self.target),
            false => format!(
                "{} does not answer for {seconds:.3} s: {others}",
                self.target
            ),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_try_is_shortened_by_a_quarter_at_most() {
        let times = (0..1000).map(|random| jittered(TRY_MAX, random));
        let times: Vec<_> = times.collect();
        assert_eq!(times[0], TRY_MAX);
        assert!(
            times
                .iter()
                .all(|it| *it >= TRY_MAX * 3 / 4 && *it <= TRY_MAX)
        );
        assert!(times.iter().min() < Some(&(TRY_MAX * 4 / 5)));
    }

    #[test]
    fn what_was_seen_is_said_in_a_sentence() {
        let waited = |outcomes: &[(&'static str, usize)]| Waited {
            target: "192.0.2.1:7".to_owned(),
            question: "echo",
            verdict: "ok",
            exit_code: 0,
            waited_ms: 1234.5,
            tries: 4,
            outcomes: outcomes.iter().copied().collect(),
            seen: None,
        };
        for (outcomes, said) in [
            (&[("ok", 1)][..], "192.0.2.1:7 answers"),
            (
                &[("ok", 1), ("refused", 3)],
                "192.0.2.1:7 answers after 1.234 s: 3 refused",
            ),
            (
                &[("refused", 3), ("timeout", 1)],
                "192.0.2.1:7 does not answer for 1.234 s: 3 refused, 1 timeout",
            ),
        ] {
            assert_eq!(waited(outcomes).sentence(), said);
        }
    }
}
