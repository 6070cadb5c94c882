//! Requests to the kernel's routing tables, each waited for.

use std::io;
use std::net::Ipv4Addr;

use ipnet::Ipv4Net;
use netlink_packet_core::{
    NLM_F_ACK, NLM_F_CREATE, NLM_F_DUMP, NLM_F_EXCL, NLM_F_REQUEST, NetlinkHeader, NetlinkMessage,
    NetlinkPayload,
};
use netlink_packet_route::link::{LinkAttribute, LinkMessage};
use netlink_packet_route::route::{RouteAddress, RouteAttribute, RouteMessage, RouteMetric};
use netlink_packet_route::{AddressFamily, RouteNetlinkMessage};
use netlink_sys::{Socket, SocketAddr, protocols::NETLINK_ROUTE};

use reflector_udp::addr::array;

/// What a request is meant to do.
#[derive(Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Intent {
    /// Change or read one object.
    Change,
    /// Make an object: one that is there is an error.
    Create,
    /// Read all objects of a kind.
    Dump,
}

/// A routing socket, in the namespace of the thread that opened it for good.
#[derive(Debug)]
pub struct Netlink {
    socket: Socket,
    sequence_number: u32,
}

impl Netlink {
    /// Opens a socket in the calling thread's network namespace.
    ///
    /// # Errors
    /// EPROTONOSUPPORT and the like in a sandbox without rtnetlink.
    pub fn open() -> io::Result<Netlink> {
        let mut socket = Socket::new(NETLINK_ROUTE)?;
        socket.bind_auto()?;
        socket.connect(&SocketAddr::new(0, 0))?;
        Ok(Netlink {
            socket,
            sequence_number: 0,
        })
    }

    /// Makes one request and waits for the acknowledgement; returns what the kernel answered
    /// besides.
    ///
    /// # Errors
    /// The errno that the kernel gave, without context: EPERM, EEXIST, ENODEV and so on.
    pub fn request(
        &mut self,
        message: RouteNetlinkMessage,
        intent: Intent,
    ) -> io::Result<Vec<RouteNetlinkMessage>> {
        let mut answers = Vec::new();
        self.request_each(message, intent, |answer| answers.push(answer))?;
        Ok(answers)
    }

    /// The same, with each answer handed to `take`: a table may be long.
    pub(crate) fn request_each(
        &mut self,
        message: RouteNetlinkMessage,
        intent: Intent,
        take: impl FnMut(RouteNetlinkMessage),
    ) -> io::Result<()> {
        self.sequence_number = self.sequence_number.wrapping_add(1);
        let mut header = NetlinkHeader::default();
        header.sequence_number = self.sequence_number;
        header.flags = NLM_F_REQUEST
            | NLM_F_ACK
            | match intent {
                Intent::Change => 0,
                Intent::Create => NLM_F_CREATE | NLM_F_EXCL,
                Intent::Dump => NLM_F_DUMP,
            };
        let mut request = NetlinkMessage::new(header, NetlinkPayload::from(message));
        request.finalize();
        let mut bytes = vec![0; request.buffer_len()];
        request.serialize(&mut bytes);
        self.socket.send(&bytes, 0)?;
        self.receive(intent, take)
    }

    /// Takes answers up to the acknowledgement of the request sent last, or to the end of the dump.
    fn receive(&self, intent: Intent, mut take: impl FnMut(RouteNetlinkMessage)) -> io::Result<()> {
        loop {
            let (bytes, _) = self.socket.recv_from_full()?;
            let mut rest = &bytes[..];
            // The header of every message begins with its length.
            while let Some(len) = array(rest, 0).map(u32::from_ne_bytes) {
                let message = NetlinkMessage::<RouteNetlinkMessage>::deserialize(rest);
                // Messages start at multiples of four bytes (NLMSG_ALIGN in linux/netlink.h).
                rest = rest
                    .get((len.max(4) as usize).next_multiple_of(4)..)
                    .unwrap_or_default();
                let message = match message {
                    Ok(message) => message,
                    // An object of a newer kernel that the crate cannot read hides no others.
                    Err(_) if intent == Intent::Dump => continue,
                    Err(error) => return Err(io::Error::new(io::ErrorKind::InvalidData, error)),
                };
                if message.header.sequence_number != self.sequence_number {
                    continue;
                }
                match message.payload {
                    NetlinkPayload::Done(_) => return Ok(()),
                    NetlinkPayload::Error(error) if error.code.is_none() => return Ok(()),
                    NetlinkPayload::Error(error) => return Err(error.to_io()),
                    NetlinkPayload::InnerMessage(answer) => take(answer),
                    _ => {}
                }
            }
        }
    }

    /// The device named `name`, as the kernel describes it.
    ///
    /// # Errors
    /// ENODEV when there is none.
    pub fn link(&mut self, name: &str) -> io::Result<LinkMessage> {
        let mut message = LinkMessage::default();
        message
            .attributes
            .push(LinkAttribute::IfName(name.to_owned()));
        let answers = self.request(RouteNetlinkMessage::GetLink(message), Intent::Change)?;
        answers
            .into_iter()
            .find_map(|answer| match answer {
                RouteNetlinkMessage::NewLink(link) => Some(link),
                _ => None,
            })
            .ok_or_else(|| io::Error::from_raw_os_error(libc::ENODEV))
    }

    /// The IPv4 routes of all tables that have an MTU of their own (`mtu`, ip-route(8)), with it.
    ///
    /// # Errors
    /// As [`request`](Self::request).
    pub fn ipv4_route_mtus(&mut self) -> io::Result<Vec<(Ipv4Net, u32)>> {
        let mut message = RouteMessage::default();
        message.header.address_family = AddressFamily::Inet;
        let mut found = Vec::new();
        self.request_each(
            RouteNetlinkMessage::GetRoute(message),
            Intent::Dump,
            |answer| {
                if let RouteNetlinkMessage::NewRoute(route) = answer
                    && let (Some(net), Some(mtu)) = (ipv4_destination(&route), mtu(&route))
                {
                    found.push((net, mtu));
                }
            },
        )?;
        Ok(found)
    }
}

/// The MTU that a route has of its own.
pub(crate) fn mtu(route: &RouteMessage) -> Option<u32> {
    let mut metrics = route
        .attributes
        .iter()
        .filter_map(|attribute| match attribute {
            RouteAttribute::Metrics(metrics) => Some(metrics),
            _ => None,
        });
    metrics.next()?.iter().find_map(|metric| match *metric {
        RouteMetric::Mtu(mtu) => Some(mtu),
        _ => None,
    })
}

/// Where an IPv4 route leads.
pub(crate) fn ipv4_destination(route: &RouteMessage) -> Option<Ipv4Net> {
    let destination = route
        .attributes
        .iter()
        .find_map(|attribute| match attribute {
            RouteAttribute::Destination(RouteAddress::Inet(addr)) => Some(*addr),
            _ => None,
        });
    let prefix_len = route.header.destination_prefix_length;
    // A default route names no destination.
    Ipv4Net::new(destination.unwrap_or(Ipv4Addr::UNSPECIFIED), prefix_len).ok()
}
