//! What a captured interface carried, in the terms of the tests.

use std::net::SocketAddr;

use reflector_netlab::capture::{Capture, Kind, Packet};

/// One UDP packet: a datagram, or a train that the device would cut.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Udp {
    /// Whom it came from.
    pub source: SocketAddr,
    /// Whom it was for.
    pub destination: SocketAddr,
    /// Bytes of payload.
    pub len: usize,
}

/// Ends `capture`; everything that it recorded about UDP and that left by its interface.
pub fn outgoing(capture: Capture) -> Vec<Packet> {
    let packets = capture.stop().expect("the recording is complete");
    packets
        .into_iter()
        .filter(|packet| packet.is_outgoing && packet.is_about_udp())
        .collect()
}

/// Ends `capture`; the UDP packets that left by its interface, none of which may be a fragment or
/// an error.
pub fn outgoing_udp(capture: Capture) -> Vec<Udp> {
    let udp = |packet: Packet| match packet.kind {
        Kind::Udp { payload_len, .. } => Udp {
            source: packet.source,
            destination: packet.destination,
            len: payload_len,
        },
        _ => panic!("not a whole datagram: {packet}"),
    };
    outgoing(capture).into_iter().map(udp).collect()
}
