//! The nouns of a datagram's way: where it arrived, and what becomes of it.

use std::fmt;
use std::hash::{Hash, Hasher};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use reflector_udp::addr::PeerAddr;

/// Segments that one train may have: `UDP_MAX_SEGMENTS` (linux/udp.h) since Linux 6.9.
pub const SEGMENTS_MAX: usize = 128;

/// The address that the peer sent to, which is the source of the reply.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LocalAddr {
    /// Never v4-mapped.
    pub addr: IpAddr,
    /// Interface that the reply must leave by, or 0 for the routing table's choice.
    pub interface: u32,
}

/// What the datagram path needs to know of a socket.
#[derive(Clone, Copy, Debug)]
pub struct Endpoint {
    /// The address it is bound to, with the port that the kernel chose if 0 was asked for.
    pub addr: SocketAddr,
    /// Whether the kernel tells which address was asked, and has to be told which to reply from.
    /// Not so on a socket that is bound to one address: there it cannot be another.
    pub has_pktinfo: bool,
    /// Whether a reply leaves by the interface that the request came in by, whatever the routing
    /// table says.
    pub same_interface: bool,
}

impl Endpoint {
    /// Whether it is bound to no particular address.
    pub fn is_wildcard(&self) -> bool {
        self.addr.ip().is_unspecified()
    }
}

/// Whose datagrams, sent where: one peer, one local address, one socket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Flow {
    /// Who sends, and gets the replies: the name that the kernel wrote, which it takes back.
    pub peer: PeerAddr,
    /// The address that is asked.
    pub local: LocalAddr,
    /// Index of the socket that they come by, and their replies leave by.
    pub socket: u32,
}

impl Hash for Flow {
    /// Of peer and address asked only: the socket seldom differs alone.
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.peer.hash(state);
        match self.local.addr {
            IpAddr::V4(addr) => state.write_u32(addr.to_bits()),
            IpAddr::V6(addr) => state.write_u128(addr.to_bits()),
        }
    }
}

/// What the kernel said about one received buffer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Arrival {
    /// From where, to where.
    pub flow: Flow,
    /// Bytes of each segment of a train (the last may be shorter); the payload's length for a
    /// single datagram.
    pub segment_len: u32,
    /// The kernel's receive stamp, nanoseconds of `CLOCK_REALTIME`.
    pub received_ns: Option<u64>,
    /// Hops that it had left and its type of service, where the socket asks for them.
    pub attributes: Attributes,
}

impl Arrival {
    /// Of nobody, to be filled in.
    pub const EMPTY: Self = Self {
        flow: Flow {
            peer: PeerAddr::EMPTY,
            local: LocalAddr {
                addr: IpAddr::V4(Ipv4Addr::UNSPECIFIED),
                interface: 0,
            },
            socket: 0,
        },
        segment_len: 0,
        received_ns: None,
        attributes: Attributes::NONE,
    };
}

/// What is told of the IP header of an arrival, or asked for of a reply's: hop limit and type of
/// service.
///
/// Replies that differ in it do not share a train, so it is compared for each of them: one number.
#[derive(Clone, Copy, Default, PartialEq, Eq)]
pub struct Attributes(u32);

impl Attributes {
    /// Nothing told: the way of the socket itself.
    pub const NONE: Self = Self(0);

    const HOP_LIMIT_SHIFT: u32 = 0;
    const TOS_SHIFT: u32 = 16;

    /// The same with `hop_limit` hops to go.
    #[must_use]
    #[inline]
    pub fn with_hop_limit(self, hop_limit: u8) -> Self {
        self.with(Self::HOP_LIMIT_SHIFT, hop_limit)
    }

    /// The same with this type of service, DSCP and ECN.
    #[must_use]
    #[inline]
    pub fn with_tos(self, tos: u8) -> Self {
        self.with(Self::TOS_SHIFT, tos)
    }

    /// Hops to go.
    #[inline]
    pub fn hop_limit(self) -> Option<u8> {
        self.get(Self::HOP_LIMIT_SHIFT)
    }

    /// The type of service, DSCP and ECN.
    #[inline]
    pub fn tos(self) -> Option<u8> {
        self.get(Self::TOS_SHIFT)
    }

    /// A value has nine bits: whether it is there, and what it is.
    #[inline]
    fn with(self, shift: u32, value: u8) -> Self {
        Self(self.0 & !(0x1ff << shift) | (0x100 | u32::from(value)) << shift)
    }

    #[inline]
    fn get(self, shift: u32) -> Option<u8> {
        let bits = self.0 >> shift;
        (bits & 0x100 != 0).then_some(bits as u8)
    }
}

impl fmt::Debug for Attributes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Attributes")
            .field("hop_limit", &self.hop_limit())
            .field("tos", &self.tos())
            .finish()
    }
}

/// Number of datagrams in `payload_len` bytes of segments of `segment_len`; an empty datagram is
/// one.
#[inline]
pub fn segment_count(payload_len: usize, segment_len: u32) -> u64 {
    if payload_len <= segment_len as usize {
        1
    } else {
        payload_len.div_ceil(segment_len as usize) as u64
    }
}

/// What becomes of one datagram.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Verdict {
    /// The first `len` bytes of the payload, as the responder left them, go back.
    Reply {
        /// Bytes, at most the request's.
        len: usize,
    },
    /// Silence, counted under a reason.
    Drop(DropReason),
}

/// Why a datagram gets no reply.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum DropReason {
    /// A wildcard socket was not told which address was asked, so any reply could be wrong.
    NoPktinfo,
    /// Payload or control messages were cut off.
    Truncated,
    /// Sent to a broadcast or multicast address, which every worker receives.
    NotUnicast,
    /// A source port that no client has: 0, one of ours, or one of `--deny-port`.
    SourcePort,
    /// A source address that no reply can reach or that would multiply it: unspecified,
    /// multicast, broadcast.
    SourceAddress,
    /// Denied, or not allowed, by the address lists.
    NotAllowed,
    /// Its hop limit is used up, so that the loop guard lets no reply out.
    HopLimit,
    /// Beyond what its source, or a network of it, may send (`--rate-limit`).
    RateLimited,
    /// The responder could not make sense of it.
    Malformed,
    /// Longer than the responder answers, or a train of more datagrams than any kernel makes.
    TooLong,
    /// The responder's reply was longer than the request.
    ReplyTooLong,
    /// The send buffer was full, and the peer, or the router to it, does not resolve (ARP, ND).
    Unresolved,
}

impl DropReason {
    /// Every reason, in the order they are reported.
    pub const ALL: &[Self] = &[
        Self::NoPktinfo,
        Self::Truncated,
        Self::NotUnicast,
        Self::SourcePort,
        Self::SourceAddress,
        Self::NotAllowed,
        Self::HopLimit,
        Self::RateLimited,
        Self::Malformed,
        Self::TooLong,
        Self::ReplyTooLong,
        Self::Unresolved,
    ];

    /// The name under which it is reported.
    pub fn name(self) -> &'static str {
        match self {
            Self::NoPktinfo => "no_pktinfo",
            Self::Truncated => "truncated",
            Self::NotUnicast => "not_unicast",
            Self::SourcePort => "source_port",
            Self::SourceAddress => "source_address",
            Self::NotAllowed => "not_allowed",
            Self::HopLimit => "hop_limit",
            Self::RateLimited => "rate_limited",
            Self::Malformed => "malformed",
            Self::TooLong => "too_long",
            Self::ReplyTooLong => "reply_too_long",
            Self::Unresolved => "unresolved",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_empty_datagram_is_one_datagram() {
        assert_eq!(segment_count(0, 0), 1);
    }

    #[test]
    fn a_train_counts_its_segments() {
        assert_eq!(segment_count(64, 64), 1);
        assert_eq!(segment_count(65, 64), 2);
        assert_eq!(segment_count(64 * 32, 64), 32);
    }

    #[test]
    fn attributes_are_told_apart_from_none_and_from_each_other() {
        let none = Attributes::NONE;
        assert_eq!((none.hop_limit(), none.tos()), (None, None));
        let both = none.with_hop_limit(0).with_tos(0xff);
        assert_eq!((both.hop_limit(), both.tos()), (Some(0), Some(0xff)));
        let again = both.with_hop_limit(64).with_tos(0);
        assert_eq!((again.hop_limit(), again.tos()), (Some(64), Some(0)));
        assert_ne!(none.with_hop_limit(0), none);
    }

    #[test]
    fn every_reason_has_its_place() {
        for (index, reason) in DropReason::ALL.iter().enumerate() {
            assert_eq!(*reason as usize, index);
        }
    }
}
