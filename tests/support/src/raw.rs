//! Datagrams as no socket would send them: forged sources, any hop limit.

use std::net::SocketAddrV4;

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
