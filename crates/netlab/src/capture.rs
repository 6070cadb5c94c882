//! What really went over an interface: frames, decoded as far as the lab needs.

use std::fmt;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use etherparse::{
    IpNumber, LaxIpSlice, LaxNetSlice, LaxSlicedPacket, TransportSlice, UdpHeaderSlice, icmpv4,
    icmpv6,
};

use crate::topology::Namespace;
use reflector_udp::attempting;
use reflector_udp::packet::{FRAME_LEN_MAX, PacketSocket};

/// A recording of the IP packets of one interface, from [`start`](Capture::start) to
/// [`stop`](Capture::stop).
///
/// On `lo` every packet is there twice, once in each direction. With offloads on, a packet may be
/// a train that the device would cut, or that GRO joined, as [`reflector_udp::packet`] explains.
#[derive(Debug)]
pub struct Capture {
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<io::Result<Vec<Packet>>>>,
}

/// How long an interface must be quiet before a stopped capture takes it that everything sent
/// has arrived: softirqs deliver a datagram shortly after `sendto` has returned.
const QUIET: Duration = Duration::from_millis(20);

/// How much longer than this after the stop, by the time of the frames, a capture reads on if
/// the interface is never quiet.
const STOP_PATIENCE: Duration = Duration::from_secs(1);

impl Capture {
    /// A capture on `interface` in `namespace`: what is sent after the return is recorded.
    ///
    /// ENODEV when there is no such interface there.
    pub fn start(namespace: &Namespace, interface: &str) -> io::Result<Capture> {
        let index = namespace.interface_index(interface)?;
        let socket = namespace
            .run(|| PacketSocket::open(index))
            .map_err(attempting(format_args!("capture on {interface}")))?;
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = Arc::clone(&stop);
        let thread = std::thread::Builder::new()
            .name("capture".to_owned())
            .spawn(move || gather(&socket, &stopped))?;
        Ok(Capture {
            stop,
            thread: Some(thread),
        })
    }

    /// All IP packets so far, in the order the interface saw them, including all that were sent
    /// before this call; returns when the interface has been quiet for 20 ms, or after a second.
    ///
    /// An error when the kernel had to drop frames because the capture could not keep up: an
    /// incomplete recording proves nothing.
    pub fn stop(mut self) -> io::Result<Vec<Packet>> {
        self.stop.store(true, Ordering::Relaxed);
        let thread = self.thread.take().expect("only stop and drop take it");
        let mut packets = thread.join().expect("the capture thread does not panic")?;
        // Frames that two CPUs stamp at the same moment may be queued the other way round.
        packets.sort_by_key(|packet| packet.at);
        Ok(packets)
    }
}

impl Drop for Capture {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            // Dropped without `stop`: nobody asks for the packets or for what went wrong.
            let _ = thread.join();
        }
    }
}

fn gather(socket: &PacketSocket, stop: &AtomicBool) -> io::Result<Vec<Packet>> {
    let mut recording = Recording {
        packets: Vec::new(),
        buffer: vec![0; FRAME_LEN_MAX],
    };
    let mut stopped_at = None;
    loop {
        // Read before waiting: what was sent before the stop is then queued or on its way.
        let is_stopping = stop.load(Ordering::Relaxed);
        let last = if socket.wait(QUIET)? {
            recording.take_queued(socket)?
        } else {
            None
        };
        match last {
            Some(at) if is_stopping && at > *stopped_at.get_or_insert(at) + STOP_PATIENCE => break,
            None if is_stopping => break,
            _ => {}
        }
    }
    match socket.drop_count()? {
        0 => Ok(recording.packets),
        lost => Err(io::Error::other(format!(
            "the capture is incomplete: the kernel dropped {lost} frames; raise \
             net.core.rmem_max, or send less"
        ))),
    }
}

struct Recording {
    packets: Vec<Packet>,
    buffer: Vec<u8>,
}

impl Recording {
    /// Frames taken at once, so that a busy interface cannot keep the capture from stopping.
    const FRAMES_MAX: usize = 1024;

    /// The frames that are queued, decoded; the time of the last one, `None` without any.
    fn take_queued(&mut self, socket: &PacketSocket) -> io::Result<Option<Duration>> {
        let mut last = None;
        for _ in 0..Self::FRAMES_MAX {
            let frame = match socket.receive(&mut self.buffer) {
                Ok(Some(frame)) => frame,
                Ok(None) => break,
                // The interface went down, which is said once; frames from before may be queued.
                Err(error) if error.raw_os_error() == Some(libc::ENETDOWN) => continue,
                Err(error) => return Err(attempting("receive a frame")(error)),
            };
            let bytes = &self.buffer[..frame.len];
            self.packets
                .extend(Packet::decode(bytes, frame.at, frame.is_outgoing));
            last = Some(frame.at);
        }
        Ok(last)
    }
}

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
        /// The code, whose meaning depends on the family; see [`Packet::is_port_unreachable`].
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
    pub fn decode(frame: &[u8], at: Duration, is_outgoing: bool) -> Option<Packet> {
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
    pub fn is_port_unreachable(&self) -> bool {
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
    use crate::ethtool;
    use crate::topology::{DockerHost, in_namespaces};
    use etherparse::PacketBuilder;
    use socket2::{MsgHdr, SockAddr, SockRef};
    use std::io::IoSlice;
    use std::net::UdpSocket;

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
        let (source, destination) = (DockerHost::DOCKER0_V6, DockerHost::CONTAINER_V6);
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

    /// The packets on the container's link when the container sends `payload` to the host.
    fn one_datagram(picture: &DockerHost, destination: IpAddr, payload: &[u8]) -> Vec<Packet> {
        let receiver = picture
            .host
            .run(|| UdpSocket::bind((destination, PORT)).unwrap());
        let wildcard = SocketAddr::new("::".parse().unwrap(), 0);
        let sender = picture.container.run(|| UdpSocket::bind(wildcard).unwrap());
        let destination = match destination {
            IpAddr::V4(ip) => ip.to_ipv6_mapped(),
            IpAddr::V6(ip) => ip,
        };
        let capture = Capture::start(&picture.host, "veth1").unwrap();
        sender.send_to(payload, (destination, PORT)).unwrap();
        receiver
            .set_read_timeout(Some(Duration::from_secs(2)))
            .unwrap();
        let mut buffer = vec![0; 65536];
        let (len, _) = receiver.recv_from(&mut buffer).unwrap();
        assert_eq!(&buffer[..len], payload);
        capture
            .stop()
            .unwrap()
            .into_iter()
            .filter(Packet::is_about_udp)
            .collect()
    }

    #[test]
    fn fragments_are_told_from_datagrams() {
        in_namespaces(
            "lab::capture::tests::fragments_are_told_from_datagrams",
            || {
                let picture = DockerHost::new().unwrap();
                for destination in [DockerHost::HOST.into(), DockerHost::HOST_V6.into()] {
                    let packets = one_datagram(&picture, destination, &[7; 4000]);
                    assert_eq!(packets.len(), 3, "{packets:?}");
                    let pieces: usize = packets
                        .iter()
                        .map(|packet| match packet.kind {
                            Kind::Fragment { protocol: 17, len } => len,
                            ref other => panic!("{other:?} is no fragment"),
                        })
                        .sum();
                    assert_eq!(pieces, 4008, "4000 bytes of payload and a UDP header");
                }
            },
        );
    }

    /// A train sent with UDP_SEGMENT (udp(7)) is one frame while the device cuts trains itself.
    #[test]
    fn trains_are_whole_until_the_offloads_are_off() {
        in_namespaces(
            "lab::capture::tests::trains_are_whole_until_the_offloads_are_off",
            || {
                let picture = DockerHost::new().unwrap();
                let lengths = || {
                    let bind = || UdpSocket::bind((DockerHost::HOST, PORT)).unwrap();
                    let _receiver = picture.host.run(bind);
                    let sender = picture
                        .container
                        .run(|| UdpSocket::bind("0.0.0.0:0").unwrap());
                    let capture = Capture::start(&picture.host, "veth1").unwrap();
                    send_train(&sender, &[7; 60_500], 1000, (DockerHost::HOST, PORT).into());
                    let packets = capture.stop().unwrap();
                    assert!(packets.is_sorted_by_key(|packet| packet.at));
                    assert!(packets.iter().all(|packet| packet.at > Duration::ZERO));
                    packets
                        .iter()
                        .filter_map(|packet| match packet.kind {
                            Kind::Udp { payload_len, .. } if !packet.is_outgoing => {
                                Some(payload_len)
                            }
                            _ => None,
                        })
                        .collect::<Vec<_>>()
                };
                assert_eq!(lengths(), [60_500]);
                picture.container.run(|| {
                    ethtool::set_feature("eth0", "tx-udp-segmentation", false).unwrap();
                    ethtool::set_feature("eth0", "tx-checksum-ip-generic", false).unwrap();
                });
                let mut segments = vec![1000; 60];
                segments.push(500);
                assert_eq!(lengths(), segments);
            },
        );
    }

    /// One send of `payload` to be cut after every `segment_len` bytes (UDP_SEGMENT in udp(7)).
    fn send_train(socket: &UdpSocket, payload: &[u8], segment_len: u16, peer: SocketAddr) {
        // A cmsghdr and its u16 in cmsg(3)'s layout, padded to its alignment.
        let len = size_of::<libc::cmsghdr>() + size_of::<u16>();
        let mut control = len.to_ne_bytes().to_vec();
        control.extend(libc::SOL_UDP.to_ne_bytes());
        control.extend(libc::UDP_SEGMENT.to_ne_bytes());
        control.extend(segment_len.to_ne_bytes());
        control.resize(len.next_multiple_of(size_of::<usize>()), 0);
        let payload = [IoSlice::new(payload)];
        let address = SockAddr::from(peer);
        let message = MsgHdr::new()
            .with_addr(&address)
            .with_buffers(&payload)
            .with_control(&control);
        SockRef::from(socket).sendmsg(&message, 0).unwrap();
    }

    #[test]
    fn what_was_sent_before_the_link_went_down_is_recorded() {
        let name = "lab::capture::tests::what_was_sent_before_the_link_went_down_is_recorded";
        in_namespaces(name, || {
            let picture = DockerHost::new().unwrap();
            let sender = picture
                .container
                .run(|| UdpSocket::bind("0.0.0.0:0").unwrap());
            let capture = Capture::start(&picture.host, "veth1").unwrap();
            sender
                .send_to(b"last words", (DockerHost::DOCKER0, PORT))
                .unwrap();
            picture.host.set_down("veth1").unwrap();
            let packets = capture.stop().unwrap();
            let about_udp: Vec<_> = packets
                .iter()
                .filter(|packet| packet.is_about_udp())
                .collect();
            assert!(
                matches!(
                    about_udp[0].kind,
                    Kind::Udp {
                        payload_len: 10,
                        ..
                    }
                ),
                "{packets:?}"
            );
        });
    }

    #[test]
    fn a_capture_on_a_missing_interface_says_so() {
        in_namespaces(
            "lab::capture::tests::a_capture_on_a_missing_interface_says_so",
            || {
                let namespace = Namespace::new().unwrap();
                let error = Capture::start(&namespace, "eth7").unwrap_err();
                assert!(
                    error.to_string().starts_with("look up interface eth7: "),
                    "{error}"
                );
            },
        );
    }
}
