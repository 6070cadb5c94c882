//! From facts to a verdict and its explanation. Pure: nothing is asked or read here.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};

use serde::Serialize;

use crate::ask::{Attempt, Outcome};
use crate::facts::{Facts, is_same};
use crate::remedies::{self, Cure};
use crate::why::{self, Finding};
use reflector_measure::exit::Exit;

/// What is the matter, in a word.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    /// Every question was answered from the address asked.
    Answered,
    /// Answered from the address asked, but not every question.
    Partly,
    /// The flow from the port that the user chose is dead; fresh ones are answered.
    FlowSilent,
    /// An answer came from another address.
    WrongSource,
    /// Nothing but ICMP errors.
    Refused,
    /// Nothing at all.
    Silent,
}

impl Verdict {
    /// The exit code.
    pub fn exit(self) -> Exit {
        match self {
            Self::Answered | Self::Partly => Exit::Done,
            Self::WrongSource => Exit::WrongSource,
            Self::FlowSilent | Self::Refused | Self::Silent => Exit::Unanswered,
        }
    }
}

/// The verdict, why, and what to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Diagnosis {
    /// In a word.
    pub verdict: Verdict,
    /// In a sentence.
    pub headline: String,
    /// The addresses that answered instead of the one asked, and how often.
    pub seen: BTreeMap<SocketAddr, usize>,
    /// Why.
    pub findings: Vec<Finding>,
    /// What to do, in the order to try it.
    pub cures: Vec<Cure>,
}

/// Where an address that answered instead lies, as this host sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Relation {
    /// It is the address asked; only the port is another.
    OtherPort,
    /// It is this host's own, on this interface.
    Own(String),
    /// It is the router through which the question went, on this interface.
    Gateway(String),
    /// It is a neighbour on this interface; whether the address asked is one as well.
    Neighbour {
        /// The interface.
        interface: String,
        /// Whether the address asked is reached without a router on the same interface.
        as_asked: bool,
    },
    /// It is private, and the address asked is not.
    Inside,
    /// Somewhere else.
    Elsewhere,
}

/// Where `seen` lies.
pub fn relation(facts: &Facts, seen: IpAddr) -> Relation {
    if seen == facts.asked.ip() {
        return Relation::OtherPort;
    }
    if let Some(own) = facts.addresses.iter().find(|it| it.net.addr() == seen) {
        return Relation::Own(own.interface.clone());
    }
    let to_asked = facts.route.as_ref();
    if let Some(route) = to_asked.filter(|route| route.gateway == Some(seen)) {
        return Relation::Gateway(route.interface.clone());
    }
    match facts.route_to_seen(seen) {
        Some(route) if route.gateway.is_none() && !route.is_local => Relation::Neighbour {
            interface: route.interface.clone(),
            as_asked: to_asked
                .is_some_and(|it| it.gateway.is_none() && it.interface == route.interface),
        },
        _ if is_private(seen) && !is_private(facts.asked.ip()) => Relation::Inside,
        _ => Relation::Elsewhere,
    }
}

fn is_private(ip: IpAddr) -> bool {
    match ip {
        IpAddr::V4(v4) => v4.is_private() || v4.is_loopback() || v4.is_link_local(),
        IpAddr::V6(v6) => v6.is_unique_local() || v6.is_loopback() || v6.is_unicast_link_local(),
    }
}

/// The verdict on `facts`.
pub fn diagnose(facts: &Facts) -> Diagnosis {
    let mut seen = BTreeMap::new();
    for from in facts.wrong_sources() {
        *seen.entry(from).or_insert(0) += 1;
    }
    let right = facts
        .attempts
        .iter()
        .filter(|it| is_right(it, facts))
        .count();
    let is_refused = |it: &&Attempt| matches!(it.outcome, Outcome::Refused(_));
    let refused = facts.attempts.iter().filter(is_refused).count();
    let chosen_is_dead = facts
        .attempts
        .first()
        .is_some_and(|it| it.number == 0 && !matches!(it.outcome, Outcome::Answered { .. }));
    let verdict = if !seen.is_empty() {
        Verdict::WrongSource
    } else if right == facts.attempts.len() {
        Verdict::Answered
    } else if right > 0 && chosen_is_dead {
        Verdict::FlowSilent
    } else if right > 0 {
        Verdict::Partly
    } else if refused > 0 {
        Verdict::Refused
    } else {
        Verdict::Silent
    };
    Diagnosis {
        verdict,
        headline: headline(facts, verdict, &seen, right),
        cures: remedies::cures(facts, verdict, &seen),
        findings: why::findings(facts, verdict, &seen, right),
        seen,
    }
}

/// Whether an attempt was answered from the address asked.
pub fn is_right(attempt: &Attempt, facts: &Facts) -> bool {
    matches!(attempt.outcome, Outcome::Answered { from, .. } if is_same(from, facts.asked))
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
        Verdict::Refused => {
            let refusal = why::first_refusal(facts);
            let by = refusal.and_then(|it| it.by);
            let by = by.map_or_else(|| "somebody".to_owned(), |ip| ip.to_string());
            format!("{asked} does not answer: {by} refuses with ICMP.")
        }
        Verdict::Silent => format!("{asked} is silent: no answer and no ICMP error."),
    }
}

#[cfg(test)]
mod tests;
