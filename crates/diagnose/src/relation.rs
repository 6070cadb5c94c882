//! Where an address lies, as this host sees it.

use std::net::IpAddr;

use crate::facts::Facts;

/// Where an address that answered instead lies, as this host sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Relation {
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
pub(crate) fn relation(facts: &Facts, seen: IpAddr) -> Relation {
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
