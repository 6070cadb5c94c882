//! What decides the reply to a datagram.

pub mod echo;
pub mod echo_info;

use std::net::SocketAddr;

use crate::datagram::{Attributes, Verdict};

/// What a responder is told about a datagram, besides its bytes.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub struct Request {
    /// Who sent it.
    pub peer: SocketAddr,
    /// Address and port it was sent to, which the reply leaves from. Only a link-local address has
    /// a scope, the interface it came by.
    pub local: SocketAddr,
    /// When the kernel received it, nanoseconds of `CLOCK_REALTIME`; for a train, its first
    /// datagram. There only if [needed](Needs::receive_stamps), or by chance.
    pub received_ns: Option<u64>,
    /// Hops that it had left. There only if [needed](Needs::hop_limit), or by chance.
    pub hop_limit: Option<u8>,
    /// The type of service of its IP header, DSCP and ECN. There only if [needed](Needs::tos), or
    /// by chance.
    pub tos: Option<u8>,
    /// Its place in the train that it came in, from 0.
    pub index: u32,
    /// Datagrams in that train; 1 for a datagram that came alone.
    pub count: u32,
}

impl Request {
    /// A datagram of `peer` to `local` that came alone and of which the kernel told nothing else.
    pub fn new(peer: SocketAddr, local: SocketAddr) -> Self {
        Self {
            peer,
            local,
            received_ns: None,
            hop_limit: None,
            tos: None,
            index: 0,
            count: 1,
        }
    }
}

/// What a responder needs of the kernel besides addresses: each costs a control message for every
/// buffer received, so nothing is asked for that nobody reads.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Needs {
    /// [`Request::received_ns`] (SO_TIMESTAMPNS, socket(7)).
    pub receive_stamps: bool,
    /// [`Request::hop_limit`] (IP_RECVTTL, ip(7); IPV6_RECVHOPLIMIT, ipv6(7)).
    pub hop_limit: bool,
    /// [`Request::tos`] (IP_RECVTOS, ip(7); IPV6_RECVTCLASS, RFC 3542).
    pub tos: bool,
}

impl Needs {
    /// Nothing but addresses.
    pub const NONE: Self = Self {
        receive_stamps: false,
        hop_limit: false,
        tos: false,
    };

    /// The same, and receive stamps.
    #[must_use]
    pub fn with_receive_stamps(self) -> Self {
        Self {
            receive_stamps: true,
            ..self
        }
    }

    /// The same, and hop limits.
    #[must_use]
    pub fn with_hop_limit(self) -> Self {
        Self {
            hop_limit: true,
            ..self
        }
    }

    /// The same, and types of service.
    #[must_use]
    pub fn with_tos(self) -> Self {
        Self { tos: true, ..self }
    }
}

/// Decides the reply to each datagram, in place.
///
/// A responder is pure: it sees bytes and facts and returns a verdict. It cannot tell which engine
/// runs it. Each socket of each worker has its own, so it needs no lock; it must not block or
/// allocate, since it runs on the datagram path.
pub trait Responder {
    /// Its name in reports.
    fn name(&self) -> &'static str {
        "custom"
    }

    /// What it needs of the kernel. Asked before the sockets are opened.
    fn needs(&self) -> Needs {
        Needs::NONE
    }

    /// Whether every datagram goes back as it came. A train is then answered whole, and neither
    /// [`attributes`](Self::attributes) nor [`respond`](Self::respond) is ever called.
    fn is_echo(&self) -> bool {
        false
    }

    /// How the replies to a datagram, or to all of a train, leave. `request` is the first of the
    /// train.
    fn attributes(&mut self, request: &Request) -> Attributes {
        let _ = request;
        Attributes::NONE
    }

    /// Turns the request in `payload` into its reply, or says why there is none.
    ///
    /// A reply is as long as the request or shorter; one that claims to be longer is dropped as
    /// [`ReplyTooLong`](crate::datagram::DropReason::ReplyTooLong).
    fn respond(&mut self, request: &Request, payload: &mut [u8]) -> Verdict;
}
