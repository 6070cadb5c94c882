//! Routes of this host with an MTU of their own.
//!
//! IPv4 replies leave with IP_PMTUDISC_OMIT, so that no forged ICMP shrinks them; with it the
//! kernel looks at the device's MTU and not at the route's (`ip_setup_cork`, net/ipv4/ip_output.c).
//! What such a route makes too long is sent in another way, which costs more and is needed nowhere
//! else.

use std::net::{IpAddr, Ipv4Addr};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;

use ipnet::Ipv4Net;

/// Routes with an MTU of their own, and how a worker sends what is too long for them.
#[derive(Clone, Debug, Default)]
pub struct Routes {
    /// Which routes.
    pub mtus: RouteMtus,
    /// By socket: the one that sends by the same port, in fragments of the route's MTU. Without
    /// one, what is too long is sent like everything else.
    pub fragmenters: Vec<Option<Arc<OwnedFd>>>,
}

impl Routes {
    /// Whether a datagram with `payload_len` bytes to `peer`, which would leave by the socket with
    /// the index `socket`, has to be sent by its fragmenter.
    pub fn is_too_long(&self, peer: IpAddr, payload_len: u32, socket: usize) -> bool {
        self.mtus.is_too_long(peer, payload_len) && self.fragmenter(socket).is_some()
    }

    /// The socket that sends in fragments what would leave by the one with the index `socket`.
    pub fn fragmenter(&self, socket: usize) -> Option<BorrowedFd<'_>> {
        self.fragmenters.get(socket)?.as_ref().map(|it| it.as_fd())
    }
}

/// Bytes of the headers of IPv4 and UDP.
const HEADERS_LEN: u32 = 20 + 8;

/// IPv4 routes that have an MTU of their own, the most specific first.
///
/// A peer whose route has none, although one that is less specific has, counts as one of the
/// latter: what is too long for its MTU is sent the other way, and then the kernel knows better.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RouteMtus(Vec<(Ipv4Net, u32)>);

impl RouteMtus {
    /// From destinations and MTUs in bytes, each as the kernel has them.
    pub fn new(routes: impl IntoIterator<Item = (Ipv4Net, u32)>) -> Self {
        let mut routes = Vec::from_iter(routes);
        // Of two tables that differ the smaller one counts.
        routes.sort_by_key(|&(net, mtu)| (u8::MAX - net.prefix_len(), mtu));
        Self(routes)
    }

    /// Whether no route has an MTU of its own.
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether a datagram with `payload_len` bytes is longer than the MTU of the route to `peer`.
    pub fn is_too_long(&self, peer: IpAddr, payload_len: u32) -> bool {
        let IpAddr::V4(peer) = peer else {
            return false; // IPv6 replies follow the path's MTU, a route's too.
        };
        self.mtu(peer)
            .is_some_and(|mtu| payload_len + HEADERS_LEN > mtu)
    }

    fn mtu(&self, peer: Ipv4Addr) -> Option<u32> {
        let found = self.0.iter().find(|(net, _)| net.contains(&peer));
        found.map(|&(_, mtu)| mtu)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_most_specific_route_counts_and_of_two_alike_the_smaller_mtu() {
        let route = |net: &str, mtu| (net.parse().unwrap(), mtu);
        let routes = RouteMtus::new([
            route("0.0.0.0/0", 9000),
            route("10.9.0.0/16", 1400),
            route("10.9.0.0/16", 1300),
            route("10.9.7.0/24", 8000),
        ]);
        for (peer, longest) in [("10.9.7.1", 7972), ("10.9.8.1", 1272), ("192.0.2.1", 8972)] {
            let peer = peer.parse().unwrap();
            assert!(!routes.is_too_long(peer, longest), "{peer}");
            assert!(routes.is_too_long(peer, longest + 1), "{peer}");
        }
        assert!(!routes.is_too_long("fd09::1".parse().unwrap(), 65_000));
        assert!(!RouteMtus::default().is_too_long("10.9.7.1".parse().unwrap(), 65_000));
    }
}
