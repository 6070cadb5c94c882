//! What really went over an interface: a recording of its packets.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

pub use crate::packet::{Kind, Packet};
use crate::sniffer::Sniffer;
use crate::topology::Namespace;
use reflector_udp::attempting;

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

/// How much longer than this after the stop, by the time of the frames, a capture reads on if
/// the interface is never quiet.
const STOP_PATIENCE: Duration = Duration::from_secs(1);

impl Capture {
    /// Starts a capture on `interface` in `namespace`: what is sent after the return is recorded.
    ///
    /// ENODEV when there is no such interface there.
    pub fn start(namespace: &Namespace, interface: &str) -> io::Result<Capture> {
        let index = namespace.interface_index(interface)?;
        let sniffer = namespace
            .run(|| Sniffer::open(index))
            .map_err(attempting(format_args!("capture on {interface}")))?;
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = Arc::clone(&stop);
        let thread = std::thread::Builder::new()
            .name("capture".to_owned())
            .spawn(move || record(sniffer, &stopped))?;
        Ok(Capture {
            stop,
            thread: Some(thread),
        })
    }

    /// Stops, and returns all IP packets so far, in the order the interface saw them, including all
    /// that were sent before this call: when the interface has been quiet for 20 ms, or after a
    /// second.
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

fn record(mut sniffer: Sniffer, stop: &AtomicBool) -> io::Result<Vec<Packet>> {
    let mut packets = Vec::new();
    let mut stopped_at = None;
    loop {
        // Read before waiting: what was sent before the stop is then queued or on its way.
        let is_stopping = stop.load(Ordering::Relaxed);
        match sniffer.read(|packet| packets.push(packet))? {
            Some(at) if is_stopping && at > *stopped_at.get_or_insert(at) + STOP_PATIENCE => break,
            None if is_stopping => break,
            _ => {}
        }
    }
    match sniffer.drop_count()? {
        0 => Ok(packets),
        lost => Err(io::Error::other(format!(
            "the capture is incomplete: the kernel dropped {lost} frames; raise \
             net.core.rmem_max, or send less"
        ))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ethtool;
    use crate::topology::{DockerHost, in_namespaces};
    use socket2::{MsgHdr, SockAddr, SockRef};
    use std::io::IoSlice;
    use std::net::{IpAddr, SocketAddr, UdpSocket};

    const PORT: u16 = 5151;

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
        in_namespaces("capture::tests::fragments_are_told_from_datagrams", || {
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
        });
    }

    /// A train sent with UDP_SEGMENT (udp(7)) is one frame while the device cuts trains itself.
    #[test]
    fn trains_are_whole_until_the_offloads_are_off() {
        in_namespaces(
            "capture::tests::trains_are_whole_until_the_offloads_are_off",
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
        let name = "capture::tests::what_was_sent_before_the_link_went_down_is_recorded";
        in_namespaces(name, || {
            let picture = DockerHost::new().unwrap();
            let sender = picture
                .container
                .run(|| UdpSocket::bind("0.0.0.0:0").unwrap());
            let capture = Capture::start(&picture.host, "veth1").unwrap();
            sender
                .send_to(b"the last", (DockerHost::DOCKER0, PORT))
                .unwrap();
            picture.host.set_down("veth1").unwrap();
            let packets = capture.stop().unwrap();
            let about_udp: Vec<_> = packets
                .iter()
                .filter(|packet| packet.is_about_udp())
                .collect();
            assert!(
                matches!(about_udp[0].kind, Kind::Udp { payload_len: 8, .. }),
                "{packets:?}"
            );
        });
    }

    #[test]
    fn a_capture_on_a_missing_interface_says_so() {
        in_namespaces(
            "capture::tests::a_capture_on_a_missing_interface_says_so",
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
