//! What this host knows that explains an answer: its routes and addresses, its connection
//! tracking, what it counted as dropped.
//!
//! All of it is read as far as it can be; what cannot be read is left out, and an explanation the
//! less is given.

mod interface;

use std::fs;
use std::io;
use std::net::{IpAddr, SocketAddr};

use ipnet::IpNet;
use netlink_packet_route::address::{AddressAttribute, AddressMessage};
use netlink_packet_route::link::LinkMessage;
use netlink_packet_route::neighbour::{
    NeighbourAddress, NeighbourAttribute, NeighbourMessage, NeighbourState,
};
use netlink_packet_route::route::{RouteAddress, RouteAttribute, RouteMessage, RouteType};
use netlink_packet_route::{AddressFamily, RouteNetlinkMessage};

use reflector_measure::snmp;
use reflector_netlab::conntrack::{self, ConntrackEntry};
use reflector_netlink::{Intent, Netlink, Tbf};

use interface::interface;
pub(crate) use interface::{Interface, Xdp};

/// An address of this host.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Address {
    /// The address with its prefix.
    pub(crate) net: IpNet,
    /// The interface that has it.
    pub(crate) interface: String,
}

/// The way that datagrams to an address take.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Route {
    /// The interface that they leave by.
    pub(crate) interface: String,
    /// Index of the interface.
    pub(crate) interface_index: u32,
    /// The router they go through; none for a neighbour.
    pub(crate) gateway: Option<IpAddr>,
    /// Their source, where the socket chooses none.
    pub(crate) source: Option<IpAddr>,
    /// Whether the address is this host's own.
    pub(crate) is_local: bool,
}

/// Counters that tell where an answer went. Of the whole network namespace, never reset.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Counters {
    /// UDP datagrams that no socket wanted, of both families (`UdpNoPorts`).
    pub(crate) no_ports: u64,
    /// Packets dropped because the route to their source is another
    /// (`TcpExtIPReversePathFilter`).
    pub(crate) reverse_path_filter: u64,
    /// Packets that connection tracking dropped, for want of room most of all; 0 where that cannot
    /// be read.
    pub(crate) untrackable: u64,
}

impl Counters {
    /// As they are now.
    pub(crate) fn read() -> Self {
        let find = |file, group, name| {
            let text = snmp::read(file).ok()?;
            snmp::find(&text, group, name)
        };
        let v6 = snmp::read("snmp6").ok();
        let v6 = v6.and_then(|text| snmp::find6(&text, "Udp6NoPorts"));
        Self {
            no_ports: find("snmp", "Udp", "NoPorts").unwrap_or(0) + v6.unwrap_or(0),
            reverse_path_filter: find("netstat", "TcpExt", "IPReversePathFilter").unwrap_or(0),
            untrackable: conntrack::drops().unwrap_or(0),
        }
    }

    /// What was counted since `earlier`.
    pub(crate) fn since(self, earlier: Self) -> Self {
        Self {
            no_ports: self.no_ports.saturating_sub(earlier.no_ports),
            reverse_path_filter: self
                .reverse_path_filter
                .saturating_sub(earlier.reverse_path_filter),
            untrackable: self.untrackable.saturating_sub(earlier.untrackable),
        }
    }
}

/// How full the connection tracking table is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Occupancy {
    /// Entries of this network namespace.
    pub(crate) count: u64,
    /// Entries that any namespace may have.
    pub(crate) max: u64,
}

impl Occupancy {
    /// As it is now; `None` where nothing is tracked.
    pub(crate) fn read() -> Option<Self> {
        Some(Self {
            count: sysctl("netfilter/nf_conntrack_count")?,
            max: sysctl("netfilter/nf_conntrack_max")?,
        })
    }

    /// Whether more than `percent` of the room is taken. A maximum of 0 is none.
    pub(crate) fn is_above(self, percent: u64) -> bool {
        self.max > 0 && self.count.saturating_mul(100) >= self.max.saturating_mul(percent)
    }
}

/// The UDP entries of the connection tracking table; `None` where it cannot be read.
pub(crate) fn tracked_udp() -> Option<Vec<ConntrackEntry>> {
    let mut entries = conntrack::table().ok()?;
    entries.retain(|entry| entry.protocol == "udp");
    Some(entries)
}

/// The setting at `/proc/sys/net/{name}` as a number.
pub(crate) fn sysctl(name: &str) -> Option<u64> {
    let value = fs::read_to_string(format!("/proc/sys/net/{name}")).ok()?;
    value.trim().parse().ok()
}

/// The effective reverse path filter of `interface`: the larger of its own and `all`'s
/// (ip-sysctl.rst). 1 is strict, 2 loose. IPv4 only.
pub(crate) fn rp_filter(interface: &str) -> Option<u64> {
    let own = sysctl(&format!("ipv4/conf/{interface}/rp_filter"))?;
    Some(own.max(sysctl("ipv4/conf/all/rp_filter")?))
}

/// The routing tables of the calling thread's network namespace.
#[derive(Debug)]
pub(crate) struct Tables {
    netlink: Netlink,
    interfaces: Vec<Interface>,
}

impl Tables {
    /// Opens them and lists the interfaces.
    ///
    /// # Errors
    /// EPROTONOSUPPORT and the like in a sandbox without rtnetlink.
    pub(crate) fn open() -> io::Result<Self> {
        let mut netlink = Netlink::open()?;
        let links = netlink.request(
            RouteNetlinkMessage::GetLink(LinkMessage::default()),
            Intent::Dump,
        )?;
        let interfaces = links.into_iter().filter_map(|message| match message {
            RouteNetlinkMessage::NewLink(link) => interface(link),
            _ => None,
        });
        Ok(Self {
            interfaces: interfaces.collect(),
            netlink,
        })
    }

    /// The interfaces, in the order of their index.
    pub(crate) fn interfaces(&self) -> &[Interface] {
        &self.interfaces
    }

    fn name_of(&self, index: u32) -> String {
        let known = self.interfaces.iter().find(|it| it.index == index);
        known.map_or_else(|| format!("interface {index}"), |it| it.name.clone())
    }

    /// The token bucket filters of interfaces, each with the interface's name.
    pub(crate) fn tbfs(&mut self) -> io::Result<Vec<(String, Tbf)>> {
        let tbfs = self.netlink.tbfs()?;
        let named = tbfs.into_iter().map(|it| (self.name_of(it.device), it));
        Ok(named.collect())
    }

    /// The addresses of this host.
    pub(crate) fn addresses(&mut self) -> io::Result<Vec<Address>> {
        let answers = self.netlink.request(
            RouteNetlinkMessage::GetAddress(AddressMessage::default()),
            Intent::Dump,
        )?;
        let addresses = answers.into_iter().filter_map(|answer| {
            let RouteNetlinkMessage::NewAddress(message) = answer else {
                return None;
            };
            // On a point-to-point link the plain address is the peer's.
            let local = message.attributes.iter().find_map(|it| match it {
                AddressAttribute::Local(ip) => Some(*ip),
                _ => None,
            });
            let plain = message.attributes.iter().find_map(|it| match it {
                AddressAttribute::Address(ip) => Some(*ip),
                _ => None,
            });
            Some(Address {
                net: IpNet::new(local.or(plain)?, message.header.prefix_len).ok()?,
                interface: self.name_of(message.header.index),
            })
        });
        Ok(addresses.collect())
    }

    /// The route to `peer`, as `ip route get` finds it.
    ///
    /// # Errors
    /// ENETUNREACH and EHOSTUNREACH where there is none.
    pub(crate) fn route_to(&mut self, peer: SocketAddr) -> io::Result<Route> {
        let mut message = RouteMessage::default();
        (
            message.header.address_family,
            message.header.destination_prefix_length,
        ) = match peer {
            SocketAddr::V4(_) => (AddressFamily::Inet, 32),
            SocketAddr::V6(_) => (AddressFamily::Inet6, 128),
        };
        message
            .attributes
            .push(RouteAttribute::Destination(peer.ip().into()));
        if let SocketAddr::V6(v6) = peer
            && v6.scope_id() != 0
        {
            message.attributes.push(RouteAttribute::Oif(v6.scope_id()));
        }
        let answers = self
            .netlink
            .request(RouteNetlinkMessage::GetRoute(message), Intent::Change)?;
        answers
            .into_iter()
            .find_map(|answer| match answer {
                RouteNetlinkMessage::NewRoute(route) => Some(self.route(&route)),
                _ => None,
            })
            .ok_or_else(|| io::ErrorKind::NotFound.into())
    }

    fn route(&self, message: &RouteMessage) -> Route {
        let mut index = 0;
        let (mut gateway, mut source) = (None, None);
        for attribute in &message.attributes {
            match attribute {
                RouteAttribute::Oif(oif) => index = *oif,
                RouteAttribute::Gateway(address) => gateway = ip_of(address),
                RouteAttribute::PrefSource(address) => source = ip_of(address),
                _ => {}
            }
        }
        Route {
            interface: self.name_of(index),
            interface_index: index,
            gateway,
            source,
            is_local: message.header.kind == RouteType::Local,
        }
    }

    /// Whether the neighbour `ip` does not say its link-layer address (ARP, RFC 826; neighbour
    /// discovery, RFC 4861): nobody there has it.
    pub(crate) fn is_unresolved(&mut self, ip: IpAddr) -> io::Result<bool> {
        let answers = self.netlink.request(
            RouteNetlinkMessage::GetNeighbour(NeighbourMessage::default()),
            Intent::Dump,
        )?;
        Ok(answers.iter().any(|answer| {
            let RouteNetlinkMessage::NewNeighbour(message) = answer else {
                return false;
            };
            let is_it = message.attributes.iter().any(|it| match it {
                NeighbourAttribute::Destination(NeighbourAddress::Inet(v4)) => ip == *v4,
                NeighbourAttribute::Destination(NeighbourAddress::Inet6(v6)) => ip == *v6,
                _ => false,
            });
            let state = message.header.state;
            is_it && matches!(state, NeighbourState::Incomplete | NeighbourState::Failed)
        }))
    }
}

fn ip_of(address: &RouteAddress) -> Option<IpAddr> {
    match address {
        RouteAddress::Inet(ip) => Some((*ip).into()),
        RouteAddress::Inet6(ip) => Some((*ip).into()),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use reflector_netlab::topology::{DockerHost, in_namespaces};

    #[test]
    fn a_container_knows_its_gateway_and_its_veth() {
        let name = "host::tests::a_container_knows_its_gateway_and_its_veth";
        in_namespaces(name, || {
            let picture = DockerHost::new().unwrap();
            picture.container.run(|| {
                let mut tables = Tables::open().unwrap();
                for (asked, gateway, own) in [
                    (
                        IpAddr::from(DockerHost::HOST),
                        IpAddr::from(DockerHost::DOCKER0),
                        IpAddr::from(DockerHost::CONTAINER),
                    ),
                    (
                        DockerHost::HOST_V6.into(),
                        DockerHost::DOCKER0_V6.into(),
                        DockerHost::CONTAINER_V6.into(),
                    ),
                ] {
                    let route = tables.route_to(SocketAddr::new(asked, 9)).unwrap();
                    assert_eq!(route.interface, "eth0");
                    assert_eq!(route.gateway, Some(gateway));
                    assert_eq!(route.source, Some(own));
                    assert!(!route.is_local);
                    let neighbour = tables.route_to(SocketAddr::new(gateway, 9)).unwrap();
                    assert_eq!(neighbour.gateway, None);
                    assert!(tables.route_to(SocketAddr::new(own, 9)).unwrap().is_local);
                    let addresses = tables.addresses().unwrap();
                    let has = |it: &Address| it.net.addr() == own && it.interface == "eth0";
                    assert!(addresses.iter().any(has), "{addresses:?}");
                }
                let eth0 = tables.interfaces().iter().find(|it| it.name == "eth0");
                assert_eq!(eth0.unwrap().kind, "veth");
                assert!(
                    tables
                        .interfaces()
                        .iter()
                        .any(|it| it.is_loopback && it.is_up)
                );
            });
            picture.host.run(|| {
                let tables = Tables::open().unwrap();
                let docker0 = tables.interfaces().iter().find(|it| it.name == "docker0");
                assert_eq!(docker0.unwrap().kind, "bridge");
            });
        });
    }

    #[test]
    fn counters_only_grow() {
        let earlier = Counters {
            no_ports: 2,
            reverse_path_filter: 1,
            untrackable: 4,
        };
        let now = Counters {
            no_ports: 5,
            reverse_path_filter: 1,
            untrackable: 4,
        };
        assert_eq!(
            now.since(earlier),
            Counters {
                no_ports: 3,
                reverse_path_filter: 0,
                untrackable: 0,
            }
        );
    }
}
