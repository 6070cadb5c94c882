//! Addresses of this host, as the kernel describes them.

use std::io;
use std::net::{IpAddr, Ipv4Addr};

use ipnet::IpNet;
use netlink_packet_route::RouteNetlinkMessage;
use netlink_packet_route::address::{AddressAttribute, AddressFlags, AddressMessage};

use crate::route::{Intent, Netlink};

/// An address of this host.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Address {
    /// The number of the device that it belongs to.
    pub device: u32,
    /// The address, with the length of its prefix.
    pub net: IpNet,
    /// The address by which all of its subnet are reached, where one is set.
    pub broadcast: Option<Ipv4Addr>,
    /// Whether it may be used: not while the kernel finds out if somebody else has it, and not if
    /// somebody has (IPv6, RFC 4862).
    pub is_usable: bool,
}

impl Address {
    fn of(message: &AddressMessage) -> Option<Self> {
        let header = &message.header;
        let mut address = None;
        let mut local = None;
        let mut broadcast = None;
        // The first eight of them are in the header as well.
        let mut flags = AddressFlags::from_bits_retain(header.flags.bits().into());
        for attribute in &message.attributes {
            match attribute {
                AddressAttribute::Address(ip) => address = Some(*ip),
                AddressAttribute::Local(ip) => local = Some(*ip),
                AddressAttribute::Broadcast(ip) => broadcast = Some(*ip),
                AddressAttribute::Flags(all) => flags |= *all,
                _ => {}
            }
        }
        // On a point-to-point link IFA_ADDRESS is the other end; IPv6 has no IFA_LOCAL without one.
        let ip: IpAddr = local.or(address)?;
        let is_tried =
            flags.contains(AddressFlags::Tentative) && !flags.contains(AddressFlags::Optimistic);
        Some(Self {
            device: header.index,
            net: IpNet::new(ip, header.prefix_len).ok()?,
            broadcast,
            is_usable: !is_tried && !flags.contains(AddressFlags::Dadfailed),
        })
    }
}

impl Netlink {
    /// All addresses of the namespace, of both families.
    ///
    /// # Errors
    /// As [`request`](Self::request).
    pub fn addresses(&mut self) -> io::Result<Vec<Address>> {
        let request = RouteNetlinkMessage::GetAddress(AddressMessage::default());
        let mut addresses = Vec::new();
        self.request_each(request, Intent::Dump, |answer| {
            if let RouteNetlinkMessage::NewAddress(message) = answer {
                addresses.extend(Address::of(&message));
            }
        })?;
        Ok(addresses)
    }
}

#[cfg(test)]
mod tests {
    use netlink_packet_route::address::AddressHeaderFlags;

    use super::*;

    fn message(flags: AddressFlags, attributes: Vec<AddressAttribute>) -> AddressMessage {
        let mut message = AddressMessage::default();
        message.header.index = 7;
        message.header.prefix_len = 24;
        message.header.flags = AddressHeaderFlags::from_bits_retain(flags.bits() as u8);
        message.attributes = attributes;
        message
    }

    #[test]
    fn the_other_end_of_a_link_is_no_address_of_this_host() {
        let ours = AddressAttribute::Local([10, 0, 0, 1].into());
        let theirs = AddressAttribute::Address([10, 0, 0, 2].into());
        let read = Address::of(&message(AddressFlags::Permanent, vec![theirs, ours])).unwrap();
        assert_eq!(read.net, "10.0.0.1/24".parse().unwrap());
        assert_eq!(
            (read.device, read.broadcast, read.is_usable),
            (7, None, true)
        );
    }

    #[test]
    fn an_address_that_is_tried_or_taken_is_not_usable() {
        let is_usable = |flags| {
            let ip = AddressAttribute::Address("fd00::1".parse().unwrap());
            Address::of(&message(flags, vec![ip])).unwrap().is_usable
        };
        assert!(is_usable(AddressFlags::empty()));
        assert!(is_usable(AddressFlags::Deprecated));
        assert!(!is_usable(AddressFlags::Tentative));
        assert!(is_usable(
            AddressFlags::Tentative | AddressFlags::Optimistic
        ));
        assert!(!is_usable(AddressFlags::Dadfailed));
        assert_eq!(Address::of(&message(AddressFlags::empty(), vec![])), None);
    }
}
