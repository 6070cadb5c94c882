//! Which datagrams may be answered at all.
//!
//! The order is fixed, since drop reasons depend on it: source port, source address class, deny
//! list, allow list, hop limit. (Truncation, missing pktinfo and destinations that are not unicast
//! are found before, by [`crate::ingress`].) Deny always wins.

mod admitted;
pub mod limiter;
mod ranges;
mod sets;

use std::net::IpAddr;

use crate::datagram::{Arrival, Attributes, DropReason};
pub use admitted::Admitted;
pub use limiter::Limit;
pub use sets::{Ports, Prefixes};

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

impl Rules {
    /// What a server that listens on `own_ports` admits by these rules.
    pub fn admitted(&self, own_ports: impl IntoIterator<Item = u16>) -> Admitted {
        Guard::new(self, own_ports).admitted()
    }
}

/// The rules, made ready for the datagram path.
#[derive(Clone, Debug)]
pub struct Guard {
    ports: Ports,
    deny: Prefixes,
    allow: Prefixes,
    has_index: bool,
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
            has_index: rules.deny.has_index() || rules.allow.has_index(),
            has_loop_guard: rules.loop_guard,
        }
    }

    /// The same, written out.
    pub fn admitted(&self) -> Admitted {
        Admitted::new(&self.allow, &self.deny, &self.ports, self.has_loop_guard)
    }

    /// Whether `addr`, which is not v4-mapped, is refused whatever is allowed.
    pub fn is_denied(&self, addr: IpAddr) -> bool {
        self.deny.contains_by_index(addr)
    }

    /// Whether what arrived may be answered.
    ///
    /// # Errors
    /// The first of `SourcePort`, `SourceAddress`, `NotAllowed`, `HopLimit` that applies.
    pub fn admit(&self, arrival: &Arrival) -> Result<(), DropReason> {
        if self.has_index {
            return self.admit_by_index(arrival);
        }
        self.judge(arrival, Prefixes::contains_canonical)
    }

    /// The same with long lists; apart, so that short ones pay nothing for it.
    #[inline(never)]
    fn admit_by_index(&self, arrival: &Arrival) -> Result<(), DropReason> {
        self.judge(arrival, Prefixes::contains_by_index)
    }

    #[inline(always)]
    fn judge(
        &self,
        arrival: &Arrival,
        contains: impl Fn(&Prefixes, IpAddr) -> bool,
    ) -> Result<(), DropReason> {
        let peer = &arrival.flow.peer;
        if self.ports.contains(peer.port()) {
            return Err(DropReason::SourcePort);
        }
        let ip = peer.ip();
        if !is_answerable(ip) {
            return Err(DropReason::SourceAddress);
        }
        if contains(&self.deny, ip) || !contains(&self.allow, ip) {
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

/// Whether a host can have this address, as Linux sees it: not unspecified, multicast or broadcast.
/// The rest of 0.0.0.0/8 and 240.0.0.0/4, reserved once (RFC 1122, RFC 1112), is unicast there
/// (`ipv4_is_zeronet`, `ipv4_is_lbcast` of include/linux/in.h), and overlays make use of it.
fn is_answerable(addr: IpAddr) -> bool {
    match addr {
        // What nearly every peer is, in one comparison.
        IpAddr::V4(addr) => {
            (1..=223).contains(&addr.octets()[0])
                || !(addr.is_unspecified() || addr.is_multicast() || addr.is_broadcast())
        }
        IpAddr::V6(addr) => !addr.is_unspecified() && !addr.is_multicast(),
    }
}

#[cfg(test)]
mod tests {
    use std::net::SocketAddr;

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
    fn what_was_reserved_once_is_answered_where_the_lists_allow_it() {
        for peer in ["0.1.2.3:9", "240.7.0.9:9", "255.255.255.254:9"] {
            assert_eq!(admit(&guard(&["0.0.0.0/0"], &[]), peer), Ok(()), "{peer}");
            let by_default = admit(&guard(DEFAULT_ALLOW, &[]), peer);
            assert_eq!(by_default, Err(DropReason::NotAllowed), "{peer}");
        }
    }

    #[test]
    fn a_mapped_prefix_means_its_ipv4_peers() {
        for (prefix, peer) in [
            ("::ffff:10.9.0.2/128", "10.9.0.2:4000"),
            ("::ffff:a09:0/112", "10.9.255.2:4000"),
            ("::ffff:0:0/96", "10.9.0.2:4000"),
        ] {
            assert_eq!(admit(&guard(&[prefix], &[]), peer), Ok(()), "{prefix}");
            let denied = guard(&["0.0.0.0/0"], &[prefix]);
            assert_eq!(
                admit(&denied, peer),
                Err(DropReason::NotAllowed),
                "{prefix}"
            );
            assert!(denied.is_denied(peer.parse::<SocketAddr>().unwrap().ip()));
        }
        let one = guard(&["::ffff:10.9.0.2/128"], &[]);
        assert_eq!(admit(&one, "10.9.0.3:4000"), Err(DropReason::NotAllowed));
    }

    #[test]
    fn a_prefix_of_all_of_ipv6_means_no_ipv4_peer() {
        let denied = guard(&["0.0.0.0/0", "::/0"], &["::/0"]);
        assert_eq!(admit(&denied, "10.9.0.2:4000"), Ok(()));
        assert_eq!(
            admit(&denied, "[fd09::2]:4000"),
            Err(DropReason::NotAllowed)
        );
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
            "0.0.0.0:9",
            "224.0.0.1:9",
            "239.255.255.255:9",
            "255.255.255.255:9",
            "[::]:9",
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
}
