//! Some flows are answered and others are not: what tells the one from the other.

use super::refused::refusals;
use super::translation::entry_of;
use crate::attempt::{Attempt, Outcome};
use crate::diagnosis::Finding;
use crate::facts::Facts;

/// Unanswered questions that came from a port which the reflector does not answer.
pub(crate) fn denied_port(facts: &Facts) -> Option<Finding> {
    let mut ports: Vec<_> = facts.denied_and_unanswered().collect();
    ports.sort_unstable();
    ports.dedup();
    let ports: Vec<_> = ports.iter().map(ToString::to_string).collect();
    (!ports.is_empty()).then(|| {
        Finding::new(
            "denied_port",
            format!(
                "Source port {} gets no answer from a reflector, unless its --deny-port says \
                 otherwise: a datagram from the port of a service that answers is forged, or one \
                 half of a loop. Other servers and firewalls drop it as well. If this is one, its \
                 log says so, and no flow is stale.",
                ports.join(" and ")
            ),
        )
    })
}

/// The flow from the port that the user chose is dead, all fresh ones live.
pub(crate) fn one_is_silent(facts: &Facts) -> Vec<Finding> {
    let shown = pinned(facts);
    if shown.is_none() && facts.denied_and_unanswered().next().is_some() {
        return Vec::new();
    }
    let port = facts.chosen().next().map_or(0, |it| it.local.port());
    let mut findings = vec![Finding::new(
        "flow",
        format!(
            "It is that flow alone: port {port} was asked from {} times and never answered, fresh \
             ports {} times and always. A stale conntrack entry looks like this: a NAT or stateful \
             firewall {} remembers the flow as it was before a rule or a server changed, and every \
             datagram keeps the entry alive. So does, though less often, a rule that drops this \
             source port, or one way of several that is dead, if a router chooses it by the port.",
            facts.chosen().count(),
            facts.fresh().count(),
            where_tracked(facts),
        ),
    )];
    findings.extend(shown);
    findings.extend(refusals(facts));
    findings
}

/// Where an entry may be that decides about the questions.
fn where_tracked(facts: &Facts) -> &'static str {
    match &facts.route {
        Some(route) if route.is_local => "of this host",
        _ => "on the way",
    }
}

/// Some of the fresh flows are not answered.
pub(crate) fn some_are_silent(facts: &Facts, right: usize) -> Vec<Finding> {
    if let Some(shown) = pinned(facts) {
        return vec![shown];
    }
    let mut findings = refusals(facts);
    let is_silent = |it: &Attempt| it.outcome == Outcome::Silent;
    if facts.is_table_full() || !facts.attempts.iter().any(is_silent) {
        return findings;
    }
    let total = facts.attempts.len();
    let hosts = match &facts.route {
        Some(route) if route.is_local => "this host",
        _ => "the server's host or a host on the way",
    };
    let own = match facts.occupancy {
        Some(_) if facts.counted.untrackable == 0 => "; this host's own table dropped nothing",
        _ => "",
    };
    let is_known_answered =
        facts.chosen().next().is_some() && facts.chosen().all(|it| facts.is_right(it));
    if is_known_answered && facts.fresh().all(is_silent) {
        findings.push(Finding::new(
            "new_flows",
            format!(
                "The flow from the port that you chose is answered, and no fresh one is. A full \
                 connection tracking table looks like this, which lets nobody in whom it does not \
                 know, or a filter that passes only flows that it knows, on {hosts}{own}."
            ),
        ));
        return findings;
    }
    let has_fresh = facts.fresh().any(is_silent);
    let fresh = match facts.chosen().any(is_silent) {
        false => ", and those that were not came from fresh ports, of which no entry can be stale",
        true if has_fresh => ", and of fresh ports, of which no entry can be stale, some were not",
        true => "",
    };
    findings.push(Finding::new(
        "loss",
        format!(
            "{right} of {total} questions were answered{fresh}. Something loses a part of them. \
             That may be loss on a link, a rate limit (`limit` in a ruleset, a policer), a receive \
             buffer that overflows, or a full connection tracking table, on {hosts}{own}."
        ),
    ));
    findings
}

/// The conntrack entry here that sends a dead flow elsewhere than the flows that are answered.
fn pinned(facts: &Facts) -> Option<Finding> {
    let entry = |attempt: &Attempt| entry_of(facts, attempt);
    let of = |is_right: bool| {
        let mut attempts = facts
            .attempts
            .iter()
            .filter(move |it| facts.is_right(it) == is_right);
        attempts.find_map(entry)
    };
    let (alive, dead) = (of(true)?, of(false)?);
    if alive.reply.source == dead.reply.source {
        return None;
    }
    let port = dead.original.source.port();
    let (old, new) = (dead.reply.source, alive.reply.source);
    Some(if facts.only_chosen_is_wrong() {
        Finding::new(
            "conntrack",
            format!(
                "This host's own connection tracking shows it: the flow from port {port} still \
                 goes to {old}, fresh ones go to {new}."
            ),
        )
    } else {
        Finding::new(
            "backend",
            format!(
                "This host's own connection tracking shows where questions go: those that were \
                 answered to {new}, the one from port {port}, which was not, to {old}. That \
                 server does not answer."
            ),
        )
    })
}
