//! The way to a peer: which interface, which next hop, and whether that has answered.

use std::io;
use std::net::{IpAddr, SocketAddr};

use netlink_packet_route::link::{LinkFlags, LinkMessage};
use netlink_packet_route::neighbour::{
    NeighbourAddress, NeighbourAttribute, NeighbourMessage, NeighbourState,
};
use netlink_packet_route::route::{
    RouteAddress, RouteAttribute, RouteFlags, RouteMessage, RouteType, RouteVia,
};
use netlink_packet_route::{AddressFamily, RouteNetlinkMessage};

use crate::route::{Intent, Netlink};
use reflector_udp::path::{Neighbour, Path};

impl Netlink {
    /// The way to `peer`, by the interface with the index `through` if it is not 0.
    ///
    /// # Errors
    /// ENETUNREACH and the like where there is no way.
    pub fn path(&mut self, peer: SocketAddr, through: u32) -> io::Result<Path> {
        let scope = match peer {
            SocketAddr::V6(peer) => peer.scope_id(),
            SocketAddr::V4(_) => 0,
        };
        let through = if through == 0 { scope } else { through };
        let route = self.route_to(peer.ip(), None, through, RouteFlags::empty())?;
        let interface = (route.attributes.iter()).find_map(|attribute| match *attribute {
            RouteAttribute::Oif(interface) => Some(interface),
            _ => None,
        });
        let interface = interface.unwrap_or(through);
        let neighbour = if route.header.kind == RouteType::Local {
            Neighbour::Resolved
        } else {
            let hop = gateway(&route).unwrap_or(peer.ip());
            self.neighbour(hop, interface)?
        };
        Ok(Path {
            interface,
            neighbour,
        })
    }

    /// Whether a route leads to `peer` by the interface with the index `through`. Without one the
    /// kernel takes an IPv4 peer for a neighbour there, and looks for it on that link.
    ///
    /// # Errors
    /// EPERM and the like.
    pub fn has_route(&mut self, peer: SocketAddr, through: u32) -> io::Result<bool> {
        match self.route_to(peer.ip(), None, through, RouteFlags::FibMatch) {
            Ok(_) => Ok(true),
            Err(error)
                if matches!(
                    error.raw_os_error(),
                    Some(libc::ENETUNREACH | libc::EHOSTUNREACH)
                ) =>
            {
                Ok(false)
            }
            Err(error) => Err(error),
        }
    }

    /// The route to `ip`, from `source` if it is given, by the interface `through` if it is not 0.
    pub(crate) fn route_to(
        &mut self,
        ip: IpAddr,
        source: Option<IpAddr>,
        through: u32,
        flags: RouteFlags,
    ) -> io::Result<RouteMessage> {
        let mut message = RouteMessage::default();
        message.header.flags = flags;
        message.header.address_family = family(ip);
        message.header.destination_prefix_length = if ip.is_ipv4() { 32 } else { 128 };
        let destination = RouteAddress::from(ip);
        let mut attributes = vec![RouteAttribute::Destination(destination)];
        if let Some(source) = source {
            message.header.source_prefix_length = message.header.destination_prefix_length;
            attributes.push(RouteAttribute::Source(source.into()));
        }
        if through != 0 {
            attributes.push(RouteAttribute::Oif(through));
        }
        message.attributes = attributes;
        let answers = self.request(RouteNetlinkMessage::GetRoute(message), Intent::Change)?;
        let mut routes = answers.into_iter().filter_map(|answer| match answer {
            RouteNetlinkMessage::NewRoute(route) => Some(route),
            _ => None,
        });
        let no_route = || io::Error::from_raw_os_error(libc::ENETUNREACH);
        routes.next().ok_or_else(no_route)
    }

    fn neighbour(&mut self, ip: IpAddr, interface: u32) -> io::Result<Neighbour> {
        let mut message = NeighbourMessage::default();
        message.header.family = family(ip);
        message.header.ifindex = interface;
        let destination = match ip {
            IpAddr::V4(ip) => NeighbourAddress::Inet(ip),
            IpAddr::V6(ip) => NeighbourAddress::Inet6(ip),
        };
        message.attributes = vec![NeighbourAttribute::Destination(destination)];
        let asked = self.request(RouteNetlinkMessage::GetNeighbour(message), Intent::Change);
        let answers = match asked {
            // No entry. A device that does without has none.
            Err(error) if error.raw_os_error() == Some(libc::ENOENT) => {
                let has_neighbours = self.has_neighbours(interface)?;
                return Ok(if has_neighbours {
                    Neighbour::Unknown
                } else {
                    Neighbour::Resolved
                });
            }
            answers => answers?,
        };
        let state = answers.into_iter().find_map(|answer| match answer {
            RouteNetlinkMessage::NewNeighbour(neighbour) => Some(neighbour.header.state),
            _ => None,
        });
        Ok(match state {
            Some(NeighbourState::Incomplete | NeighbourState::Failed) => Neighbour::Unresolved,
            None | Some(NeighbourState::None) => Neighbour::Unknown,
            Some(_) => Neighbour::Resolved,
        })
    }

    /// Whether an interface asks for link-layer addresses at all.
    fn has_neighbours(&mut self, interface: u32) -> io::Result<bool> {
        let mut message = LinkMessage::default();
        message.header.index = interface;
        let answers = self.request(RouteNetlinkMessage::GetLink(message), Intent::Change)?;
        let flags = answers.into_iter().find_map(|answer| match answer {
            RouteNetlinkMessage::NewLink(link) => Some(link.header.flags),
            _ => None,
        });
        let without = LinkFlags::Noarp | LinkFlags::Pointopoint | LinkFlags::Loopback;
        Ok(!flags.is_some_and(|flags| flags.intersects(without)))
    }
}

fn family(ip: IpAddr) -> AddressFamily {
    match ip {
        IpAddr::V4(_) => AddressFamily::Inet,
        IpAddr::V6(_) => AddressFamily::Inet6,
    }
}

/// The router that a route leads to, if to one.
fn gateway(route: &RouteMessage) -> Option<IpAddr> {
    (route.attributes.iter()).find_map(|attribute| match *attribute {
        RouteAttribute::Gateway(RouteAddress::Inet(ip))
        | RouteAttribute::Via(RouteVia::Inet(ip)) => Some(ip.into()),
        RouteAttribute::Gateway(RouteAddress::Inet6(ip))
        | RouteAttribute::Via(RouteVia::Inet6(ip)) => Some(ip.into()),
        _ => None,
    })
}
