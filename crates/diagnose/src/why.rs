//! Why the verdict is what it is, in sentences for this host.

mod origin;

use std::collections::BTreeMap;
use std::net::SocketAddr;

use crate::attempt::{Attempt, Outcome, SocketKind};
use crate::diagnosis::{Finding, Verdict};
use crate::facts::Facts;
use crate::question::Question;
use reflector_netlab::conntrack::ConntrackEntry;

/// What explains `verdict`, with `right` questions answered from the address asked.
pub(crate) fn findings(
    facts: &Facts,
    verdict: Verdict,
    seen: &BTreeMap<SocketAddr, usize>,
    right: usize,
) -> Vec<Finding> {
    match verdict {
        Verdict::Answered => answered(facts),
        Verdict::Partly | Verdict::FlowSilent => partly(facts, right),
        Verdict::WrongSource => wrong_source(facts, seen, right),
        Verdict::Refused => refusals(facts),
        Verdict::Silent => silent(facts),
    }
}

fn finding(kind: &'static str, text: impl Into<String>) -> Finding {
    Finding {
        kind,
        text: text.into(),
    }
}

fn answered(facts: &Facts) -> Vec<Finding> {
    let is_foreign = |it: &Attempt| {
        matches!(
            it.outcome,
            Outcome::Answered {
                is_expected: false,
                ..
            }
        )
    };
    if !facts.attempts.iter().any(is_foreign) {
        return Vec::new();
    }
    let what = match facts.question {
        Question::Dns(_) => "It is no DNS answer to the query, but",
        _ => "It does not echo, but",
    };
    vec![finding(
        "other_service",
        format!("{what} whatever it answers comes from the right address."),
    )]
}

fn partly(facts: &Facts, right: usize) -> Vec<Finding> {
    let silent: Vec<_> = facts
        .attempts
        .iter()
        .filter(|it| !facts.is_right(it))
        .map(|it| it.local.port().to_string())
        .collect();
    let mut findings = vec![finding(
        "flow",
        format!(
            "{right} flows were answered, those from port {} were not. A stale conntrack entry \
             looks like this: a NAT or stateful firewall on the way remembers the flow as it was \
             before a rule or a server changed, and every datagram keeps the entry alive. A fresh \
             source port gets a fresh entry. So does loss, of course: asking again with more \
             --tries tells them apart.",
            silent.join(" and ")
        ),
    )];
    findings.extend(pinned(facts));
    findings
}

/// The conntrack entry here that sends a dead flow elsewhere than the flows that are answered.
fn pinned(facts: &Facts) -> Option<Finding> {
    let entry = |attempt: &Attempt| entry_of(facts, attempt);
    let alive = facts
        .attempts
        .iter()
        .filter(|it| facts.is_right(it))
        .find_map(entry)?;
    let dead = facts
        .attempts
        .iter()
        .filter(|it| !facts.is_right(it))
        .find_map(entry)?;
    if alive.reply.source == dead.reply.source {
        return None;
    }
    Some(finding(
        "conntrack",
        format!(
            "This host's own connection tracking shows it: the flow from port {} still goes to {}, \
             fresh ones go to {}.",
            dead.original.source.port(),
            dead.reply.source,
            alive.reply.source
        ),
    ))
}

/// The conntrack entry of an attempt's flow.
fn entry_of<'a>(facts: &'a Facts, attempt: &Attempt) -> Option<&'a ConntrackEntry> {
    facts.tracked.as_ref()?.iter().find(|entry| {
        entry.original.source == attempt.local && entry.original.destination == facts.asked
    })
}

fn wrong_source(facts: &Facts, seen: &BTreeMap<SocketAddr, usize>, right: usize) -> Vec<Finding> {
    let mut findings = Vec::new();
    for from in seen.keys() {
        let (kind, text) = origin::explain(facts, *from);
        findings.push(finding(kind, text));
    }
    if right > 0 {
        findings.push(finding(
            "mixed",
            format!(
                "{right} of {} questions were answered from the right address: several servers \
                 share the address, and not all of them answer from it.",
                facts.attempts.len()
            ),
        ));
    }
    let is_sniffed_only = facts
        .attempts
        .iter()
        .all(|it| it.outcome == Outcome::Silent);
    if is_sniffed_only {
        findings.push(dropped_here(facts));
    } else if connected_got_nothing(facts) {
        findings.push(signature(facts));
    }
    findings.extend(translated(facts));
    findings
}

fn connected_got_nothing(facts: &Facts) -> bool {
    let mut connected = facts
        .attempts
        .iter()
        .filter(|it| it.socket == SocketKind::Connected);
    connected.all(|it| !matches!(it.outcome, Outcome::Answered { .. }))
}

/// What a connected socket makes of an answer from elsewhere: moby#15127.
fn signature(facts: &Facts) -> Finding {
    let counted = match facts.counted.no_ports {
        0 => String::new(),
        n => format!(" (this host counted {n} just now, UdpNoPorts)"),
    };
    finding(
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
        0 => finding(
            "dropped_here",
            format!(
                "The answer arrives on {interface}, but a filter of this host drops it before any \
                 socket sees it: a rule such as `ct state established accept` lets only answers \
                 from the address asked pass."
            ),
        ),
        n => finding(
            "rp_filter",
            format!(
                "The answer arrives on {interface}, but this host's reverse path filter drops it, \
                 since its route to that source is another (IPReversePathFilter counted {n} just \
                 now)."
            ),
        ),
    }
}

/// What NAT on this host makes of the question.
fn translated(facts: &Facts) -> Option<Finding> {
    let entry = facts.attempts.iter().find_map(|it| entry_of(facts, it))?;
    if entry.reply.source == facts.asked {
        return None;
    }
    Some(finding(
        "nat",
        format!(
            "A NAT rule of this host sends the question on to {} (DNAT).",
            entry.reply.source
        ),
    ))
}

fn refusals(facts: &Facts) -> Vec<Finding> {
    let Some(refusal) = facts.first_refusal() else {
        return Vec::new();
    };
    let by = refusal
        .by
        .map_or_else(|| "somebody".to_owned(), |ip| ip.to_string());
    let said = format!("{by} says: {}.", refusal.meaning());
    let port = facts.asked.port();
    let text = if !refusal.is_port_unreachable() {
        format!("{said} It is a router or a firewall on the way, not the service.")
    } else if refusal.by == Some(facts.asked.ip()) {
        format!(
            "{said} Nobody listens on UDP port {port} there, or only on another address of that \
             host, or a firewall rejects in its name."
        )
    } else {
        format!(
            "{said} That is not the address asked, so a NAT or a router took the question for its \
             own: a published port with nobody behind it, or an answer that came to nobody \
             because its flow is unknown there."
        )
    };
    let mut findings = vec![finding("refused", text)];
    findings.extend(translated(facts));
    findings
}

fn silent(facts: &Facts) -> Vec<Finding> {
    let mut findings = Vec::new();
    if let Some(neighbour) = facts.unresolved {
        let interface = facts.route.as_ref().map_or("the link", |it| &it.interface);
        findings.push(finding(
            "neighbour",
            format!(
                "Nobody on {interface} says that it has {neighbour} (ARP or neighbour discovery \
                 failed), so the question never left: the host is off, or on another network."
            ),
        ));
        return findings;
    }
    if facts.is_dropped_here() {
        findings.push(finding(
            "dropped_here",
            format!(
                "{} does answer, from the right address, but a filter of this host drops the \
                 answer before any socket sees it.",
                facts.asked
            ),
        ));
        return findings;
    }
    if facts.counted.reverse_path_filter > 0 {
        findings.push(finding(
            "rp_filter",
            format!(
                "This host's reverse path filter dropped {} packets meanwhile \
                 (IPReversePathFilter): an answer may have come from an address whose route \
                 leads elsewhere.",
                facts.counted.reverse_path_filter
            ),
        ));
    }
    findings.extend(translated(facts));
    findings.push(finding("nothing_seen", nothing_seen(facts)));
    findings
}

fn nothing_seen(facts: &Facts) -> String {
    let service = match &facts.question {
        Question::Echo => "it is no echo service and ignores the question; ",
        Question::Bytes(_) => "it ignores these bytes; ",
        Question::Dns(_) => "it is no DNS server, or refuses to serve us; ",
    };
    let behind = match &facts.route {
        Some(route) if route.gateway.is_some() && origin::is_container(&facts.interface_kind) => {
            " This is a container: if its host translates addresses (MASQUERADE), that is where a \
             wrong source would be dropped."
        }
        _ => "",
    };
    let seen = match facts.seen_on_interface {
        Some(_) => "No answer reaches this host, on any socket or on the interface",
        None => {
            "No answer reaches a socket (as root this command also looks at the interface, before \
             this host's own filters)"
        }
    };
    format!(
        "{seen}. What that can be: {service}a firewall drops the question or the answer; or \
         the service answers from another address, and a NAT or a stateful firewall on the way \
         drops that.{behind}"
    )
}
