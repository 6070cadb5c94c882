//! Which datagrams may be answered at all.
//!
//! The order is fixed, since drop reasons depend on it: source port, source address class, deny
//! list, allow list. (Truncation, missing pktinfo and destinations that are not unicast are found
//! before, by [`crate::ingress`].) Deny always wins.

use std::net::IpAddr;
use std::ops::RangeInclusive;

use ipnet::{IpNet, Ipv4Net, Ipv6Net};

use crate::datagram::DropReason;
use reflector_udp::addr::Name;

/// The prefixes that are answered by default: those that are not routed on the Internet.
///
/// Private (RFC 1918), loopback, link-local (RFC 3927), carrier-grade NAT (RFC 6598) and
/// benchmarking (RFC 2544); loopback, link-local, unique local (RFC 4193) and benchmarking
/// (RFC 5180) of IPv6.
pub const DEFAULT_ALLOW: [&str; 11] = [
    "10.0.0.0/8",
    "172.16.0.0/12",
    "192.168.0.0/16",
    "127.0.0.0/8",
    "169.254.0.0/16",
    "100.64.0.0/10",
    "198.18.0.0/15",
    "::1/128",
    "fe80::/10",
    "fc00::/7",
    "2001:2::/48",
];

/// Source ports of services that answer what they are sent, or amplify it: a datagram from one of
/// them is forged, or the other half of a loop (CVE-2024-2169).
///
/// Not 53: a DNS server ignores its own response when it is echoed, since that is marked as one,
/// and nping asks from 53 unless told otherwise.
pub const DEFAULT_DENY_PORTS: [u16; 19] = [
    7, 13, 17, 19, 37, 69, 111, 123, 137, 138, 161, 389, 500, 520, 1900, 3702, 5353, 5355, 11211,
];

/// A set of prefixes, kept as disjoint ranges in ascending order and looked up by binary search.
#[derive(Clone, Debug, Default)]
pub struct Prefixes {
    v4: Vec<RangeInclusive<u32>>,
    v6: Vec<RangeInclusive<u128>>,
}

impl Prefixes {
    /// The set of addresses in any of `prefixes`.
    pub fn new(prefixes: impl IntoIterator<Item = IpNet>) -> Self {
        let mut v4 = Vec::new();
        let mut v6 = Vec::new();
        for prefix in prefixes {
            match prefix {
                IpNet::V4(net) => v4.push(net.trunc()),
                IpNet::V6(net) => v6.push(net.trunc()),
            }
        }
        // Aggregated prefixes are disjoint and sorted, which the search relies on.
        let (v4, v6) = (Ipv4Net::aggregate(&v4), Ipv6Net::aggregate(&v6));
        let v4 = v4
            .iter()
            .map(|net| net.network().to_bits()..=net.broadcast().to_bits());
        let v6 = v6
            .iter()
            .map(|net| net.network().to_bits()..=net.broadcast().to_bits());
        Self {
            v4: v4.collect(),
            v6: v6.collect(),
        }
    }

    /// Whether `addr` is in one of them.
    pub fn contains(&self, addr: IpAddr) -> bool {
        match addr {
            IpAddr::V4(addr) => is_in(&self.v4, addr.to_bits()),
            IpAddr::V6(addr) => is_in(&self.v6, addr.to_bits()),
        }
    }

    /// Whether nothing is in it.
    pub fn is_empty(&self) -> bool {
        self.v4.is_empty() && self.v6.is_empty()
    }
}

/// Whether one of the ranges, which ascend and are disjoint, holds `bits`.
fn is_in<T: Ord>(ranges: &[RangeInclusive<T>], bits: T) -> bool {
    let after = ranges.partition_point(|range| *range.start() <= bits);
    after > 0 && bits <= *ranges[after - 1].end()
}

/// A set of port numbers, one bit each.
#[derive(Clone)]
pub struct Ports(Box<[u64; 1024]>);

impl Ports {
    /// The set of `ports`.
    pub fn new(ports: impl IntoIterator<Item = u16>) -> Self {
        let mut bits = Box::new([0; 1024]);
        for port in ports {
            bits[usize::from(port / 64)] |= 1 << (port % 64);
        }
        Self(bits)
    }

    /// Whether `port` is in it.
    pub fn contains(&self, port: u16) -> bool {
        self.0[usize::from(port / 64)] & (1 << (port % 64)) != 0
    }
}

/// The rules that a peer has to pass.
#[derive(Clone)]
pub struct Guard {
    ports: Ports,
    deny: Prefixes,
    allow: Prefixes,
}

impl Guard {
    /// A guard that answers `allow` without `deny`, except from `deny_ports`, from port 0, and
    /// from `own_ports`, on which this reflector listens: two of them would answer each other for
    /// ever.
    pub fn new(
        allow: Prefixes,
        deny: Prefixes,
        deny_ports: impl IntoIterator<Item = u16>,
        own_ports: impl IntoIterator<Item = u16>,
    ) -> Self {
        let ports = Ports::new(deny_ports.into_iter().chain(own_ports).chain([0]));
        Self { ports, deny, allow }
    }

    /// Whether `addr` is refused whatever is allowed.
    pub fn is_denied(&self, addr: IpAddr) -> bool {
        self.deny.contains(addr)
    }

    /// Whether `peer` may be answered.
    ///
    /// # Errors
    /// The first of `SourcePort`, `SourceAddress`, `NotAllowed` that applies.
    pub fn admit(&self, peer: &Name) -> Result<(), DropReason> {
        if self.ports.contains(peer.port()) {
            return Err(DropReason::SourcePort);
        }
        let ip = peer.ip();
        if !is_answerable(ip) {
            return Err(DropReason::SourceAddress);
        }
        if self.is_denied(ip) || !self.allow.contains(ip) {
            return Err(DropReason::NotAllowed);
        }
        Ok(())
    }
}

/// Whether a host can have this address: not unspecified or "this network" (RFC 1122), multicast,
/// broadcast or reserved (RFC 1112 class E).
fn is_answerable(addr: IpAddr) -> bool {
    match addr {
        IpAddr::V4(addr) => (1..=223).contains(&addr.octets()[0]),
        IpAddr::V6(addr) => !addr.is_unspecified() && !addr.is_multicast(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn prefixes(texts: &[&str]) -> Prefixes {
        Prefixes::new(texts.iter().map(|text| text.parse().unwrap()))
    }

    fn guard(allow: &[&str], deny: &[&str]) -> Guard {
        Guard::new(prefixes(allow), prefixes(deny), [53], [9007])
    }

    fn admit(guard: &Guard, peer: &str) -> Result<(), DropReason> {
        guard.admit(&Name::new(peer.parse().unwrap()))
    }

    #[test]
    fn the_default_answers_what_is_not_routed_on_the_internet() {
        let guard = guard(&DEFAULT_ALLOW, &[]);
        for peer in [
            "172.17.0.3:4000",
            "127.0.0.1:4000",
            "100.64.0.1:1",
            "[fd00::1]:4000",
        ] {
            assert_eq!(admit(&guard, peer), Ok(()), "{peer}");
        }
        for peer in [
            "8.8.8.8:4000",
            "172.32.0.1:4000",
            "[2001:db8::1]:4000",
            "192.0.2.1:4000",
        ] {
            assert_eq!(admit(&guard, peer), Err(DropReason::NotAllowed), "{peer}");
        }
    }

    #[test]
    fn a_mapped_peer_is_judged_as_the_ipv4_one_that_it_is() {
        let guard = guard(&["10.0.0.0/8"], &[]);
        assert_eq!(admit(&guard, "[::ffff:10.0.0.1]:4000"), Ok(()));
        for peer in ["[::ffff:192.0.2.1]:4000", "[::ffff:224.0.0.1]:4000"] {
            assert!(admit(&guard, peer).is_err(), "{peer}");
        }
    }

    #[test]
    fn deny_wins_over_allow() {
        let guard = guard(&["0.0.0.0/0", "10.1.0.0/16"], &["10.1.2.0/24"]);
        assert_eq!(admit(&guard, "10.1.2.3:4000"), Err(DropReason::NotAllowed));
        assert_eq!(admit(&guard, "10.1.3.3:4000"), Ok(()));
    }

    #[test]
    fn ports_come_before_addresses_and_classes_before_lists() {
        let guard = guard(&[], &[]);
        assert_eq!(admit(&guard, "0.0.0.0:0"), Err(DropReason::SourcePort));
        assert_eq!(admit(&guard, "10.0.0.1:9007"), Err(DropReason::SourcePort));
        assert_eq!(admit(&guard, "10.0.0.1:53"), Err(DropReason::SourcePort));
        for peer in [
            "0.1.2.3:9",
            "224.0.0.1:9",
            "255.255.255.255:9",
            "240.0.0.1:9",
            "[ff02::1]:9",
        ] {
            assert_eq!(
                admit(&guard, peer),
                Err(DropReason::SourceAddress),
                "{peer}"
            );
        }
        assert_eq!(admit(&guard, "10.0.0.1:4000"), Err(DropReason::NotAllowed));
    }

    #[test]
    fn nested_and_adjacent_prefixes_are_found() {
        let set = prefixes(&["10.0.0.0/8", "10.5.0.0/16", "11.0.0.0/8", "2001:db8::/32"]);
        for addr in [
            "10.200.0.1",
            "10.5.0.1",
            "11.255.255.255",
            "2001:db8:ffff::1",
        ] {
            assert!(set.contains(addr.parse().unwrap()), "{addr}");
        }
        for addr in ["9.255.255.255", "12.0.0.0", "2001:db9::"] {
            assert!(!set.contains(addr.parse().unwrap()), "{addr}");
        }
    }
}
