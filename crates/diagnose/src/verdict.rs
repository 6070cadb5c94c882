//! From facts to a verdict and its explanation. Pure: nothing is asked or read here.

use std::collections::BTreeMap;
use std::net::SocketAddr;

use crate::attempt::{Attempt, Outcome};
use crate::diagnosis::{Diagnosis, Verdict};
use crate::facts::Facts;
use crate::{remedies, why};

/// The verdict on `facts`.
pub(crate) fn diagnose(facts: &Facts) -> Diagnosis {
    let mut seen = BTreeMap::new();
    for from in facts.wrong_sources() {
        *seen.entry(from).or_insert(0) += 1;
    }
    let right = facts
        .attempts
        .iter()
        .filter(|it| facts.is_right(it))
        .count();
    let is_refused = |it: &&Attempt| matches!(it.outcome, Outcome::Refused(_));
    let refused = facts.attempts.iter().filter(is_refused).count();
    let is_unsent = |it: &Attempt| matches!(it.outcome, Outcome::Unsent(_));
    let verdict = if !seen.is_empty() {
        Verdict::WrongSource
    } else if facts.mixed_up() > 0 {
        Verdict::MixedUp
    } else if right == facts.attempts.len() {
        Verdict::Answered
    } else if facts.only_chosen_is_wrong() {
        Verdict::FlowSilent
    } else if right > 0 {
        Verdict::Partly
    } else if refused > 0 {
        Verdict::Refused
    } else if facts.attempts.iter().all(is_unsent) {
        Verdict::Unsent
    } else {
        Verdict::Silent
    };
    Diagnosis {
        verdict,
        headline: headline(facts, verdict, &seen, right),
        remedies: remedies::remedies(facts, verdict, &seen),
        findings: why::findings(facts, verdict, &seen, right),
        seen,
    }
}

fn headline(
    facts: &Facts,
    verdict: Verdict,
    seen: &BTreeMap<SocketAddr, usize>,
    right: usize,
) -> String {
    let asked = facts.asked;
    let total = facts.attempts.len();
    match verdict {
        Verdict::Answered => format!("{asked} answers from the address asked."),
        Verdict::Partly => format!(
            "{asked} answers from the address asked, but only {right} of {total} questions."
        ),
        Verdict::FlowSilent => format!(
            "{asked} answers from the address asked, but not on the flow from port {}.",
            facts.attempts[0].local.port()
        ),
        Verdict::WrongSource => {
            let seen: Vec<_> = seen.keys().map(ToString::to_string).collect();
            format!(
                "{asked} was asked, and {} answered instead.",
                seen.join(" and ")
            )
        }
        Verdict::MixedUp => format!(
            "{asked} answers, but {} of {total} questions with the answer to another's.",
            facts.mixed_up()
        ),
        Verdict::Unsent => format!("{asked} was not asked: this host does not let it be sent."),
        Verdict::Refused => {
            let refusal = facts.first_refusal();
            let by = refusal.and_then(|it| it.by);
            let by = by.map_or_else(|| "somebody".to_owned(), |ip| ip.to_string());
            format!("{asked} does not answer: {by} refuses with ICMP.")
        }
        Verdict::Silent => format!("{asked} is silent: no answer and no ICMP error."),
    }
}

#[cfg(test)]
mod tests;
