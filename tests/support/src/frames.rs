//! UDP frames with their checksums looked at, which `lab::capture` does not do.

use std::net::{IpAddr, SocketAddr};

use etherparse::{NetSlice, SlicedPacket, TransportSlice, UdpSlice};
use reflector_netlab::topology::Namespace;
use reflector_udp::packet::{FRAME_LEN_MAX, PacketSocket};

/// A UDP datagram, or a train of them, as an interface saw it.
#[derive(Debug)]
pub struct Frame {
    /// Whom it came from.
    pub source: SocketAddr,
    /// Bytes of payload.
    pub payload_len: usize,
    /// Whether the checksum is right; it is not yet where the device is to fill it in.
    pub has_checksum: bool,
}

/// What `body` returns, and the UDP frames of `interface` meanwhile.
///
/// Complete when `body` has received what it waited for: a frame is recorded before its datagram
/// is delivered.
pub fn watch_frames<T>(
    namespace: &Namespace,
    interface: &str,
    body: impl FnOnce() -> T,
) -> (T, Vec<Frame>) {
    let index = namespace
        .interface_index(interface)
        .expect("there is such an interface");
    let socket = namespace
        .run(|| PacketSocket::open(index))
        .expect("the interface can be captured");
    let result = body();
    let mut frames = Vec::new();
    let mut buffer = vec![0; FRAME_LEN_MAX];
    while let Some(frame) = socket.receive(&mut buffer).expect("frames can be read") {
        frames.extend(decode(&buffer[..frame.len]));
    }
    (result, frames)
}

fn decode(bytes: &[u8]) -> Option<Frame> {
    let packet = SlicedPacket::from_ethernet(bytes).ok()?;
    let TransportSlice::Udp(udp) = packet.transport? else {
        return None;
    };
    let (source, destination): (IpAddr, IpAddr) = match packet.net? {
        NetSlice::Ipv4(ip) => {
            let header = ip.header();
            (
                header.source_addr().into(),
                header.destination_addr().into(),
            )
        }
        NetSlice::Ipv6(ip) => {
            let header = ip.header();
            (
                header.source_addr().into(),
                header.destination_addr().into(),
            )
        }
        NetSlice::Arp(_) => return None,
    };
    Some(Frame {
        source: SocketAddr::new(source, udp.source_port()),
        payload_len: udp.payload().len(),
        has_checksum: udp.checksum() == checksum(&udp, source, destination),
    })
}

fn checksum(udp: &UdpSlice<'_>, source: IpAddr, destination: IpAddr) -> u16 {
    let header = udp.to_header();
    match (source, destination) {
        (IpAddr::V4(source), IpAddr::V4(destination)) => {
            header.calc_checksum_ipv4_raw(source.octets(), destination.octets(), udp.payload())
        }
        (IpAddr::V6(source), IpAddr::V6(destination)) => {
            header.calc_checksum_ipv6_raw(source.octets(), destination.octets(), udp.payload())
        }
        _ => unreachable!("a packet has one family"),
    }
    .expect("a frame is no longer than a datagram")
}
