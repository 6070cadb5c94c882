//! Datagrams as no socket would send them: forged sources, any hop limit.

use std::net::{IpAddr, SocketAddr, SocketAddrV4};

use etherparse::PacketBuilder;
use reflector_netlab::topology::Namespace;
use socket2::{Domain, Protocol, SockAddr, Socket, Type};

/// Sends `payload` from `namespace` with the IPv4 header's source, source port and time to live
/// of the caller's choice (`IP_HDRINCL`, raw(7)).
pub fn send_forged(
    namespace: &Namespace,
    source: SocketAddrV4,
    destination: SocketAddrV4,
    ttl: u8,
    payload: &[u8],
) {
    let mut packet = Vec::new();
    PacketBuilder::ipv4(source.ip().octets(), destination.ip().octets(), ttl)
        .udp(source.port(), destination.port())
        .write(&mut packet, payload)
        .expect("a vector takes it");
    let raw = namespace
        .run(|| Socket::new(Domain::IPV4, Type::RAW, Some(Protocol::UDP)))
        .expect("a raw socket needs CAP_NET_RAW, which comes with a namespace of our own");
    raw.set_header_included_v4(true)
        .expect("raw sockets have it");
    raw.send_to(&packet, &SockAddr::from(destination))
        .expect("the packet is sent");
}

/// Sends `count` datagrams of `len` bytes from `namespace` to `destination`, as if each of
/// `sources` had sent them in turn. All addresses are of one family.
pub fn send_forged_from(
    namespace: &Namespace,
    sources: &[SocketAddr],
    destination: SocketAddr,
    count: usize,
    len: usize,
) {
    let packets = Vec::from_iter(sources.iter().map(|source| {
        let mut packet = Vec::new();
        let (from, to) = (source.port(), destination.port());
        let builder = match (source.ip(), destination.ip()) {
            (IpAddr::V4(source), IpAddr::V4(destination)) => {
                PacketBuilder::ipv4(source.octets(), destination.octets(), 64).udp(from, to)
            }
            (IpAddr::V6(source), IpAddr::V6(destination)) => {
                PacketBuilder::ipv6(source.octets(), destination.octets(), 64).udp(from, to)
            }
            _ => panic!("addresses of two families"),
        };
        (builder.write(&mut packet, &vec![7; len])).expect("a vector takes it");
        packet
    }));
    let (raw, to) = raw_socket(namespace, destination.ip());
    for packet in packets.iter().cycle().take(count) {
        raw.send_to(packet, &to).expect("the packet is sent");
    }
}

/// A socket that sends whole packets, header included, and the address that it sends those to `ip`
/// by.
pub(crate) fn raw_socket(namespace: &Namespace, ip: IpAddr) -> (Socket, SockAddr) {
    let to = SocketAddr::new(ip, 0);
    // IPPROTO_RAW: the header is ours, in either family.
    let open = || {
        let protocol = Protocol::from(libc::IPPROTO_RAW);
        Socket::new(Domain::for_address(to), Type::RAW, Some(protocol))
    };
    let raw = (namespace.run(open))
        .expect("a raw socket needs CAP_NET_RAW, which comes with a namespace of our own");
    (raw, SockAddr::from(to))
}

/// An ICMP error, or an ICMPv6 one: type, code, and the path's MTU where it tells one.
#[derive(Clone, Copy, Debug)]
pub struct Icmp {
    kind: u8,
    code: u8,
    mtu: u16,
}

impl Icmp {
    /// An error of type `kind`.
    pub fn new(kind: u8, code: u8, mtu: u16) -> Self {
        Self { kind, code, mtu }
    }
}

/// Sends an ICMP error from `namespace`, as if `from` had found that a datagram from `source` to
/// `destination` did not get through, to `to`. All addresses are of one family.
pub fn send_forged_icmp(
    namespace: &Namespace,
    from: IpAddr,
    to: IpAddr,
    icmp: Icmp,
    source: SocketAddr,
    destination: SocketAddr,
) {
    let mut inner = Vec::new();
    let mut packet = Vec::new();
    let [high, low] = icmp.mtu.to_be_bytes();
    let rest = [0, 0, high, low];
    match (source.ip(), destination.ip(), from, to) {
        (IpAddr::V4(source_ip), IpAddr::V4(destination_ip), IpAddr::V4(from), IpAddr::V4(to)) => {
            PacketBuilder::ipv4(source_ip.octets(), destination_ip.octets(), 63)
                .udp(source.port(), destination.port())
                .write(&mut inner, &[0; 64])
                .expect("a vector takes it");
            PacketBuilder::ipv4(from.octets(), to.octets(), 64)
                .icmpv4_raw(icmp.kind, icmp.code, rest)
                .write(&mut packet, &inner)
                .expect("a vector takes it");
        }
        (IpAddr::V6(source_ip), IpAddr::V6(destination_ip), IpAddr::V6(from), IpAddr::V6(to)) => {
            PacketBuilder::ipv6(source_ip.octets(), destination_ip.octets(), 63)
                .udp(source.port(), destination.port())
                .write(&mut inner, &[0; 64])
                .expect("a vector takes it");
            PacketBuilder::ipv6(from.octets(), to.octets(), 64)
                .icmpv6_raw(icmp.kind, icmp.code, rest)
                .write(&mut packet, &inner)
                .expect("a vector takes it");
        }
        _ => panic!("addresses of two families"),
    }
    let (raw, to) = raw_socket(namespace, to);
    raw.send_to(&packet, &to).expect("the packet is sent");
}
