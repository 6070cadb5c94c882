//! Socket addresses as the kernel writes them.

use std::hash::{Hash, Hasher};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV4, SocketAddrV6};

/// Bytes of a `sockaddr_in` (ip(7)).
pub const SOCKADDR_IN_LEN: usize = size_of::<libc::sockaddr_in>();
/// Bytes of a `sockaddr_in6` (ipv6(7)), the longest name a UDP socket has.
pub const SOCKADDR_IN6_LEN: usize = size_of::<libc::sockaddr_in6>();

const AF_INET: u16 = libc::AF_INET as u16;
const AF_INET6: u16 = libc::AF_INET6 as u16;

/// A `sockaddr_in` or `sockaddr_in6` in its wire form.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(C, align(8))]
pub struct PeerAddr {
    bytes: [u8; SOCKADDR_IN6_LEN],
    len: u8,
}

impl PeerAddr {
    /// An empty name, to be overwritten.
    pub const EMPTY: Self = Self {
        bytes: [0; SOCKADDR_IN6_LEN],
        len: 0,
    };

    /// The name of `addr` in its own family.
    #[inline]
    pub fn new(addr: SocketAddr) -> Self {
        match addr {
            SocketAddr::V4(v4) => Self::v4(v4),
            SocketAddr::V6(v6) => Self::v6(v6),
        }
    }

    /// The name that the kernel wrote into `bytes`, without its flow label: that is the sender's,
    /// and a reply carries none. `None` for another family or a short name.
    #[inline]
    pub fn received(bytes: &[u8]) -> Option<Self> {
        let mut name = Self::EMPTY;
        name.set_received(bytes).then_some(name)
    }

    /// Becomes [`received`](Self::received) of `bytes` and says whether there is one; if not, it is
    /// of no use.
    #[inline]
    pub fn set_received(&mut self, bytes: &[u8]) -> bool {
        match array(bytes, 0).map(u16::from_ne_bytes) {
            Some(AF_INET) if bytes.len() >= SOCKADDR_IN_LEN => {
                let (own, rest) = self.bytes.split_at_mut(SOCKADDR_IN_LEN);
                own.copy_from_slice(&bytes[..SOCKADDR_IN_LEN]);
                rest.fill(0);
                self.len = SOCKADDR_IN_LEN as u8;
                true
            }
            Some(AF_INET6) if bytes.len() >= SOCKADDR_IN6_LEN => {
                self.bytes.copy_from_slice(&bytes[..SOCKADDR_IN6_LEN]);
                self.bytes[4..8].fill(0);
                self.len = SOCKADDR_IN6_LEN as u8;
                true
            }
            _ => false,
        }
    }

    /// The port.
    #[inline]
    pub fn port(&self) -> u16 {
        u16::from_be_bytes([self.bytes[2], self.bytes[3]])
    }

    /// The address; never v4-mapped.
    #[inline]
    pub fn ip(&self) -> IpAddr {
        if self.is_ipv4() {
            return IpAddr::V4(Ipv4Addr::from(self.array(4)));
        }
        Ipv6Addr::from(self.array(8)).to_canonical()
    }

    /// Address and port; never v4-mapped.
    #[inline]
    pub fn addr(&self) -> SocketAddr {
        match self.ip() {
            IpAddr::V4(ip) => SocketAddr::V4(SocketAddrV4::new(ip, self.port())),
            IpAddr::V6(ip) => {
                let scope_id = u32::from_ne_bytes(self.array(24));
                SocketAddr::V6(SocketAddrV6::new(ip, self.port(), 0, scope_id))
            }
        }
    }

    /// Whether it is a `sockaddr_in`: a v4-mapped one is not.
    #[inline]
    pub fn is_ipv4(&self) -> bool {
        usize::from(self.len) == SOCKADDR_IN_LEN
    }

    #[inline]
    fn array<const N: usize>(&self, offset: usize) -> [u8; N] {
        array(&self.bytes, offset).expect("the names of both families are shorter")
    }

    #[inline]
    fn v4(addr: SocketAddrV4) -> Self {
        let mut name = Self {
            bytes: [0; SOCKADDR_IN6_LEN],
            len: SOCKADDR_IN_LEN as u8,
        };
        name.bytes[0..2].copy_from_slice(&AF_INET.to_ne_bytes());
        name.bytes[2..4].copy_from_slice(&addr.port().to_be_bytes());
        name.bytes[4..8].copy_from_slice(&addr.ip().octets());
        name
    }

    #[inline]
    fn v6(addr: SocketAddrV6) -> Self {
        let mut name = Self {
            bytes: [0; SOCKADDR_IN6_LEN],
            len: SOCKADDR_IN6_LEN as u8,
        };
        name.bytes[0..2].copy_from_slice(&AF_INET6.to_ne_bytes());
        name.bytes[2..4].copy_from_slice(&addr.port().to_be_bytes());
        // The flow label is the sender's; a reply carries none.
        name.bytes[8..24].copy_from_slice(&addr.ip().octets());
        name.bytes[24..28].copy_from_slice(&addr.scope_id().to_ne_bytes());
        name
    }

    /// The bytes that are handed to the kernel.
    #[inline]
    pub fn as_bytes(&self) -> &[u8] {
        &self.bytes[..usize::from(self.len)]
    }
}

impl Hash for PeerAddr {
    #[inline]
    fn hash<H: Hasher>(&self, state: &mut H) {
        // Family, port and IPv4 address; for IPv6 the flow label, which is 0.
        state.write_u64(u64::from_ne_bytes(self.array(0)));
        if !self.is_ipv4() {
            state.write_u128(u128::from_ne_bytes(self.array(8)));
        }
    }
}

/// Reads a name that the kernel wrote; `None` for another family or a short name.
///
/// A v4-mapped address becomes IPv4, and the flow label of an IPv6 peer is left behind.
#[inline]
pub fn parse_sockaddr(bytes: &[u8]) -> Option<SocketAddr> {
    PeerAddr::received(bytes).map(|name| name.addr())
}

/// The `N` bytes of `bytes` at `offset`, if there are so many.
#[inline]
pub fn array<const N: usize>(bytes: &[u8], offset: usize) -> Option<[u8; N]> {
    bytes.get(offset..offset.checked_add(N)?)?.try_into().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_survive_the_round_trip() {
        for text in ["192.0.2.7:9007", "[2001:db8::7]:9007", "[fe80::1%3]:7"] {
            let addr: SocketAddr = text.parse().unwrap();
            assert_eq!(parse_sockaddr(PeerAddr::new(addr).as_bytes()), Some(addr));
        }
    }

    #[test]
    fn an_ipv4_peer_of_an_ipv6_socket_is_read_as_ipv4_and_answered_as_it_came() {
        let mapped = PeerAddr::new("[::ffff:192.0.2.7]:9007".parse().unwrap());
        let name = PeerAddr::received(mapped.as_bytes()).unwrap();
        assert_eq!(name.addr(), "192.0.2.7:9007".parse().unwrap());
        assert_eq!((name, name.is_ipv4()), (mapped, false));
    }

    #[test]
    fn the_flow_label_and_what_an_earlier_name_left_are_not_taken_over() {
        let v6 = PeerAddr::new("[fe80::1%3]:7".parse().unwrap());
        let mut labelled = v6.as_bytes().to_vec();
        labelled[4..8].fill(0xff);
        let mut name = PeerAddr::received(&labelled).unwrap();
        assert_eq!(name, v6);
        let v4 = PeerAddr::new("192.0.2.7:9007".parse().unwrap());
        assert!(name.set_received(v4.as_bytes()));
        assert_eq!(name, v4);
    }

    #[test]
    fn short_and_foreign_names_are_refused() {
        let name = PeerAddr::new("192.0.2.7:9007".parse().unwrap());
        assert_eq!(parse_sockaddr(&name.as_bytes()[..8]), None);
        assert_eq!(parse_sockaddr(&[1, 0, 0, 0]), None);
        assert_eq!(parse_sockaddr(&[]), None);
    }
}
