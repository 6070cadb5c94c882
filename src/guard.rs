//! Which datagrams may be answered at all.
//!
//! The order is fixed, since drop reasons depend on it: source port, source address class, deny
//! list, allow list, hop limit. (Truncation, missing pktinfo and destinations that are not unicast
//! are found before, by [`crate::ingress`].) Deny always wins.

use std::net::IpAddr;
use std::ops::RangeInclusive;

use ipnet::{IpNet, Ipv4Net, Ipv6Net};

use crate::datagram::{Arrival, Attributes, DropReason};

/// The prefixes that are answered by default: those that are not routed on the Internet.
///
/// Private (RFC 1918), loopback, link-local (RFC 3927), carrier-grade NAT (RFC 6598) and
/// benchmarking (RFC 2544); loopback, link-local, unique local (RFC 4193) and benchmarking
/// (RFC 5180) of IPv6.
pub const DEFAULT_ALLOW: &[&str] = &[
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
pub const DEFAULT_DENY_PORTS: &[u16] = &[
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
#[derive(Clone, Debug)]
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

/// Who is answered, as a server is told.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Rules {
    /// Who is answered.
    pub allow: Prefixes,
    /// Who is not, whatever `allow` says.
    pub deny: Prefixes,
    /// Source ports that get no answer.
    pub deny_ports: Vec<u16>,
    /// Whether a reply has one hop less to go than its request had left.
    pub loop_guard: bool,
}

impl Default for Rules {
    /// [`DEFAULT_ALLOW`] and [`DEFAULT_DENY_PORTS`], no loop guard.
    fn default() -> Self {
        let parse = |text: &str| text.parse().expect("the defaults are prefixes");
        Self {
            allow: Prefixes::new(DEFAULT_ALLOW.iter().copied().map(parse)),
            deny: Prefixes::default(),
            deny_ports: DEFAULT_DENY_PORTS.to_vec(),
            loop_guard: false,
        }
    }
}

/// The rules, made ready for the datagram path.
#[derive(Clone, Debug)]
pub struct Guard {
    ports: Ports,
    deny: Prefixes,
    allow: Prefixes,
    has_loop_guard: bool,
}

impl Guard {
    /// A guard that applies `rules`, and refuses port 0 and `own_ports`, on which this reflector
    /// listens: two of them would answer each other for ever.
    ///
    /// A loop guard needs the hop limits of arrivals.
    pub fn new(rules: &Rules, own_ports: impl IntoIterator<Item = u16>) -> Self {
        let deny_ports = rules.deny_ports.iter().copied();
        Self {
            ports: Ports::new(deny_ports.chain(own_ports).chain([0])),
            deny: rules.deny.clone(),
            allow: rules.allow.clone(),
            has_loop_guard: rules.loop_guard,
        }
    }

    /// Whether `addr` is refused whatever is allowed.
    pub fn is_denied(&self, addr: IpAddr) -> bool {
        self.deny.contains(addr)
    }

    /// Whether what arrived may be answered.
    ///
    /// # Errors
    /// The first of `SourcePort`, `SourceAddress`, `NotAllowed`, `HopLimit` that applies.
    pub fn admit(&self, arrival: &Arrival) -> Result<(), DropReason> {
        let peer = &arrival.flow.peer;
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
        if self.has_loop_guard && arrival.attributes.hop_limit().is_some_and(|hops| hops <= 1) {
            return Err(DropReason::HopLimit);
        }
        Ok(())
    }

    /// What replies to an admitted arrival may ask for, which would leave with `attributes`: one
    /// hop less than the arrival had left, if the guard says so.
    #[inline]
    pub fn limit(&self, arrival: &Arrival, attributes: Attributes) -> Attributes {
        match arrival.attributes.hop_limit() {
            Some(hops) if self.has_loop_guard => {
                let left = hops.saturating_sub(1);
                let asked = attributes.hop_limit().unwrap_or(left);
                attributes.with_hop_limit(asked.min(left))
            }
            _ => attributes,
        }
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
    use reflector_udp::addr::PeerAddr;

    fn prefixes(texts: &[&str]) -> Prefixes {
        Prefixes::new(texts.iter().map(|text| text.parse().unwrap()))
    }

    fn guard(allow: &[&str], deny: &[&str]) -> Guard {
        let rules = Rules {
            allow: prefixes(allow),
            deny: prefixes(deny),
            deny_ports: vec![53],
            loop_guard: false,
        };
        Guard::new(&rules, [9007])
    }

    fn arrival(peer: &str) -> Arrival {
        let mut arrival = Arrival::EMPTY;
        arrival.flow.peer = PeerAddr::new(peer.parse().unwrap());
        arrival
    }

    fn admit(guard: &Guard, peer: &str) -> Result<(), DropReason> {
        guard.admit(&arrival(peer))
    }

    #[test]
    fn the_default_answers_what_is_not_routed_on_the_internet() {
        let guard = guard(DEFAULT_ALLOW, &[]);
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
    fn a_guarded_reply_has_one_hop_less_and_the_responder_may_ask_for_fewer() {
        let mut guard = guard(&["10.0.0.0/8"], &[]);
        guard.has_loop_guard = true;
        let mut arrival = arrival("10.0.0.1:4000");
        for (hops, asked, left) in [
            (Some(64), None, Some(63)),
            (Some(64), Some(255), Some(63)),
            (Some(64), Some(5), Some(5)),
            (None, None, None),
        ] {
            let with = |hops: Option<u8>| {
                hops.map_or(Attributes::NONE, |it| Attributes::NONE.with_hop_limit(it))
            };
            arrival.attributes = with(hops);
            assert_eq!(guard.admit(&arrival), Ok(()));
            assert_eq!(guard.limit(&arrival, with(asked)), with(left));
        }
        for hops in [0, 1] {
            arrival.attributes = Attributes::NONE.with_hop_limit(hops);
            assert_eq!(guard.admit(&arrival), Err(DropReason::HopLimit));
        }
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
