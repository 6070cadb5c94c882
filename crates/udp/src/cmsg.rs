//! Control messages: what the kernel tells about a received datagram, and what it is told about a
//! sent one (cmsg(3), ip(7), ipv6(7), udp(7)).
//!
//! Both directions work on bytes. Reading moves a bounded cursor and looks at level, type and
//! length before a value; writing zeroes the padding and publishes exact lengths, since
//! `ip_cmsg_send` (net/ipv4/ip_sockglue.c) refuses any other.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use crate::addr::array;

/// Bytes of a `cmsghdr`.
const HEADER_LEN: usize = size_of::<libc::cmsghdr>();
const ALIGN: usize = size_of::<usize>();

const PKTINFO_LEN: usize = size_of::<libc::in_pktinfo>();
const PKTINFO6_LEN: usize = size_of::<libc::in6_pktinfo>();
const TIMESPEC_LEN: usize = size_of::<libc::timespec>();
const INT_LEN: usize = size_of::<libc::c_int>();
const SEGMENT_LEN: usize = size_of::<u16>();

/// Bytes that a control message with `value_len` bytes takes, `CMSG_SPACE`.
#[inline]
const fn space(value_len: usize) -> usize {
    (HEADER_LEN + value_len).next_multiple_of(ALIGN)
}

/// Room for every control message that a socket of ours asks for: both pktinfos (a dual-stack
/// socket gets both for an IPv4 datagram), the receive stamp, the segment length of a train, one
/// hop limit and one type of service (only those of the datagram's own family, `udpv6_recvmsg` of
/// net/ipv6/udp.c).
pub const RECEIVE_CONTROL_LEN: usize = space(PKTINFO_LEN)
    + space(PKTINFO6_LEN)
    + space(TIMESPEC_LEN)
    + space(INT_LEN)
    + space(INT_LEN)
    + space(INT_LEN);

/// Room for what a reply carries: one pktinfo, the hop limit, the type of service, the segment
/// length of a train.
pub const SEND_CONTROL_LEN: usize =
    space(PKTINFO6_LEN) + space(INT_LEN) + space(INT_LEN) + space(INT_LEN) + space(SEGMENT_LEN);

// `SO_TIMESTAMPNS` writes a `timespec` of two longs; on other ABIs the layout read here is wrong.
const _: () = assert!(TIMESPEC_LEN == 16 && HEADER_LEN == 16, "64-bit Linux only");

/// A received control message that this program has a use for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Received {
    /// `IP_PKTINFO`: the header's destination, RFC 1122's specific destination (the address to
    /// reply from), and the index of the interface of arrival.
    Pktinfo {
        /// `ipi_addr`.
        destination: Ipv4Addr,
        /// `ipi_spec_dst`.
        specific: Ipv4Addr,
        /// `ipi_ifindex`.
        interface: u32,
    },
    /// `IPV6_PKTINFO`: destination and interface of arrival.
    Pktinfo6 {
        /// `ipi6_addr`, v4-mapped for an IPv4 datagram on a dual-stack socket.
        destination: Ipv6Addr,
        /// `ipi6_ifindex`.
        interface: u32,
    },
    /// `SO_TIMESTAMPNS`: when the kernel received it, nanoseconds of `CLOCK_REALTIME`.
    Timestamp(u64),
    /// `UDP_GRO`: the length of the train's segments in bytes.
    SegmentLen(u32),
    /// `IP_TTL` or `IPV6_HOPLIMIT`: hops that the datagram had left.
    HopLimit(u8),
    /// `IP_TOS` or `IPV6_TCLASS`: the type of service of its IP header, DSCP and ECN.
    Tos(u8),
}

/// The control messages in `control` that this program knows, in the kernel's order.
#[inline]
pub fn received(control: &[u8]) -> impl Iterator<Item = Received> + '_ {
    Cursor::new(control).filter_map(|(level, kind, value)| decode(level, kind, value))
}

/// Walks raw control messages (level, type, value); ends at the first malformed one.
pub(crate) struct Cursor<'a> {
    rest: &'a [u8],
}

impl<'a> Cursor<'a> {
    #[inline]
    pub(crate) fn new(control: &'a [u8]) -> Self {
        Self { rest: control }
    }
}

impl<'a> Iterator for Cursor<'a> {
    type Item = (i32, i32, &'a [u8]);

    #[inline]
    fn next(&mut self) -> Option<Self::Item> {
        let (header, _) = self.rest.split_first_chunk::<HEADER_LEN>()?;
        let len = usize::from_ne_bytes(array(header, 0)?);
        let level = i32::from_ne_bytes(array(header, 8)?);
        let kind = i32::from_ne_bytes(array(header, 12)?);
        let value = self.rest.get(HEADER_LEN..len)?;
        self.rest = self.rest.get(len.next_multiple_of(ALIGN)..).unwrap_or(&[]);
        Some((level, kind, value))
    }
}

/// Level and type of a control message in one number, so that telling them apart costs one
/// comparison each.
const fn key(level: i32, kind: i32) -> u64 {
    (level as u32 as u64) << 32 | kind as u32 as u64
}

const TIMESTAMP: u64 = key(libc::SOL_SOCKET, libc::SCM_TIMESTAMPNS);
const PKTINFO: u64 = key(libc::SOL_IP, libc::IP_PKTINFO);
const PKTINFO6: u64 = key(libc::SOL_IPV6, libc::IPV6_PKTINFO);
const GRO: u64 = key(libc::SOL_UDP, libc::UDP_GRO);
const TTL: u64 = key(libc::SOL_IP, libc::IP_TTL);
const HOP_LIMIT: u64 = key(libc::SOL_IPV6, libc::IPV6_HOPLIMIT);
const TOS: u64 = key(libc::SOL_IP, libc::IP_TOS);
const TRAFFIC_CLASS: u64 = key(libc::SOL_IPV6, libc::IPV6_TCLASS);

/// The one table of control messages, those that every datagram has first.
#[inline]
fn decode(level: i32, kind: i32, value: &[u8]) -> Option<Received> {
    let key = key(level, kind);
    if key == TIMESTAMP {
        let seconds = i64::from_ne_bytes(array(value, 0)?);
        let nanoseconds = i64::from_ne_bytes(array(value, 8)?);
        let total = seconds
            .checked_mul(1_000_000_000)?
            .checked_add(nanoseconds)?;
        return Some(Received::Timestamp(u64::try_from(total).ok()?));
    }
    if key == PKTINFO {
        return Some(Received::Pktinfo {
            interface: u32::from_ne_bytes(array(value, 0)?),
            specific: Ipv4Addr::from(array::<4>(value, 4)?),
            destination: Ipv4Addr::from(array::<4>(value, 8)?),
        });
    }
    if key == PKTINFO6 {
        return Some(Received::Pktinfo6 {
            destination: Ipv6Addr::from(array::<16>(value, 0)?),
            interface: u32::from_ne_bytes(array(value, 16)?),
        });
    }
    if key == GRO {
        let len = u32::try_from(i32::from_ne_bytes(array(value, 0)?)).ok()?;
        return (len > 0).then_some(Received::SegmentLen(len));
    }
    decode_header_field(key, value)
}

/// The fields of the IP header, which few sockets ask for.
#[cold]
fn decode_header_field(key: u64, value: &[u8]) -> Option<Received> {
    let int = || u8::try_from(i32::from_ne_bytes(array(value, 0)?)).ok();
    match key {
        TTL | HOP_LIMIT => int().map(Received::HopLimit),
        // One byte, unlike the others (`ip_cmsg_recv_tos`, net/ipv4/ip_sockglue.c).
        TOS => value.first().copied().map(Received::Tos),
        TRAFFIC_CLASS => int().map(Received::Tos),
        _ => None,
    }
}

/// The control messages of one reply, built afresh for each.
///
/// The segment length comes last, so that the same bytes, cut before it, serve the segments of a
/// refused train ([`Control::single_len`]).
#[derive(Clone, Copy, Debug)]
#[repr(C, align(8))]
pub struct Control {
    bytes: [u8; SEND_CONTROL_LEN],
    /// End of the last message's value: the kernel accepts `CMSG_LEN` for the last one, and IPv6
    /// pktinfo fits its 36-byte stack buffer only so (`____sys_sendmsg`, net/socket.c).
    len: u8,
    single_len: u8,
}

impl Control {
    /// No control message: the socket's own address is the source.
    pub const EMPTY: Self = Self {
        bytes: [0; SEND_CONTROL_LEN],
        len: 0,
        single_len: 0,
    };

    /// Takes all of them out.
    #[inline]
    pub fn clear(&mut self) {
        self.len = 0;
        self.single_len = 0;
    }

    /// Appends `IP_PKTINFO` or `IPV6_PKTINFO` that makes `source` the source address.
    ///
    /// `interface` forces the output interface; 0 leaves it to the routing table, which is right
    /// in all cases but a link-local source.
    ///
    /// Always inlined: made for each reply, and a call of it costs 37 instructions.
    #[inline(always)]
    pub fn push_source(&mut self, source: IpAddr, interface: u32) {
        match source {
            IpAddr::V4(source) => {
                let mut value = [0; PKTINFO_LEN];
                value[0..4].copy_from_slice(&interface.to_ne_bytes());
                value[4..8].copy_from_slice(&source.octets());
                self.push(libc::SOL_IP, libc::IP_PKTINFO, &value);
            }
            IpAddr::V6(source) => {
                let mut value = [0; PKTINFO6_LEN];
                value[0..16].copy_from_slice(&source.octets());
                value[16..20].copy_from_slice(&interface.to_ne_bytes());
                self.push(libc::SOL_IPV6, libc::IPV6_PKTINFO, &value);
            }
        }
    }

    /// Appends the reply's hop limit for a peer of the family of `peer`.
    #[inline]
    pub fn push_hop_limit(&mut self, peer: IpAddr, hop_limit: u8) {
        let (level, kind) = match peer {
            IpAddr::V4(_) => (libc::SOL_IP, libc::IP_TTL),
            IpAddr::V6(_) => (libc::SOL_IPV6, libc::IPV6_HOPLIMIT),
        };
        self.push(level, kind, &i32::from(hop_limit).to_ne_bytes());
    }

    /// Appends the reply's type of service for a peer of the family of `peer`.
    #[inline]
    pub fn push_tos(&mut self, peer: IpAddr, tos: u8) {
        let (level, kind) = match peer {
            IpAddr::V4(_) => (libc::SOL_IP, libc::IP_TOS),
            IpAddr::V6(_) => (libc::SOL_IPV6, libc::IPV6_TCLASS),
        };
        self.push(level, kind, &i32::from(tos).to_ne_bytes());
    }

    /// Appends `UDP_SEGMENT`: the payload is a train of segments of `segment_len` bytes.
    #[inline]
    pub fn push_segment_len(&mut self, segment_len: u16) {
        let single_len = self.single_len;
        self.push(libc::SOL_UDP, libc::UDP_SEGMENT, &segment_len.to_ne_bytes());
        self.single_len = single_len;
    }

    /// Appends the wish that the kernel stamps this one message when it hands it to the device
    /// (`SO_TIMESTAMPING`, timestamping.rst in the kernel's documentation); the socket has to be
    /// [prepared](crate::errqueue::enable_stamps). Of a train the first datagram is stamped.
    #[inline]
    pub fn push_stamp(&mut self) {
        let flags = libc::SOF_TIMESTAMPING_TX_SOFTWARE;
        self.push(
            libc::SOL_SOCKET,
            libc::SO_TIMESTAMPING,
            &flags.to_ne_bytes(),
        );
    }

    /// Always inlined, as its callers are that every reply has.
    #[inline(always)]
    fn push(&mut self, level: i32, kind: i32, value: &[u8]) {
        let end = usize::from(self.len);
        let start = end.next_multiple_of(ALIGN);
        if start > end {
            // Not what an earlier message left there.
            self.bytes[end..start].fill(0);
        }
        let len = HEADER_LEN + value.len();
        let message = &mut self.bytes[start..start + len];
        message[0..8].copy_from_slice(&len.to_ne_bytes());
        message[8..12].copy_from_slice(&level.to_ne_bytes());
        message[12..16].copy_from_slice(&kind.to_ne_bytes());
        message[HEADER_LEN..].copy_from_slice(value);
        self.len = (start + len) as u8;
        self.single_len = self.len;
    }

    /// The bytes for the whole message.
    #[inline]
    pub fn as_bytes(&self) -> &[u8] {
        &self.bytes[..usize::from(self.len)]
    }

    /// Length of the same control messages without the segment length.
    #[inline]
    pub fn single_len(&self) -> usize {
        usize::from(self.single_len)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ipv6_pktinfo_alone_fits_the_kernels_stack_buffer() {
        let mut control = Control::EMPTY;
        control.push_source("2001:db8::1".parse().unwrap(), 0);
        assert_eq!(control.as_bytes().len(), 36);
    }

    #[test]
    fn what_is_written_is_read_back() {
        let mut control = Control::EMPTY;
        control.push_source("192.0.2.1".parse().unwrap(), 7);
        control.push_hop_limit("192.0.2.9".parse().unwrap(), 63);
        control.push_tos("192.0.2.9".parse().unwrap(), 0xb8);
        control.push_segment_len(1400);
        let messages: Vec<_> = Cursor::new(control.as_bytes()).collect();
        assert_eq!(messages.len(), 4);
        assert_eq!(
            messages[3],
            (libc::SOL_UDP, libc::UDP_SEGMENT, &1400u16.to_ne_bytes()[..])
        );
        assert_eq!(
            received(control.as_bytes()).collect::<Vec<_>>(),
            [
                Received::Pktinfo {
                    destination: Ipv4Addr::UNSPECIFIED,
                    specific: Ipv4Addr::new(192, 0, 2, 1),
                    interface: 7
                },
                Received::HopLimit(63),
                Received::Tos(0xb8),
            ]
        );
        let single = &control.as_bytes()[..control.single_len()];
        assert_eq!(Cursor::new(single).count(), 3);
    }

    #[test]
    fn everything_at_once_fits_a_reply() {
        let mut control = Control::EMPTY;
        let peer = "2001:db8::9".parse().unwrap();
        control.push_source("2001:db8::1".parse().unwrap(), 0);
        control.push_hop_limit(peer, 255);
        control.push_tos(peer, 0xff);
        control.push_stamp();
        control.push_segment_len(1400);
        let last_padding = SEGMENT_LEN.next_multiple_of(ALIGN) - SEGMENT_LEN;
        assert_eq!(control.as_bytes().len(), SEND_CONTROL_LEN - last_padding);
    }

    #[test]
    fn malformed_control_ends_the_walk() {
        let mut control = Control::EMPTY;
        control.push_source("2001:db8::1".parse().unwrap(), 0);
        let bytes = control.as_bytes();
        for cut in 0..bytes.len() {
            assert_eq!(received(&bytes[..cut]).count(), 0, "cut at {cut}");
        }
        let mut lying = bytes.to_vec();
        lying[0..8].copy_from_slice(&usize::MAX.to_ne_bytes());
        assert_eq!(received(&lying).count(), 0);
        lying[0..8].copy_from_slice(&3usize.to_ne_bytes());
        assert_eq!(received(&lying).count(), 0);
    }
}
