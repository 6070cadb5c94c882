//! IP packets, decoded from frames as far as the lab needs.

use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use etherparse::{
    IpNumber, LaxIpSlice, LaxNetSlice, LaxSlicedPacket, TransportSlice, UdpHeaderSlice, icmpv4,
    icmpv6,
};

/// One IP packet as an interface saw it. Its `Display` is a line much like tcpdump's.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Packet {
    /// The kernel's time of the packet since the Unix epoch (CLOCK_REALTIME).
    pub at: Duration,
    /// Whether the host that captures sent it on this interface.
    pub is_outgoing: bool,
    /// The source address, with the port for UDP and 0 otherwise.
    pub source: SocketAddr,
    /// The destination address, with the port for UDP and 0 otherwise.
    pub destination: SocketAddr,
    /// What it carries.
    pub kind: Kind,
}

/// What an IP packet carries.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A UDP datagram, or a train of them before the device cuts it.
    Udp {
        /// Bytes of payload on the wire.
        payload_len: usize,
        /// The first bytes of it, at most 64.
        payload: Vec<u8>,
    },
    /// ICMP or ICMPv6 destination unreachable (RFC 792, RFC 4443 §3.1).
    Unreachable {
        /// The code, whose meaning depends on the family.
        code: u8,
        /// Source of the packet that could not be delivered; port 0 if it was not UDP.
        quoted_source: SocketAddr,
        /// Where it could not be delivered to; port 0 if it was not UDP.
        quoted_destination: SocketAddr,
    },
    /// A piece of a fragmented packet, of which only the first holds ports.
    Fragment {
        /// The protocol of the whole packet (IANA protocol number).
        protocol: u8,
        /// Bytes of the whole packet's payload in this piece.
        len: usize,
    },
    /// Anything else: neighbour discovery, IGMP, TCP and so on.
    Other {
        /// IANA protocol number.
        protocol: u8,
    },
}

/// Bytes of payload that a [`Kind::Udp`] keeps.
const PAYLOAD_LEN_MAX: usize = 64;

impl Packet {
    /// The IP packet in an Ethernet frame; `None` when there is none (ARP, a broken header).
    pub(crate) fn decode(frame: &[u8], at: Duration, is_outgoing: bool) -> Option<Packet> {
        let sliced = LaxSlicedPacket::from_ethernet(frame).ok()?;
        let ip = match sliced.net? {
            LaxNetSlice::Ipv4(slice) => LaxIpSlice::Ipv4(slice),
            LaxNetSlice::Ipv6(slice) => LaxIpSlice::Ipv6(slice),
            LaxNetSlice::Arp(_) => return None,
        };
        let kind = kind(&ip, sliced.transport.as_ref());
        let ports = match (&kind, &sliced.transport) {
            (Kind::Udp { .. }, Some(TransportSlice::Udp(udp))) => {
                (udp.source_port(), udp.destination_port())
            }
            _ => (0, 0),
        };
        Some(Packet {
            at,
            is_outgoing,
            source: SocketAddr::new(ip.source_addr(), ports.0),
            destination: SocketAddr::new(ip.destination_addr(), ports.1),
            kind,
        })
    }

    /// Whether it is ICMP port unreachable: code 3 (RFC 792), or 4 in ICMPv6 (RFC 4443 §3.1).
    pub(crate) fn is_port_unreachable(&self) -> bool {
        let port = match self.source.ip() {
            IpAddr::V4(_) => icmpv4::CODE_DST_UNREACH_PORT,
            IpAddr::V6(_) => icmpv6::CODE_DST_UNREACH_PORT,
        };
        matches!(self.kind, Kind::Unreachable { code, .. } if code == port)
    }

    /// From where to where, as in `172.17.0.3.40000 > 172.16.13.13.5151`.
    pub fn ends(&self) -> String {
        let (source, destination) = (self.source.ip(), self.destination.ip());
        match self.kind {
            Kind::Udp { .. } => {
                let (from, to) = (self.source.port(), self.destination.port());
                format!("{source}.{from} > {destination}.{to}")
            }
            _ => format!("{source} > {destination}"),
        }
    }

    /// What it carries, as in `UDP, length 4`.
    pub fn what(&self) -> String {
        match &self.kind {
            Kind::Udp { payload_len, .. } => format!("UDP, length {payload_len}"),
            Kind::Unreachable {
                code,
                quoted_destination,
                ..
            } => {
                let icmp = if self.source.is_ipv4() {
                    "ICMP"
                } else {
                    "ICMP6"
                };
                if self.is_port_unreachable() {
                    format!("{icmp} udp port {} unreachable", quoted_destination.port())
                } else {
                    format!(
                        "{icmp} {} unreachable, code {code}",
                        quoted_destination.ip()
                    )
                }
            }
            Kind::Fragment { protocol, len } => {
                format!("fragment, ip-proto-{protocol}, length {len}")
            }
            Kind::Other { protocol } => format!("ip-proto-{protocol}"),
        }
    }

    /// Whether it is a UDP datagram, a fragment of one, or an error about one, and not part of
    /// the noise that hosts make by themselves (neighbour discovery, group memberships).
    pub fn is_about_udp(&self) -> bool {
        match self.kind {
            Kind::Udp { .. } | Kind::Unreachable { .. } => true,
            Kind::Fragment { protocol, .. } => protocol == IpNumber::UDP.0,
            Kind::Other { .. } => false,
        }
    }
}

fn kind(ip: &LaxIpSlice<'_>, transport: Option<&TransportSlice<'_>>) -> Kind {
    let protocol = ip.payload_ip_number().0;
    if ip.is_fragmenting_payload() {
        return Kind::Fragment {
            protocol,
            len: ip.payload().payload.len(),
        };
    }
    let unreachable = |code: u8, quoted: &[u8]| {
        let (quoted_source, quoted_destination) = quoted_endpoints(quoted)?;
        Some(Kind::Unreachable {
            code,
            quoted_source,
            quoted_destination,
        })
    };
    match transport {
        Some(TransportSlice::Udp(udp)) => {
            let payload = udp.payload();
            Some(Kind::Udp {
                payload_len: payload.len(),
                payload: payload[..payload.len().min(PAYLOAD_LEN_MAX)].to_vec(),
            })
        }
        Some(TransportSlice::Icmpv4(icmp)) if icmp.type_u8() == icmpv4::TYPE_DEST_UNREACH => {
            unreachable(icmp.code_u8(), icmp.payload())
        }
        Some(TransportSlice::Icmpv6(icmp)) if icmp.type_u8() == icmpv6::TYPE_DST_UNREACH => {
            unreachable(icmp.code_u8(), icmp.payload())
        }
        _ => None,
    }
    .unwrap_or(Kind::Other { protocol })
}

/// The ends of the packet whose beginning an ICMP error quotes (RFC 1812 §4.3.2.3).
fn quoted_endpoints(quoted: &[u8]) -> Option<(SocketAddr, SocketAddr)> {
    let (ip, _) = LaxIpSlice::from_slice(quoted).ok()?;
    let is_udp = ip.payload_ip_number() == IpNumber::UDP;
    let ports = match UdpHeaderSlice::from_slice(ip.payload().payload) {
        Ok(udp) if is_udp => (udp.source_port(), udp.destination_port()),
        _ => (0, 0),
    };
    let source = SocketAddr::new(ip.source_addr(), ports.0);
    Some((source, SocketAddr::new(ip.destination_addr(), ports.1)))
}

impl fmt::Display for Packet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.ends(), self.what())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use etherparse::PacketBuilder;
    use std::net::Ipv6Addr;

    const PORT: u16 = 5151;

    fn decode(frame: &[u8]) -> Option<Packet> {
        Packet::decode(frame, Duration::ZERO, false)
    }

    #[test]
    fn datagrams_of_both_families_are_decoded() {
        let mut frame = Vec::new();
        let builder = PacketBuilder::ethernet2([2; 6], [4; 6])
            .ipv4([172, 17, 0, 1], [172, 17, 0, 3], 64)
            .udp(PORT, 40000);
        builder.write(&mut frame, &[7; 100]).unwrap();
        let packet = decode(&frame).unwrap();
        assert_eq!(
            packet.to_string(),
            "172.17.0.1.5151 > 172.17.0.3.40000: UDP, length 100"
        );
        assert_eq!(
            packet.kind,
            Kind::Udp {
                payload_len: 100,
                payload: vec![7; 64]
            }
        );

        let mut frame = Vec::new();
        let (source, destination) = (
            Ipv6Addr::new(0xfd17, 0, 0, 0, 0, 0, 0, 1),
            Ipv6Addr::new(0xfd17, 0, 0, 0, 0, 0, 0, 3),
        );
        let builder = PacketBuilder::ethernet2([2; 6], [4; 6])
            .ipv6(source.octets(), destination.octets(), 64)
            .udp(PORT, 40000);
        builder.write(&mut frame, b"").unwrap();
        let packet = decode(&frame).unwrap();
        assert_eq!(
            packet.to_string(),
            "fd17::1.5151 > fd17::3.40000: UDP, length 0"
        );
    }

    #[test]
    fn cut_and_broken_frames_do_not_panic() {
        let mut quoted = Vec::new();
        let builder = PacketBuilder::ipv4([172, 17, 0, 1], [172, 17, 0, 3], 64).udp(PORT, 40000);
        builder.write(&mut quoted, b"ping").unwrap();
        let mut frame = Vec::new();
        PacketBuilder::ethernet2([2; 6], [4; 6])
            .ipv4([172, 17, 0, 3], [172, 17, 0, 1], 64)
            .icmpv4_raw(
                icmpv4::TYPE_DEST_UNREACH,
                icmpv4::CODE_DST_UNREACH_PORT,
                [0; 4],
            )
            .write(&mut frame, &quoted)
            .unwrap();
        let packet = decode(&frame).unwrap();
        assert_eq!(
            packet.to_string(),
            "172.17.0.3 > 172.17.0.1: ICMP udp port 40000 unreachable"
        );
        assert!(packet.is_port_unreachable());
        for len in 0..frame.len() {
            let _ = decode(&frame[..len]);
            let mut broken = frame.clone();
            broken[len] ^= 0xff;
            let _ = decode(&broken);
        }
    }
}
