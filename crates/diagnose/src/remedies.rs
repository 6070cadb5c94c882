//! What to do about a verdict, in the order to try it.

pub(crate) mod commands;
mod source;

use std::collections::BTreeMap;
use std::net::SocketAddr;

use crate::diagnosis::{Remedy, Verdict};
use crate::facts::Facts;
use crate::question::Question;
use commands::{Side, conntrack_delete, untracked, wildcard};

/// What to do about `verdict`, in the order to try it.
pub(crate) fn remedies(
    facts: &Facts,
    verdict: Verdict,
    seen: &BTreeMap<SocketAddr, usize>,
) -> Vec<Remedy> {
    let mut remedies = unsent(facts);
    remedies.extend(match verdict {
        Verdict::Answered | Verdict::Unsent => Vec::new(),
        Verdict::Partly => lost(facts),
        Verdict::FlowSilent => source::forget_flow(facts),
        Verdict::MixedUp => mixed_up(),
        Verdict::WrongSource => source::wrong(facts, seen),
        Verdict::Refused => refused(facts),
        Verdict::Silent => silent(facts),
    });
    remedies
}

/// What to do where this host itself does not send, or tracks no more flows.
fn unsent(facts: &Facts) -> Vec<Remedy> {
    let port = facts.asked.port();
    if let (true, Some(table)) = (facts.is_table_full(), facts.occupancy) {
        return vec![
            Remedy::by(
                "Make room: in the network namespace of the machine, for a container's cannot set \
                 it:",
                format!("sysctl -w net.netfilter.nf_conntrack_max={}", table.max * 4),
            ),
            Remedy::by(
                "Or do not track what is sent to this service, nor its answers, unless NAT on this \
                 host has to translate them:",
                untracked(port, Side::Client),
            ),
            Remedy::by("See what fills it:", "conntrack -L | head -50"),
        ];
    }
    if !facts.unsent().any(|it| it == libc::EPERM) {
        return Vec::new();
    }
    vec![
        Remedy::by(
            "Find the rule of this host, in a chain whose hook is output or postrouting (rules of \
             the old iptables are shown by `iptables-legacy-save`):",
            "nft list ruleset",
        ),
        Remedy::by(
            "If there is none, see which BPF programs are attached to cgroups:",
            "bpftool cgroup tree",
        ),
    ]
}

/// What to do where some questions get lost.
fn lost(facts: &Facts) -> Vec<Remedy> {
    let mut remedies = vec![Remedy::new(format!(
        "Ask again with more --tries, to see how many get lost; `reflector load {}` shows from \
         which rate on.",
        facts.asked
    ))];
    remedies.push(Remedy::by(
        "Look on the server for a receive buffer that overflows (RcvbufErrors; only for sockets \
         that are open):",
        "nstat -az UdpRcvbufErrors Udp6RcvbufErrors",
    ));
    remedies.push(Remedy::by(
        "There, and on every host on the way that does NAT or filters by state, see whether \
         connection tracking drops (column drop) and whether the table is full:",
        "conntrack -S; conntrack -C; sysctl net.netfilter.nf_conntrack_max",
    ));
    remedies.push(Remedy::by(
        "There, look for a rule with `limit`, and for a queue that drops:",
        "nft list ruleset | grep -n limit; tc -s qdisc show",
    ));
    remedies
}

fn mixed_up() -> Vec<Remedy> {
    vec![Remedy::new(
        "Mend the server, or the proxy before it: each answer goes to the peer, and from the \
         socket, that the question came by. Ask the server without the proxy to see which it is.",
    )]
}

fn refused(facts: &Facts) -> Vec<Remedy> {
    let port = facts.asked.port();
    vec![
        Remedy::by(
            "See on the server who listens on the port, and on which address:",
            format!("ss -lunp 'sport = {port}'"),
        ),
        Remedy::by(
            "If nobody does, start the service; to try the way alone:",
            format!("reflector --listen {}", wildcard(facts.asked)),
        ),
        Remedy::by(
            "If somebody does, and the port is published by a NAT, let connection tracking forget \
             what it knows of it:",
            conntrack_delete(facts.asked, None),
        ),
    ]
}

fn silent(facts: &Facts) -> Vec<Remedy> {
    let port = facts.asked.port();
    if let Some(neighbour) = facts.unresolved {
        return vec![Remedy::by(
            "See whether the host is up and on this network:",
            format!("ip neighbour show {neighbour}"),
        )];
    }
    let mut remedies = Vec::new();
    if facts.is_dropped_here() {
        remedies.push(Remedy::by(
            "Find the rule of this host that drops the answer:",
            "nft list ruleset",
        ));
        return remedies;
    }
    if facts.counted.reverse_path_filter > 0
        && let Some(route) = &facts.route
    {
        remedies.push(Remedy::by(
            "Make this host's reverse path filter loose:",
            format!("sysctl -w net.ipv4.conf.{}.rp_filter=2", route.interface),
        ));
    }
    if facts.question == Question::Echo {
        remedies.push(Remedy::new(
            "If the service is no echo, ask what it answers: --dns NAME, or --payload-hex HEX.",
        ));
    }
    remedies.push(Remedy::new(
        "Look into the server's own log and counters first: a rule of its own may be why. A \
         reflector logs whom it does not answer, and for which reason.",
    ));
    remedies.push(Remedy::by(
        "Watch on the server whether the question arrives, and from which address an answer \
         leaves:",
        format!("tcpdump -ni any udp port {port}"),
    ));
    remedies.push(Remedy::new(
        "Diagnose from a place without NAT or firewall between, such as the server's own network \
         or the container's host: there a wrong source shows.",
    ));
    remedies.push(Remedy::by(
        "See on every host on the way that does NAT or filters by state whether its table is full:",
        "conntrack -C; sysctl net.netfilter.nf_conntrack_max",
    ));
    remedies.push(Remedy::by(
        "Let connection tracking forget what it knows of the service, on those hosts:",
        conntrack_delete(facts.asked, None),
    ));
    remedies
}
