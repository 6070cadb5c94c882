//! The addresses and routes of the lab, as rtnetlink(7) wants them.

use std::net::IpAddr;

use ipnet::IpNet;
use netlink_packet_route::AddressFamily;
use netlink_packet_route::address::{
    AddressAttribute, AddressFlags, AddressHeaderFlags, AddressMessage,
};
use netlink_packet_route::route::{RouteAttribute, RouteHeader, RouteMessage, RouteMetric};
use netlink_packet_route::route::{RouteProtocol, RouteScope, RouteType};

use crate::topology::route::{Mtu, Route};

/// The address `address` with its prefix on the device with `index`.
///
/// IPv6 addresses skip duplicate address detection (IFA_F_NODAD): they are usable at once.
pub(super) fn address_message(index: u32, address: IpNet) -> AddressMessage {
    let mut message = AddressMessage::default();
    message.header.family = family(address.addr());
    message.header.prefix_len = address.prefix_len();
    message.header.index = index;
    message
        .attributes
        .push(AddressAttribute::Local(address.addr()));
    message
        .attributes
        .push(AddressAttribute::Address(address.addr()));
    match address {
        IpNet::V4(net) if net.prefix_len() < 31 => {
            message
                .attributes
                .push(AddressAttribute::Broadcast(net.broadcast()));
        }
        IpNet::V4(_) => {}
        IpNet::V6(_) => {
            message.header.flags = AddressHeaderFlags::Nodad;
            message
                .attributes
                .push(AddressAttribute::Flags(AddressFlags::Nodad));
        }
    }
    message
}

/// The same, with duplicate address detection.
pub(super) fn tentative_message(index: u32, address: IpNet) -> AddressMessage {
    let mut message = address_message(index, address);
    message.header.flags = AddressHeaderFlags::empty();
    let is_flags = |it: &AddressAttribute| matches!(it, AddressAttribute::Flags(_));
    message.attributes.retain(|it| !is_flags(it));
    message
}

/// `route` as the kernel wants it, through the device with `index` if one is named.
pub(super) fn route_message(route: &Route, index: Option<u32>) -> RouteMessage {
    let destination = route.destination.trunc();
    let mut message = RouteMessage::default();
    message.header.address_family = family(destination.addr());
    message.header.destination_prefix_length = destination.prefix_len();
    message.header.protocol = RouteProtocol::Static;
    // iproute2's choice: a local route reaches this host, one without gateway this link.
    (
        message.header.kind,
        message.header.scope,
        message.header.table,
    ) = if route.is_local {
        (RouteType::Local, RouteScope::Host, libc::RT_TABLE_LOCAL)
    } else if route.gateway.is_none() {
        (
            RouteType::Unicast,
            RouteScope::Link,
            RouteHeader::RT_TABLE_MAIN,
        )
    } else {
        (
            RouteType::Unicast,
            RouteScope::Universe,
            RouteHeader::RT_TABLE_MAIN,
        )
    };
    let attributes = &mut message.attributes;
    attributes.push(RouteAttribute::Destination(destination.addr().into()));
    attributes.extend(
        route
            .gateway
            .map(|gateway| RouteAttribute::Gateway(gateway.into())),
    );
    attributes.extend(index.map(RouteAttribute::Oif));
    if let Some((mtu, kind)) = route.mtu {
        let mut metrics = vec![RouteMetric::Mtu(mtu)];
        if kind == Mtu::Locked {
            /// RTAX_MTU of linux/rtnetlink.h; a lock has a bit for each metric.
            const RTAX_MTU: u32 = 2;
            metrics.push(RouteMetric::Lock(1 << RTAX_MTU));
        }
        attributes.push(RouteAttribute::Metrics(metrics));
    }
    message
}

fn family(ip: IpAddr) -> AddressFamily {
    match ip {
        IpAddr::V4(_) => AddressFamily::Inet,
        IpAddr::V6(_) => AddressFamily::Inet6,
    }
}
