//! What this host's own connection tracking knows of the questions.

use crate::attempt::Attempt;
use crate::diagnosis::Finding;
use crate::facts::Facts;
use reflector_netlab::conntrack::ConntrackEntry;

/// The conntrack entry of an attempt's flow.
pub(crate) fn entry_of<'a>(facts: &'a Facts, attempt: &Attempt) -> Option<&'a ConntrackEntry> {
    facts.tracked.as_ref()?.iter().find(|entry| {
        entry.original.source == attempt.local && entry.original.destination == facts.asked
    })
}

/// What NAT on this host makes of the question.
pub(crate) fn translated(facts: &Facts) -> Option<Finding> {
    let entry = facts.attempts.iter().find_map(|it| entry_of(facts, it))?;
    let to = entry.reply.source;
    (to != facts.asked).then(|| {
        Finding::new(
            "nat",
            format!("A NAT rule of this host sends the question on to {to} (DNAT)."),
        )
    })
}
