//! What to do about answers from another address, and about flows that are remembered wrongly.

use std::collections::BTreeMap;
use std::net::SocketAddr;

use super::commands::{Side, conntrack_delete, untracked, wildcard};
use crate::diagnosis::Remedy;
use crate::facts::Facts;
use crate::relation::{Relation, relation};

/// What to do about a wrong source.
pub(crate) fn wrong(facts: &Facts, seen: &BTreeMap<SocketAddr, usize>) -> Vec<Remedy> {
    if facts.only_chosen_is_wrong() {
        return forget_flow(facts);
    }
    let asked = facts.asked;
    let relations: Vec<_> = seen.keys().map(|it| relation(facts, it.ip())).collect();
    if relations.iter().all(|it| *it == Relation::OtherPort) {
        return vec![
            Remedy::new(
                "If the service is meant to answer from another port (TFTP), clients must not \
                 connect their sockets; a NAT on the way needs a conntrack helper for it.",
            ),
            Remedy::by(
                "Otherwise let connection tracking forget the flow, on the host that translates:",
                conntrack_delete(asked, None),
            ),
        ];
    }
    let mut remedies = vec![Remedy::by(
        "See on the host that was asked who has the port: the server, or docker-proxy. If nobody \
         has, NAT leads on to another host, and that is the one to look at:",
        format!("ss -lunp 'sport = {}'", asked.port()),
    )];
    remedies.extend(by_the_server(asked));
    remedies.push(Remedy::new(
        "If it is docker-proxy, the question missed Docker's own NAT rule: let connection tracking \
         forget it (below), or set \"userland-proxy\": false for dockerd.",
    ));
    remedies.extend(by_nat(asked));
    remedies.push(Remedy::by(
        "Then let connection tracking forget the failed flows, on every host on the way that does \
         NAT or filters by state:",
        conntrack_delete(asked, None),
    ));
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
        remedies.push(Remedy::new(format!(
            "If a router translates {}: let it masquerade what comes back out of the same \
             network (hairpin NAT), so that answers pass it again.",
            asked.ip()
        )));
    }
    if let (Some(first), 1) = (seen.keys().next(), seen.len()) {
        remedies.push(Remedy::new(format!(
            "Until then, ask {first}, the address that answers."
        )));
    }
    remedies
}

/// If the server leaves the source of its answers to the kernel.
fn by_the_server(asked: SocketAddr) -> [Remedy; 2] {
    [
        Remedy::new(format!(
            "If it is the server: bind the address itself, {asked} instead of {}. Needs one \
             socket per address, and a restart when addresses come.",
            wildcard(asked)
        )),
        Remedy::by(
            "Or run a server that reads the address asked from IP_PKTINFO or IPV6_PKTINFO and \
             answers from it. This is one; put it in the place of yours and ask again:",
            format!("reflector --listen {}", wildcard(asked)),
        ),
    ]
}

/// If NAT changes the source of right answers.
fn by_nat(asked: SocketAddr) -> [Remedy; 2] {
    let family = if asked.is_ipv6() { "-f ipv6 " } else { "" };
    let port = asked.port();
    [
        Remedy::by(
            "If it is such a server already, see there whether NAT takes its answers for flows of \
             their own. It does where an entry that begins at the server's port ends in another \
             address, its last dst=, than it begins with, its first src=:",
            format!("conntrack -L {family}-p udp --orig-port-src {port}"),
        ),
        Remedy::by(
            "If so, exempt the port from tracking both ways, or track both:",
            untracked(port, Side::Server),
        ),
    ]
}

/// What to do about a flow that a NAT or filter remembers wrongly.
pub(crate) fn forget_flow(facts: &Facts) -> Vec<Remedy> {
    let mut remedies = Vec::new();
    if facts.denied_and_unanswered().next().is_some() {
        remedies.push(Remedy::new(
            "Ask from another port, as clients do whose kernel chooses it.",
        ));
    }
    let dead = facts.chosen().next().map(|it| it.local);
    remedies.push(Remedy::by(
        "Let connection tracking forget the flow, on every host on the way that does NAT or \
         filters by state:",
        conntrack_delete(facts.asked, dead),
    ));
    remedies.push(Remedy::new(
        "Or let the client rest for longer than nf_conntrack_udp_timeout_stream (120 s unless set \
         otherwise; nf_conntrack_udp_timeout, 30 s, is for flows of less than 2 s or without an \
         answer), or ask from another port.",
    ));
    remedies
}
