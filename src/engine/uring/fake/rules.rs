//! Who may be answered: lists that change, and what they mean, worked out without the guard.

use std::net::IpAddr;

use super::choices::Choices;
use super::fates::Datagram;
use crate::datagram::DropReason;
use crate::guard::{Guard, Prefixes, Rules};

/// The port that this reflector listens on, as far as its guard is told.
pub const OWN_PORT: u16 = 9007;

/// Those who ask by IPv4, the harmless first. The last octet says whether the kernel knows the way
/// to them.
pub const PEERS_V4: [&str; 10] = [
    "10.0.0.3:4001",
    "10.0.0.4:4002",
    "10.0.0.1:4001",
    "10.0.0.2:4002",
    "10.0.1.7:4003",
    "8.8.8.8:4001",
    "224.0.0.5:4001",
    "10.0.0.3:0",
    "10.0.0.3:9007",
    "10.0.0.4:7",
];

/// Those who ask by IPv6.
pub const PEERS_V6: [&str; 4] = [
    "[fd00::3]:4001",
    "[fd00::4]:4002",
    "[fd00::1]:4003",
    "[ff02::1]:4004",
];

/// One state of the lists.
#[derive(Clone, Debug, Default)]
pub struct Lists {
    /// The last octet of each is all that is compared.
    denied: Vec<u8>,
    is_all_allowed: bool,
    denied_ports: Vec<u16>,
    has_loop_guard: bool,
}

impl Lists {
    /// Some lists.
    pub fn some(choices: &mut Choices) -> Self {
        Self {
            denied: (1..=8).filter(|_| choices.chance(200)).collect(),
            is_all_allowed: choices.chance(200),
            denied_ports: [7, 4001, 4002]
                .into_iter()
                .filter(|_| choices.chance(300))
                .collect(),
            has_loop_guard: choices.chance(300),
        }
    }

    /// A guard that goes by them.
    pub fn guard(&self) -> Guard {
        let prefixes = |texts: Vec<String>| {
            let parsed = texts.iter().map(|text| text.parse().expect("a prefix"));
            Prefixes::new(parsed.collect::<Vec<_>>())
        };
        let allow = match self.is_all_allowed {
            true => ["0.0.0.0/0", "::/0"],
            false => ["10.0.0.0/8", "fd00::/16"],
        };
        let denied = |octet: &u8| {
            let v4 = [format!("10.0.0.{octet}/32"), format!("10.0.1.{octet}/32")];
            v4.into_iter()
                .chain([format!("8.8.8.{octet}/32"), format!("fd00::{octet:x}/128")])
        };
        let rules = Rules {
            allow: prefixes(allow.map(String::from).into()),
            deny: prefixes(self.denied.iter().flat_map(denied).collect()),
            deny_ports: self.denied_ports.clone(),
            loop_guard: self.has_loop_guard,
        };
        Guard::new(&rules, [OWN_PORT])
    }

    /// Why `datagram` must not be answered.
    pub fn refuse(&self, datagram: &Datagram) -> Option<DropReason> {
        let (ip, port) = (datagram.peer.ip(), datagram.peer.port());
        if port == 0 || port == OWN_PORT || self.denied_ports.contains(&port) {
            return Some(DropReason::SourcePort);
        }
        if ip.is_multicast() {
            return Some(DropReason::SourceAddress);
        }
        let is_allowed = match ip {
            _ if self.is_all_allowed => true,
            IpAddr::V4(ip) => ip.octets()[0] == 10,
            IpAddr::V6(ip) => ip.segments()[0] == 0xfd00,
        };
        if !is_allowed || self.denied.contains(&last_octet(ip)) {
            return Some(DropReason::NotAllowed);
        }
        let is_used_up = datagram.hops.is_some_and(|hops| hops <= 1);
        (self.has_loop_guard && is_used_up).then_some(DropReason::HopLimit)
    }

    /// Hops that the reply to a datagram with so many may have.
    pub fn hops(&self, hops: Option<u8>) -> Option<u8> {
        hops.filter(|_| self.has_loop_guard)
            .map(|hops| hops.saturating_sub(1))
    }
}

/// The last octet of an address.
pub fn last_octet(ip: IpAddr) -> u8 {
    match ip {
        IpAddr::V4(ip) => ip.octets()[3],
        IpAddr::V6(ip) => ip.octets()[15],
    }
}
