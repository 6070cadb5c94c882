//! Socket addresses as the kernel writes them.

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
pub struct Name {
    bytes: [u8; SOCKADDR_IN6_LEN],
    len: u8,
}

impl Name {
    /// An empty name, to be overwritten.
    pub const EMPTY: Self = Self {
        bytes: [0; SOCKADDR_IN6_LEN],
        len: 0,
    };

    /// The name of `addr` in its own family.
    pub fn new(addr: SocketAddr) -> Self {
        match addr {
            SocketAddr::V4(v4) => Self::v4(v4),
            SocketAddr::V6(v6) => Self::v6(v6),
        }
    }

    /// The name of `addr` for an `AF_INET6` socket: an IPv4 address is written v4-mapped.
    pub fn new_v6(addr: SocketAddr) -> Self {
        match addr {
            SocketAddr::V4(v4) => {
                Self::v6(SocketAddrV6::new(v4.ip().to_ipv6_mapped(), v4.port(), 0, 0))
            }
            SocketAddr::V6(v6) => Self::v6(v6),
        }
    }

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
    pub fn as_bytes(&self) -> &[u8] {
        &self.bytes[..usize::from(self.len)]
    }
}

/// Reads a name that the kernel wrote; `None` for another family or a short name.
///
/// A v4-mapped address becomes IPv4, and the flow label of an IPv6 peer is left behind.
pub fn parse_name(bytes: &[u8]) -> Option<SocketAddr> {
    let family = u16::from_ne_bytes(array(bytes, 0)?);
    let port = u16::from_be_bytes(array(bytes, 2)?);
    match family {
        AF_INET if bytes.len() >= SOCKADDR_IN_LEN => {
            let ip = Ipv4Addr::from(array::<4>(bytes, 4)?);
            Some(SocketAddr::V4(SocketAddrV4::new(ip, port)))
        }
        AF_INET6 if bytes.len() >= SOCKADDR_IN6_LEN => {
            let ip = Ipv6Addr::from(array::<16>(bytes, 8)?);
            let scope_id = u32::from_ne_bytes(array(bytes, 24)?);
            Some(match ip.to_canonical() {
                IpAddr::V4(ip) => SocketAddr::V4(SocketAddrV4::new(ip, port)),
                IpAddr::V6(ip) => SocketAddr::V6(SocketAddrV6::new(ip, port, 0, scope_id)),
            })
        }
        _ => None,
    }
}

/// The `N` bytes of `bytes` at `offset`, if there are so many.
pub(crate) fn array<const N: usize>(bytes: &[u8], offset: usize) -> Option<[u8; N]> {
    bytes.get(offset..offset.checked_add(N)?)?.try_into().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_survive_the_round_trip() {
        for text in ["192.0.2.7:9007", "[2001:db8::7]:9007", "[fe80::1%3]:7"] {
            let addr: SocketAddr = text.parse().unwrap();
            assert_eq!(parse_name(Name::new(addr).as_bytes()), Some(addr));
        }
    }

    #[test]
    fn an_ipv4_peer_of_an_ipv6_socket_is_mapped_and_read_back_as_ipv4() {
        let addr: SocketAddr = "192.0.2.7:9007".parse().unwrap();
        let name = Name::new_v6(addr);
        assert_eq!(name.as_bytes().len(), 28);
        assert_eq!(&name.as_bytes()[18..24], &[0xff, 0xff, 192, 0, 2, 7]);
        assert_eq!(parse_name(name.as_bytes()), Some(addr));
    }

    #[test]
    fn short_and_foreign_names_are_refused() {
        let name = Name::new("192.0.2.7:9007".parse().unwrap());
        assert_eq!(parse_name(&name.as_bytes()[..8]), None);
        assert_eq!(parse_name(&[1, 0, 0, 0]), None);
        assert_eq!(parse_name(&[]), None);
    }
}
