//! The addresses of this host: what may be asked, and what may not ask.

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::IpNet;
use reflector_netlink::{Address, Link};

/// The addresses at which this host is reached by any of its devices, as long as nothing changes.
///
/// Not those that a route alone makes local (AnyIP, the rest of 127.0.0.0/8), nor those of a VRF,
/// which are local in that VRF only: who asks there is answered by the sockets.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LocalAddresses {
    /// Of IPv4.
    pub ipv4: BTreeSet<Ipv4Addr>,
    /// Of IPv6, but for link-local ones.
    pub ipv6: BTreeSet<Ipv6Addr>,
    /// Link-local ones of IPv6, each with the number of the device by which alone it is reached.
    pub link_local: BTreeSet<(u32, Ipv6Addr)>,
    /// By which a whole subnet is reached: no reply leaves from one, and none goes to one.
    pub broadcasts: BTreeSet<Ipv4Addr>,
}

impl LocalAddresses {
    /// Those of `addresses`, on devices of which `links` tells.
    pub fn of(links: &[Link], addresses: &[Address]) -> Self {
        let isolated: BTreeSet<u32> = links
            .iter()
            .filter(|it| is_isolated(it))
            .map(index)
            .collect();
        let mut local = Self::default();
        for address in addresses {
            if isolated.contains(&address.device) {
                continue;
            }
            local.broadcasts.extend(address.broadcast);
            if let IpNet::V4(net) = address.net
                && net.prefix_len() < 31
            {
                // Which the kernel treats so whatever is set (fib_add_ifaddr in
                // net/ipv4/fib_frontend.c).
                local.broadcasts.insert(net.broadcast());
            }
            if !address.is_usable {
                continue;
            }
            match address.net.addr() {
                IpAddr::V4(ip) => _ = local.ipv4.insert(ip),
                IpAddr::V6(ip) if ip.is_unicast_link_local() => {
                    local.link_local.insert((address.device, ip));
                }
                IpAddr::V6(ip) => _ = local.ipv6.insert(ip),
            }
        }
        // One of two subnets may call an address so that the other has as a host's.
        local.ipv4 = &local.ipv4 - &local.broadcasts;
        local
    }
}

/// Whether the addresses of a device are local in a VRF only.
pub(super) fn is_isolated(link: &Link) -> bool {
    [&link.kind, &link.port_kind]
        .into_iter()
        .any(|it| it.as_deref() == Some("vrf"))
}

fn index(link: &Link) -> u32 {
    link.index
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(device: u32, net: &str) -> Address {
        Address {
            device,
            net: net.parse().unwrap(),
            broadcast: None,
            is_usable: true,
        }
    }

    #[test]
    fn each_family_and_link_local_ones_by_device() {
        let addresses = [
            address(1, "127.0.0.1/8"),
            address(1, "::1/128"),
            address(2, "10.0.0.1/24"),
            address(2, "fe80::1/64"),
            address(3, "fe80::1/64"),
            address(3, "fd00::1/64"),
        ];
        let local = LocalAddresses::of(&[], &addresses);
        let ipv4 = [[10, 0, 0, 1], [127, 0, 0, 1]].map(Ipv4Addr::from);
        assert_eq!(local.ipv4, ipv4.into());
        let ipv6 = ["::1", "fd00::1"].map(|it| it.parse().unwrap());
        assert_eq!(local.ipv6, ipv6.into());
        let both = [2, 3].map(|device| (device, "fe80::1".parse().unwrap()));
        assert_eq!(local.link_local, both.into());
        let broadcasts = [[10, 0, 0, 255], [127, 255, 255, 255]].map(Ipv4Addr::from);
        assert_eq!(local.broadcasts, broadcasts.into());
    }

    #[test]
    fn what_is_a_broadcast_too_is_not_asked() {
        let odd = Address {
            broadcast: Some([10, 0, 0, 9].into()),
            ..address(2, "10.0.0.1/24")
        };
        let addresses = [odd, address(2, "10.0.0.9/32"), address(3, "10.0.0.8/31")];
        let local = LocalAddresses::of(&[], &addresses);
        let ipv4 = [[10, 0, 0, 1], [10, 0, 0, 8]].map(Ipv4Addr::from);
        assert_eq!(local.ipv4, ipv4.into());
        let broadcasts = [[10, 0, 0, 9], [10, 0, 0, 255]].map(Ipv4Addr::from);
        assert_eq!(local.broadcasts, broadcasts.into());
    }

    #[test]
    fn what_is_tried_or_of_a_vrf_is_not_asked() {
        let tried = Address {
            is_usable: false,
            ..address(2, "fd00::1/64")
        };
        let port = Link {
            index: 4,
            port_kind: Some("vrf".into()),
            ..Link::default()
        };
        let vrf = Link {
            index: 5,
            kind: Some("vrf".into()),
            ..Link::default()
        };
        let addresses = [tried, address(4, "10.4.0.1/24"), address(5, "10.5.0.1/24")];
        let local = LocalAddresses::of(&[port, vrf], &addresses);
        assert_eq!(local, LocalAddresses::default());
    }
}
