//! What to do about a verdict, in the order to try it.

use std::collections::BTreeMap;
use std::net::SocketAddr;

use crate::attempt::Outcome;
use crate::diagnosis::{Remedy, Verdict};
use crate::facts::Facts;
use crate::question::Question;
use crate::relation::{Relation, relation};
use reflector_measure::target;

/// What to do about `verdict`, in the order to try it.
pub(crate) fn remedies(
    facts: &Facts,
    verdict: Verdict,
    seen: &BTreeMap<SocketAddr, usize>,
) -> Vec<Remedy> {
    match verdict {
        Verdict::Answered => Vec::new(),
        Verdict::Partly | Verdict::FlowSilent => vec![forget_flow(facts)],
        Verdict::WrongSource => wrong_source(facts, seen),
        Verdict::Refused => refused(facts),
        Verdict::Silent => silent(facts),
    }
}

fn remedy(text: impl Into<String>) -> Remedy {
    Remedy {
        text: text.into(),
        command: None,
    }
}

fn command(text: impl Into<String>, command: String) -> Remedy {
    Remedy {
        command: Some(command),
        ..remedy(text)
    }
}

fn wildcard(asked: SocketAddr) -> SocketAddr {
    SocketAddr::new(target::wildcard(asked.ip()), asked.port())
}

/// Deletes entries of connection tracking by their original tuple (conntrack(8)).
fn conntrack_delete(asked: SocketAddr, source: Option<SocketAddr>) -> String {
    let family = if asked.is_ipv6() { " -f ipv6" } else { "" };
    let source = source.map_or_else(String::new, |it| {
        format!(" --orig-src {} --sport {}", it.ip(), it.port())
    });
    format!(
        "conntrack -D{family} -p udp{source} --orig-dst {} --dport {}",
        asked.ip(),
        asked.port()
    )
}

fn wrong_source(facts: &Facts, seen: &BTreeMap<SocketAddr, usize>) -> Vec<Remedy> {
    let asked = facts.asked;
    let relations: Vec<_> = seen.keys().map(|it| relation(facts, it.ip())).collect();
    if relations.iter().all(|it| *it == Relation::OtherPort) {
        return vec![
            remedy(
                "If the service is meant to answer from another port (TFTP), clients must not \
                 connect their sockets; a NAT on the way needs a conntrack helper for it.",
            ),
            command(
                "Otherwise let connection tracking forget the flow, on the host that translates:",
                conntrack_delete(asked, None),
            ),
        ];
    }
    let mut remedies = vec![
        remedy(format!(
            "Bind the address itself: let the server listen on {asked} instead of {}. Needs one \
             socket per address, and a restart when addresses come.",
            wildcard(asked)
        )),
        command(
            "Or run a server that reads the address asked from IP_PKTINFO or IPV6_PKTINFO and \
             answers from it. This is one; put it in the place of yours and ask again:",
            format!("reflector --listen {}", wildcard(asked)),
        ),
        command(
            "Then let connection tracking forget the failed flows, on every host on the way that \
             does NAT or filters by state:",
            conntrack_delete(asked, None),
        ),
    ];
    let may_be_hairpin = |it: &Relation| {
        matches!(
            it,
            Relation::Inside
                | Relation::Neighbour {
                    as_asked: false,
                    ..
                }
        )
    };
    if relations.iter().any(may_be_hairpin) {
        remedies.push(remedy(format!(
            "If a router translates {}: let it masquerade what comes back out of the same \
             network (hairpin NAT), so that answers pass it again.",
            asked.ip()
        )));
    }
    if let (Some(first), 1) = (seen.keys().next(), seen.len()) {
        remedies.push(remedy(format!(
            "Until then, ask {first}, the address that answers."
        )));
    }
    remedies
}

fn forget_flow(facts: &Facts) -> Remedy {
    let dead = facts
        .attempts
        .iter()
        .find(|it| !matches!(it.outcome, Outcome::Answered { .. }));
    command(
        "Let connection tracking forget the dead flow, on every host on the way that does NAT or \
         filters by state; or let the client rest for longer than nf_conntrack_udp_timeout (30 s), \
         or ask from another port:",
        conntrack_delete(facts.asked, dead.map(|it| it.local)),
    )
}

fn refused(facts: &Facts) -> Vec<Remedy> {
    let port = facts.asked.port();
    vec![
        command(
            "See on the server who listens on the port, and on which address:",
            format!("ss -lunp 'sport = {port}'"),
        ),
        command(
            "If nobody does, start the service; to try the way alone:",
            format!("reflector --listen {}", wildcard(facts.asked)),
        ),
        command(
            "If somebody does, and the port is published by a NAT, let connection tracking forget \
             what it knows of it:",
            conntrack_delete(facts.asked, None),
        ),
    ]
}

fn silent(facts: &Facts) -> Vec<Remedy> {
    let port = facts.asked.port();
    if let Some(neighbour) = facts.unresolved {
        return vec![command(
            "See whether the host is up and on this network:",
            format!("ip neighbour show {neighbour}"),
        )];
    }
    let mut remedies = Vec::new();
    if facts.is_dropped_here() {
        remedies.push(command(
            "Find the rule of this host that drops the answer:",
            "nft list ruleset".to_owned(),
        ));
        return remedies;
    }
    if facts.counted.reverse_path_filter > 0
        && let Some(route) = &facts.route
    {
        remedies.push(command(
            "Make this host's reverse path filter loose:",
            format!("sysctl -w net.ipv4.conf.{}.rp_filter=2", route.interface),
        ));
    }
    if facts.question == Question::Echo {
        remedies.push(remedy(
            "If the service is no echo, ask what it answers: --dns NAME, or --payload-hex HEX.",
        ));
    }
    remedies.push(command(
        "Watch on the server whether the question arrives, and from which address an answer \
         leaves:",
        format!("tcpdump -ni any udp port {port}"),
    ));
    remedies.push(remedy(
        "Diagnose from a place without NAT or firewall between, such as the server's own network \
         or the container's host: there a wrong source shows.",
    ));
    remedies.push(command(
        "Let connection tracking forget what it knows of the service, on every host on the way \
         that does NAT or filters by state:",
        conntrack_delete(facts.asked, None),
    ));
    remedies
}
