//! What changes in the routing tables, as the kernel tells whoever subscribes.

use std::io;
use std::os::fd::{AsFd, BorrowedFd};

use ipnet::Ipv4Net;
use netlink_packet_core::{NetlinkMessage, NetlinkPayload};
use netlink_packet_route::{AddressFamily, RouteNetlinkMessage};
use netlink_sys::{Socket, SocketAddr, protocols::NETLINK_ROUTE};

use crate::link::Link;
use crate::route::{ipv4_destination, mtu};
use reflector_udp::addr::array;

/// What one may follow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Topic {
    /// Network devices.
    Links,
    /// Addresses of this host, of both families.
    Addresses,
    /// IPv4 routes.
    Ipv4Routes,
    /// Routes of both families, and the rules by which a table of them is chosen.
    Routes,
}

impl Topic {
    /// Groups of linux/rtnetlink.h, each a bit.
    fn groups(self) -> u32 {
        const LINK: u32 = 0x1;
        const IPV4_IFADDR: u32 = 0x10;
        const IPV4_ROUTE: u32 = 0x40;
        const IPV4_RULE: u32 = 0x80;
        const IPV6_IFADDR: u32 = 0x100;
        const IPV6_ROUTE: u32 = 0x400;
        const IPV6_RULE: u32 = 0x4_0000;
        match self {
            Self::Links => LINK,
            Self::Addresses => IPV4_IFADDR | IPV6_IFADDR,
            Self::Ipv4Routes => IPV4_ROUTE,
            Self::Routes => IPV4_ROUTE | IPV4_RULE | IPV6_ROUTE | IPV6_RULE,
        }
    }
}

/// Something that has changed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    /// A link is there, for the first time or in another state.
    Link(Link),
    /// A link has gone, from the machine or to another namespace, as it was.
    LinkGone(Link),
    /// An address has come, gone or changed. Which are there is asked of
    /// [`Netlink::addresses`](crate::Netlink::addresses).
    Address,
    /// An IPv4 route has come, gone or changed.
    Ipv4Route {
        /// Where it leads.
        net: Ipv4Net,
        /// The MTU that it has, or had, of its own.
        mtu: Option<u32>,
    },
    /// An IPv6 route has, or a rule of either family. Which there are is asked of
    /// [`Netlink::routes`](crate::Netlink::routes).
    Route,
    /// More has changed than the socket had room for: anything may have.
    Missed,
}

/// Changes of what has been subscribed to, from the subscription on.
#[derive(Debug)]
pub struct Changes(Socket);

impl Changes {
    /// Subscribes to the changes of `topics` in the calling thread's network namespace.
    ///
    /// # Errors
    /// EPROTONOSUPPORT and the like in a sandbox without rtnetlink.
    pub fn subscribe(topics: &[Topic]) -> io::Result<Self> {
        let mut socket = Socket::new(NETLINK_ROUTE)?;
        let groups = topics.iter().fold(0, |all, topic| all | topic.groups());
        socket.bind(&SocketAddr::new(0, groups))?;
        Ok(Self(socket))
    }

    /// Waits for changes, and returns those that the kernel tells at once. The descriptor is
    /// readable when there are any.
    ///
    /// # Errors
    /// What recvmsg(2) says of a socket that is of no use any more.
    pub fn wait(&mut self) -> io::Result<Vec<Change>> {
        loop {
            match self.0.recv_from_full() {
                Ok((bytes, _)) => return Ok(changes(&bytes)),
                Err(error) if error.raw_os_error() == Some(libc::ENOBUFS) => {
                    self.discard()?;
                    return Ok(vec![Change::Missed]);
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
    }

    /// What has been told already; nothing is waited for. It may be nothing.
    ///
    /// # Errors
    /// As [`wait`](Self::wait).
    pub fn told(&mut self) -> io::Result<Vec<Change>> {
        let mut byte = [0];
        let flags = libc::MSG_DONTWAIT | libc::MSG_PEEK;
        match self.0.recv(&mut &mut byte[..], flags) {
            Ok(_) => self.wait(),
            Err(error) => match error.raw_os_error() {
                Some(libc::EAGAIN | libc::EINTR) => Ok(Vec::new()),
                Some(libc::ENOBUFS) => {
                    self.discard()?;
                    Ok(vec![Change::Missed])
                }
                _ => Err(error),
            },
        }
    }

    /// Discards what has been told. Until the queue is empty once, the kernel goes on dropping what
    /// there would be room for again, and does not say so a second time (`netlink_overrun` and
    /// `netlink_rcv_wake` in net/netlink/af_netlink.c).
    fn discard(&self) -> io::Result<()> {
        loop {
            let mut byte = [0];
            match self.0.recv(&mut &mut byte[..], libc::MSG_DONTWAIT) {
                Ok(_) => {}
                Err(error) => match error.raw_os_error() {
                    Some(libc::EAGAIN) => return Ok(()),
                    Some(libc::ENOBUFS | libc::EINTR) => {}
                    _ => return Err(error),
                },
            }
        }
    }
}

impl AsFd for Changes {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
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
            Ok(NetlinkPayload::InnerMessage(RouteNetlinkMessage::NewLink(link))) => {
                match Link::of(&link) {
                    Some(link) => Change::Link(link),
                    None => continue,
                }
            }
            Ok(NetlinkPayload::InnerMessage(RouteNetlinkMessage::DelLink(link))) => {
                match Link::of(&link) {
                    Some(link) => Change::LinkGone(link),
                    None => continue,
                }
            }
            Ok(NetlinkPayload::InnerMessage(
                RouteNetlinkMessage::NewAddress(_) | RouteNetlinkMessage::DelAddress(_),
            )) => Change::Address,
            Ok(NetlinkPayload::InnerMessage(
                RouteNetlinkMessage::NewRule(_) | RouteNetlinkMessage::DelRule(_),
            )) => Change::Route,
            Ok(NetlinkPayload::InnerMessage(
                RouteNetlinkMessage::NewRoute(route) | RouteNetlinkMessage::DelRoute(route),
            )) if route.header.address_family == AddressFamily::Inet6 => Change::Route,
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
