//! Who the address is that answered instead of the one asked.

use std::net::{IpAddr, SocketAddr};

use crate::facts::Facts;
use crate::relation::{Relation, relation};

/// A word for who the other address is, and why it was taken, in sentences.
pub(crate) fn explain(facts: &Facts, from: SocketAddr) -> (&'static str, String) {
    let (seen, asked) = (from.ip(), facts.asked.ip());
    match relation(facts, seen) {
        Relation::OtherPort => (
            "other_port",
            "The address is right, the port is not: a NAT gave the answer a port of its own, or \
             the server answers from another socket than the one asked, as TFTP does."
                .to_owned(),
        ),
        Relation::Own(interface) => (
            "own_address",
            format!(
                "{seen} is this host's own address, on {interface}: the server runs on this very \
                 host, or what is sent to {asked} is redirected to it."
            ),
        ),
        Relation::Gateway(interface) => ("gateway", gateway(facts, seen, &interface)),
        Relation::Neighbour {
            interface,
            as_asked: true,
        } => (
            "same_network",
            format!(
                "{seen} is a neighbour on {interface}, as is {asked}: most likely both are \
                 addresses of one host, and {seen} is the one that its kernel prefers on this \
                 network."
            ),
        ),
        Relation::Neighbour {
            interface,
            as_asked: false,
        } => (
            "neighbour",
            format!(
                "{seen} is a neighbour on {interface}, while {asked} lies behind a router. Either \
                 {asked} is another address of that host, and {seen} that of its interface towards \
                 us. Or the router translated {asked} to {seen} (DNAT, a published port), and the \
                 answer came straight back instead of through it (hairpin NAT without source NAT)."
            ),
        ),
        Relation::Inside => (
            "nat",
            format!(
                "{seen} is private and {asked} is not: a NAT translated the question, and the \
                 answer went around it or found its conntrack entry gone."
            ),
        ),
        Relation::Elsewhere => (
            "other_address",
            format!(
                "{seen} is most likely another address of the same host, that of the interface by \
                 which its route to us leaves."
            ),
        ),
    }
}

fn gateway(facts: &Facts, seen: IpAddr, interface: &str) -> String {
    let bridge = if is_container(&facts.interface_kind) {
        let docker = IpAddr::from([172, 17, 0, 1]);
        let name = if seen == docker {
            "docker0's address"
        } else {
            "its bridge's address (docker0, br-…, cni0)"
        };
        format!(
            " {interface} is a {} link, so this is a container, and {seen} is the address of the \
             container's host on the bridge: {name}.",
            facts.interface_kind
        )
    } else {
        String::new()
    };
    format!(
        "{seen} is this host's gateway on {interface}, and {} most likely another address of that \
         gateway, which has {seen} on the interface towards us.{bridge}",
        facts.asked.ip()
    )
}

/// Whether an interface of this kind is one end of a container's link.
pub(crate) fn is_container(kind: &str) -> bool {
    ["veth", "netkit", "macvlan", "ipvlan"].contains(&kind)
}
