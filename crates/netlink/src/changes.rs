//! What changes in the routing tables, as the kernel tells whoever subscribes.

use std::io;

use ipnet::Ipv4Net;
use netlink_packet_core::{NetlinkMessage, NetlinkPayload};
use netlink_packet_route::RouteNetlinkMessage;
use netlink_packet_route::link::{LinkAttribute, LinkMessage};
use netlink_sys::{Socket, SocketAddr, protocols::NETLINK_ROUTE};

use crate::route::{ipv4_destination, mtu};
use reflector_udp::addr::array;

/// Groups of linux/rtnetlink.h: RTMGRP_LINK and RTMGRP_IPV4_ROUTE.
const GROUPS: u32 = 0x1 | 0x40;

/// Something that has changed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    /// A link is there, for the first time or in another state.
    Link {
        /// Its name.
        name: String,
        /// Its number, which no other link has had.
        index: u32,
    },
    /// A link has gone, from the machine or to another namespace.
    LinkGone {
        /// The name it had.
        name: String,
        /// The number it had.
        index: u32,
    },
    /// An IPv4 route has come, gone or changed.
    Ipv4Route {
        /// Where it leads.
        net: Ipv4Net,
        /// The MTU that it has, or had, of its own.
        mtu: Option<u32>,
    },
    /// More has changed than the socket had room for: anything may have.
    Missed,
}

/// Changes of links and of IPv4 routes, from the subscription on.
#[derive(Debug)]
pub struct Changes(Socket);

impl Changes {
    /// Subscribes to the changes in the calling thread's network namespace.
    ///
    /// # Errors
    /// EPROTONOSUPPORT and the like in a sandbox without rtnetlink.
    pub fn subscribe() -> io::Result<Self> {
        let mut socket = Socket::new(NETLINK_ROUTE)?;
        socket.bind(&SocketAddr::new(0, GROUPS))?;
        Ok(Self(socket))
    }

    /// Waits for changes, and returns those that the kernel tells at once.
    ///
    /// # Errors
    /// What recvmsg(2) says of a socket that is of no use any more.
    pub fn wait(&mut self) -> io::Result<Vec<Change>> {
        loop {
            match self.0.recv_from_full() {
                Ok((bytes, _)) => return Ok(changes(&bytes)),
                Err(error) if error.raw_os_error() == Some(libc::ENOBUFS) => {
                    return Ok(vec![Change::Missed]);
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
    }
}

/// The changes that `bytes` tell of, one message behind the other.
fn changes(mut bytes: &[u8]) -> Vec<Change> {
    let mut changes = Vec::new();
    // The header of every message begins with its length.
    while let Some(len) = array(bytes, 0).map(u32::from_ne_bytes) {
        let message = NetlinkMessage::<RouteNetlinkMessage>::deserialize(bytes);
        // Messages start at multiples of four bytes (NLMSG_ALIGN in linux/netlink.h).
        let len = (len.max(4) as usize).next_multiple_of(4);
        bytes = bytes.get(len..).unwrap_or_default();
        // What a newer kernel says that the crate cannot read may be a change as well.
        changes.push(match message.map(|message| message.payload) {
            Ok(NetlinkPayload::InnerMessage(RouteNetlinkMessage::NewLink(link))) => Change::Link {
                name: name(&link),
                index: link.header.index,
            },
            Ok(NetlinkPayload::InnerMessage(RouteNetlinkMessage::DelLink(link))) => {
                Change::LinkGone {
                    name: name(&link),
                    index: link.header.index,
                }
            }
            Ok(NetlinkPayload::InnerMessage(
                RouteNetlinkMessage::NewRoute(route) | RouteNetlinkMessage::DelRoute(route),
            )) => match ipv4_destination(&route) {
                Some(net) => Change::Ipv4Route {
                    net,
                    mtu: mtu(&route),
                },
                None => Change::Missed,
            },
            Ok(_) => continue,
            Err(_) => Change::Missed,
        });
    }
    changes
}

fn name(link: &LinkMessage) -> String {
    let name = link
        .attributes
        .iter()
        .find_map(|attribute| match attribute {
            LinkAttribute::IfName(name) => Some(name.clone()),
            _ => None,
        });
    name.unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_that_are_no_message_are_a_change_and_no_panic() {
        assert_eq!(changes(&[]), []);
        assert_eq!(changes(&[16, 0, 0, 0, 1]), [Change::Missed]);
        assert_eq!(changes(&[0; 8]), [Change::Missed, Change::Missed]);
    }
}
