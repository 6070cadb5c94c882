//! Answers from another address than the one asked.

use std::collections::BTreeMap;
use std::net::SocketAddr;

use super::translation::translated;
use super::{origin, server};
use crate::attempt::{Outcome, SocketKind};
use crate::diagnosis::Finding;
use crate::facts::Facts;
use crate::relation::{Relation, relation};

/// Who answered instead, and what made it so.
pub(crate) fn wrong(facts: &Facts, seen: &BTreeMap<SocketAddr, usize>) -> Vec<Finding> {
    let mut findings = Vec::new();
    if facts.only_chosen_is_wrong() {
        findings.push(stale(facts));
    }
    for from in seen.keys() {
        let (kind, text) = origin::explain(facts, *from);
        findings.push(Finding::new(kind, text));
    }
    findings.extend(translated(facts));
    let is_other_address = |from: &SocketAddr| relation(facts, from.ip()) != Relation::OtherPort;
    if !facts.only_chosen_is_wrong() && seen.keys().any(is_other_address) {
        findings.push(possible());
        findings.extend(mixed(facts));
    }
    findings.extend(server::mixes_up(facts));
    let is_sniffed_only = !facts.attempts.iter().any(|it| it.outcome.is_answered());
    if is_sniffed_only {
        findings.push(dropped_here(facts));
    } else if connected_got_nothing(facts) {
        findings.push(signature(facts));
    }
    findings
}

/// Only the flow from the port that the user chose is answered from elsewhere.
fn stale(facts: &Facts) -> Finding {
    let port = facts.chosen().next().map_or(0, |it| it.local.port());
    Finding::new(
        "stale_flow",
        format!(
            "It is that flow alone: port {port} was asked from {} times and never answered from \
             the right address, fresh ports {} times and always. So the service is reached and \
             right, and a NAT on the way remembers this flow as it was before a rule changed: \
             begun while a published port was down, it still goes to whoever answered then, \
             docker-proxy for one. Every datagram keeps the entry alive.",
            facts.chosen().count(),
            facts.fresh().count(),
        ),
    )
}

/// What may have changed the source. The answers of all three look alike from here.
fn possible() -> Finding {
    Finding::new(
        "possible_causes",
        "Three things make such an answer, and from here they look alike. The server listens on a \
         wildcard (0.0.0.0 or [::]) and answers without naming a source, so the route to us chose. \
         Or docker-proxy does so in its name: it holds a published port for what Docker's NAT rule \
         does not catch. Or the server is right, and NAT on its host takes the answer for a flow \
         of its own and gives it another source: a masquerade or snat rule does that where the \
         question is not tracked (`notrack` one way only, a full table, an entry that has gone).",
    )
}

/// Some fresh flows are answered rightly, some not.
fn mixed(facts: &Facts) -> Option<Finding> {
    let right = facts.fresh().filter(|it| facts.is_right(it)).count();
    (right > 0).then(|| {
        Finding::new(
            "mixed",
            format!(
                "{right} of {} questions from fresh ports were answered from the right address. \
                 Either several servers share it, not all of which answer from it, or what \
                 changes the source does so to some flows only.",
                facts.fresh().count()
            ),
        )
    })
}

fn connected_got_nothing(facts: &Facts) -> bool {
    let mut connected = facts
        .attempts
        .iter()
        .filter(|it| it.socket == SocketKind::Connected);
    connected.all(|it| matches!(it.outcome, Outcome::Silent | Outcome::Refused(_)))
}

/// What a connected socket makes of an answer from elsewhere: moby#15127.
fn signature(facts: &Facts) -> Finding {
    let counted = match facts.counted.no_ports {
        0 => String::new(),
        n => format!(" (this host counted {n} just now, UdpNoPorts)"),
    };
    Finding::new(
        "connected_socket",
        format!(
            "That is why connected sockets got nothing: their kernel takes datagrams from {} only, \
             finds no socket for the others{counted} and returns ICMP port unreachable, which the \
             server sees. A NAT or a stateful firewall between would drop them likewise. This is \
             moby#15127.",
            facts.asked
        ),
    )
}

/// Why no socket got an answer that was seen on the interface.
fn dropped_here(facts: &Facts) -> Finding {
    let interface = facts
        .route
        .as_ref()
        .map_or("the interface", |it| &it.interface);
    match facts.counted.reverse_path_filter {
        0 => Finding::new(
            "dropped_here",
            format!(
                "The answer arrives on {interface}, but a filter of this host drops it before any \
                 socket sees it: a rule such as `ct state established accept` lets only answers \
                 from the address asked pass."
            ),
        ),
        n => Finding::new(
            "rp_filter",
            format!(
                "The answer arrives on {interface}, but this host's reverse path filter drops it, \
                 since its route to that source is another (IPReversePathFilter counted {n} just \
                 now)."
            ),
        ),
    }
}
