//! The routes by which this host sends, as the kernel describes them.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::IpNet;
use netlink_packet_route::route::{
    RouteAddress, RouteAttribute, RouteFlags, RouteMessage, RouteNextHopFlags, RouteType,
};
use netlink_packet_route::rule::{RuleAction, RuleAttribute, RuleMessage};
use netlink_packet_route::{AddressFamily, RouteNetlinkMessage};

use crate::route::{Intent, Netlink};

/// A family of addresses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Family {
    /// IPv4.
    Ipv4,
    /// IPv6.
    Ipv6,
}

impl From<Family> for AddressFamily {
    fn from(family: Family) -> Self {
        match family {
            Family::Ipv4 => Self::Inet,
            Family::Ipv6 => Self::Inet6,
        }
    }
}

/// A route of the main table or of the local one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Route {
    /// Where it leads.
    pub net: IpNet,
    /// Whether it is of the local table, which is asked before the main one. What has an answer
    /// there has no other even where the main table has a longer prefix; but IPv4 keeps both in
    /// one trie until there has been a rule (fib_unmerge, net/ipv4/fib_frontend.c), and takes the
    /// longer one.
    pub is_local: bool,
    /// The least of those of a table that lead to the same net is taken, and `None` before all: of
    /// one that holds for some packets only, those of one type of service or from one source.
    pub metric: Option<u32>,
    /// The numbers of the devices that packets leave by: LOOPBACK for what is this host itself.
    /// None where it says that nothing leads there, and where it holds for some packets only.
    pub devices: Vec<u32>,
}

/// LOOPBACK_IFINDEX of net/flow.h: `lo` of every namespace.
pub const LOOPBACK: u32 = 1;

impl Route {
    fn of(message: &RouteMessage) -> Option<Self> {
        let header = &message.header;
        let table = table(message);
        let is_local = table == u32::from(libc::RT_TABLE_LOCAL);
        let is_main = table == u32::from(libc::RT_TABLE_MAIN);
        if !(is_main || is_local) || header.flags.contains(RouteFlags::Cloned) {
            return None;
        }
        let mut ip = match header.address_family {
            AddressFamily::Inet => IpAddr::V4(Ipv4Addr::UNSPECIFIED),
            AddressFamily::Inet6 => IpAddr::V6(Ipv6Addr::UNSPECIFIED),
            _ => return None,
        };
        let is_dead = header.flags.contains(RouteFlags::Dead);
        // IPv4 has 0 where nothing is said.
        let (mut metric, mut devices) = (0, Vec::new());
        for attribute in &message.attributes {
            match attribute {
                RouteAttribute::Destination(RouteAddress::Inet(addr)) => ip = (*addr).into(),
                RouteAttribute::Destination(RouteAddress::Inet6(addr)) => ip = (*addr).into(),
                RouteAttribute::Priority(priority) => metric = *priority,
                RouteAttribute::Oif(index) if !is_dead => devices.push(*index),
                RouteAttribute::MultiPath(hops) => {
                    let alive = hops
                        .iter()
                        .filter(|it| !it.flags.contains(RouteNextHopFlags::Dead));
                    devices.extend(alive.map(|it| it.interface_index));
                }
                _ => {}
            }
        }
        let is_for_all = header.tos == 0 && header.source_prefix_length == 0;
        match header.kind {
            _ if !is_for_all => devices.clear(),
            RouteType::Unicast => {}
            // The device that it names is the one that has the address.
            RouteType::Local => devices = vec![LOOPBACK],
            _ => devices.clear(),
        }
        let net = IpNet::new(ip, header.destination_prefix_length).ok()?;
        Some(Self {
            net,
            is_local,
            metric: is_for_all.then_some(metric),
            devices,
        })
    }
}

fn table(message: &RouteMessage) -> u32 {
    let table = (message.attributes.iter()).find_map(|attribute| match *attribute {
        RouteAttribute::Table(table) => Some(table),
        _ => None,
    });
    table.unwrap_or(message.header.table.into())
}

/// Whether it is one of those that every host has: local, main and default for everybody.
fn is_usual(message: &RuleMessage) -> bool {
    let (mut priority, mut table) = (0, u32::from(message.header.table));
    let mut is_for_all = message.header.tos == 0;
    for attribute in &message.attributes {
        match attribute {
            RuleAttribute::Priority(it) => priority = *it,
            RuleAttribute::Table(it) => table = *it,
            // What all have: who made it, and that no prefix is left out.
            RuleAttribute::Protocol(_) | RuleAttribute::SuppressPrefixLen(u32::MAX) => {}
            _ => is_for_all = false,
        }
    }
    is_for_all
        && message.header.action == RuleAction::ToTable
        && matches!((priority, table), (0, 255) | (32_766, 254) | (32_767, 253))
}

impl Netlink {
    /// All routes of the main table and the local one to addresses of `family`.
    ///
    /// # Errors
    /// As [`request`](Self::request).
    pub fn routes(&mut self, family: Family) -> io::Result<Vec<Route>> {
        let mut message = RouteMessage::default();
        message.header.address_family = family.into();
        let mut routes = Vec::new();
        let request = RouteNetlinkMessage::GetRoute(message);
        self.request_each(request, Intent::Dump, |answer| {
            if let RouteNetlinkMessage::NewRoute(route) = answer {
                routes.extend(Route::of(&route));
            }
        })?;
        Ok(routes)
    }

    /// Whether there are rules besides those that every host has (ip-rule(8)), so that the tables
    /// local and main do not say alone where a packet goes.
    ///
    /// # Errors
    /// As [`request`](Self::request).
    pub fn has_rules(&mut self, family: Family) -> io::Result<bool> {
        let mut message = RuleMessage::default();
        message.header.family = family.into();
        let mut has_rules = false;
        let request = RouteNetlinkMessage::GetRule(message);
        let asked = self.request_each(request, Intent::Dump, |answer| {
            if let RouteNetlinkMessage::NewRule(rule) = answer {
                has_rules |= !is_usual(&rule);
            }
        });
        match asked {
            // A kernel without rules.
            Err(error) if error.raw_os_error() == Some(libc::EOPNOTSUPP) => Ok(false),
            Err(error) => Err(error),
            Ok(()) => Ok(has_rules),
        }
    }
}

#[cfg(test)]
mod tests {
    use netlink_packet_route::route::RouteNextHop;

    use super::*;

    fn message(kind: RouteType, attributes: Vec<RouteAttribute>) -> RouteMessage {
        let mut message = RouteMessage::default();
        message.header.address_family = AddressFamily::Inet;
        message.header.destination_prefix_length = 8;
        message.header.table = 254;
        message.header.kind = kind;
        let to = RouteAttribute::Destination(RouteAddress::Inet([10, 0, 0, 0].into()));
        message.attributes = [vec![to], attributes].concat();
        message
    }

    #[test]
    fn a_route_leads_by_all_devices_that_are_alive() {
        let hop = |interface_index, flags| {
            let mut hop = RouteNextHop::default();
            (hop.interface_index, hop.flags) = (interface_index, flags);
            hop
        };
        let hops = vec![
            hop(3, RouteNextHopFlags::empty()),
            hop(4, RouteNextHopFlags::Dead),
            hop(5, RouteNextHopFlags::Onlink),
        ];
        let several = message(RouteType::Unicast, vec![RouteAttribute::MultiPath(hops)]);
        assert_eq!(Route::of(&several).unwrap().devices, [3, 5]);
        let oif = || vec![RouteAttribute::Oif(7), RouteAttribute::Priority(100)];
        let read = Route::of(&message(RouteType::Unicast, oif())).unwrap();
        assert_eq!(read.net, "10.0.0.0/8".parse().unwrap());
        assert_eq!((read.metric, read.devices), (Some(100), vec![7]));
        let mut dead = message(RouteType::Unicast, oif());
        dead.header.flags = RouteFlags::Dead;
        assert!(Route::of(&dead).unwrap().devices.is_empty());
    }

    #[test]
    fn what_leads_nowhere_or_holds_for_some_names_no_device() {
        let oif = || vec![RouteAttribute::Oif(7), RouteAttribute::Priority(100)];
        let nowhere = Route::of(&message(RouteType::Unreachable, oif())).unwrap();
        assert!(nowhere.devices.is_empty());
        let mut some = message(RouteType::Unicast, oif());
        some.header.tos = 0x10;
        let some = Route::of(&some).unwrap();
        assert_eq!((some.metric, some.devices), (None, vec![]));
        let mut other = message(RouteType::Unicast, oif());
        other.header.table = 100;
        assert_eq!(Route::of(&other), None);
    }

    #[test]
    fn what_is_this_host_itself_is_reached_by_loopback() {
        let mut any = message(RouteType::Local, vec![RouteAttribute::Oif(7)]);
        any.header.table = 255;
        let any = Route::of(&any).unwrap();
        assert!(any.is_local);
        assert_eq!((any.metric, any.devices), (Some(0), vec![LOOPBACK]));
        let mut broadcast = message(RouteType::Broadcast, vec![RouteAttribute::Oif(7)]);
        broadcast.header.table = 255;
        assert!(Route::of(&broadcast).unwrap().devices.is_empty());
    }

    #[test]
    fn a_rule_that_not_every_host_has_is_told_from_those() {
        let rule = |priority, table, more: Vec<RuleAttribute>| {
            let mut message = RuleMessage::default();
            (message.header.table, message.header.action) = (table, RuleAction::ToTable);
            let priority = RuleAttribute::Priority(priority);
            message.attributes = [vec![priority], more].concat();
            message
        };
        assert!(is_usual(&rule(0, 255, vec![])));
        assert!(is_usual(&rule(32_766, 254, vec![])));
        assert!(is_usual(&rule(32_767, 253, vec![])));
        assert!(!is_usual(&rule(100, 254, vec![])));
        assert!(!is_usual(&rule(32_766, 100, vec![])));
        let of_some = vec![RuleAttribute::FwMark(1)];
        assert!(!is_usual(&rule(32_766, 254, of_some)));
    }
}
