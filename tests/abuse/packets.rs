//! Packets with one thing wrong.

use std::net::{SocketAddrV4, SocketAddrV6};

use etherparse::PacketBuilder;

/// What is wrong with the UDP header.
#[derive(Clone, Copy)]
pub enum Fault {
    None,
    /// The checksum is 0, which means that there is none.
    NoChecksum,
    WrongChecksum,
    /// It says more bytes than the packet has.
    TooLong,
    /// It says fewer bytes than the header itself has.
    TooShort,
}

pub fn udp_v4(from: SocketAddrV4, to: SocketAddrV4, payload: &[u8], fault: Fault) -> Vec<u8> {
    let mut packet = Vec::new();
    PacketBuilder::ipv4(from.ip().octets(), to.ip().octets(), 64)
        .udp(from.port(), to.port())
        .write(&mut packet, payload)
        .expect("a vector takes it");
    spoil(&mut packet[20..28], fault);
    packet
}

pub fn udp_v6(from: SocketAddrV6, to: SocketAddrV6, payload: &[u8], fault: Fault) -> Vec<u8> {
    let mut packet = Vec::new();
    PacketBuilder::ipv6(from.ip().octets(), to.ip().octets(), 64)
        .udp(from.port(), to.port())
        .write(&mut packet, payload)
        .expect("a vector takes it");
    spoil(&mut packet[40..48], fault);
    packet
}

fn spoil(header: &mut [u8], fault: Fault) {
    match fault {
        Fault::None => {}
        Fault::NoChecksum => header[6..].fill(0),
        Fault::WrongChecksum => header[7] ^= 0x55,
        Fault::TooLong => header[4] = 0x40,
        Fault::TooShort => header[4..6].copy_from_slice(&[0, 4]),
    }
}

/// The first fragment of `packet`, of IPv4, whose rest never comes.
pub fn fragment(packet: &[u8], id: u16) -> Vec<u8> {
    let mut packet = packet[..20 + 512].to_vec();
    packet[4..6].copy_from_slice(&id.to_be_bytes());
    // More fragments follow; the kernel fills in the total length and the checksum.
    packet[6] = 0x20;
    packet
}
