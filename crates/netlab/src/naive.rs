//! A deliberately wrong echo server: the bug of moby#15127, kept so that tests can fail.

use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use socket2::{Domain, Socket, Type};

use crate::topology::Namespace;
use reflector_udp::attempting;

/// The wildcard address a server listens on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wildcard {
    /// `0.0.0.0`.
    Ipv4,
    /// `[::]` with IPV6_V6ONLY off: IPv4 peers appear as `::ffff:a.b.c.d`.
    DualStack,
}

/// An echo server that answers with `recv_from` and `send_to` on a wildcard socket.
///
/// What is wrong with it: `recv_from` tells who sent the datagram but not which local address it
/// was sent to, and `send_to` lets the kernel choose the source by the route to the peer. On a
/// host with several addresses that is often not the address that was asked: a container that
/// asks the host's 172.16.13.13 is answered from docker0's 172.17.0.1. Its connected socket does
/// not match, so its kernel returns ICMP port unreachable; behind NAT or a stateful filter
/// conntrack knows no such flow, and the datagram goes astray (moby#15127).
///
/// A test that a right server passes is run against this one too, and must fail in this way.
/// Dropping it stops the thread and frees the port.
#[derive(Debug)]
pub struct NaiveServer {
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
    port: u16,
}

/// How long the thread sleeps in `recv_from` before it looks whether to stop.
const STOP_LATENCY: Duration = Duration::from_millis(20);

impl NaiveServer {
    /// A server on `port` (0: any free one) of `wildcard` in `namespace`, ready on return.
    ///
    /// EADDRINUSE when the port is taken there.
    pub fn start(namespace: &Namespace, wildcard: Wildcard, port: u16) -> io::Result<NaiveServer> {
        let address = match wildcard {
            Wildcard::Ipv4 => SocketAddr::from((Ipv4Addr::UNSPECIFIED, port)),
            Wildcard::DualStack => SocketAddr::from((Ipv6Addr::UNSPECIFIED, port)),
        };
        NaiveServer::bind(namespace, address)
    }

    /// A server on `address` in `namespace`, ready on return; `[::]` also serves IPv4.
    ///
    /// EADDRINUSE when the port is taken there, EADDRNOTAVAIL when the address is not there.
    pub fn bind(namespace: &Namespace, address: SocketAddr) -> io::Result<NaiveServer> {
        let socket = namespace
            .run(|| open(address))
            .map_err(attempting(format_args!("open a naive server on {address}")))?;
        let port = socket.local_addr()?.port();
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = Arc::clone(&stop);
        // The socket stays in the namespace it was made in, wherever the thread runs.
        let thread = std::thread::Builder::new()
            .name("naive-server".to_owned())
            .spawn(move || echo(&socket, &stopped))?;
        Ok(NaiveServer {
            stop,
            thread: Some(thread),
            port,
        })
    }

    /// The port it listens on.
    pub fn port(&self) -> u16 {
        self.port
    }
}

impl Drop for NaiveServer {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            thread.join().expect("the naive server does not panic");
        }
    }
}

fn open(address: SocketAddr) -> io::Result<UdpSocket> {
    let socket = Socket::new(Domain::for_address(address), Type::DGRAM, None)?;
    if address.is_ipv6() && address.ip().is_unspecified() {
        socket.set_only_v6(false)?;
    }
    socket.set_read_timeout(Some(STOP_LATENCY))?;
    socket.bind(&address.into())?;
    Ok(socket.into())
}

fn echo(socket: &UdpSocket, stop: &AtomicBool) {
    let mut buffer = vec![0; usize::from(u16::MAX)];
    while !stop.load(Ordering::Relaxed) {
        if let Ok((len, peer)) = socket.recv_from(&mut buffer) {
            // A reply that cannot be sent is lost, as on any network.
            let _ = socket.send_to(&buffer[..len], peer);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::capture::{Capture, Packet};
    use crate::observe::{conntrack, counter, counter6};
    use crate::topology::{DockerHost, in_force, in_namespaces};
    use std::net::IpAddr;

    const PORT: u16 = 5151;

    /// How long an answer may take: silence costs a test this long.
    const PATIENCE: Duration = Duration::from_millis(700);

    fn path(test: &str) -> String {
        format!("naive::tests::{test}")
    }

    /// What a client in `namespace` gets that asks `server`: its port, and the answer if any.
    fn ask(namespace: &Namespace, server: impl Into<IpAddr>) -> (u16, io::Result<usize>) {
        let server = SocketAddr::new(server.into(), PORT);
        let wildcard = if server.is_ipv4() {
            "0.0.0.0:0"
        } else {
            "[::]:0"
        };
        let client = namespace.run(|| UdpSocket::bind(wildcard).unwrap());
        client.set_read_timeout(Some(PATIENCE)).unwrap();
        client.connect(server).unwrap();
        client.send(b"ping").unwrap();
        (
            client.local_addr().unwrap().port(),
            client.recv(&mut [0; 8]),
        )
    }

    fn lines(capture: Capture) -> Vec<String> {
        let packets = capture.stop().unwrap();
        packets
            .iter()
            .filter(|packet| packet.is_about_udp())
            .map(Packet::to_string)
            .collect()
    }

    /// moby#15127: the container asks the host's other address and docker0's answers.
    #[test]
    fn the_hairpin_is_answered_from_the_wrong_address() {
        in_namespaces(
            &path("the_hairpin_is_answered_from_the_wrong_address"),
            || {
                for wildcard in [Wildcard::Ipv4, Wildcard::DualStack] {
                    let picture = DockerHost::new().unwrap();
                    let _server = NaiveServer::start(&picture.host, wildcard, PORT).unwrap();
                    let capture = Capture::start(&picture.host, "docker0").unwrap();
                    let (port, answer) = ask(&picture.container, DockerHost::HOST);
                    assert!(answer.is_err());
                    assert_eq!(
                        lines(capture),
                        [
                            format!("172.17.0.3.{port} > 172.16.13.13.5151: UDP, length 4"),
                            format!("172.17.0.1.5151 > 172.17.0.3.{port}: UDP, length 4"),
                            format!("172.17.0.3 > 172.17.0.1: ICMP udp port {port} unreachable"),
                        ]
                    );
                    let of_container =
                        |group, name| counter(&picture.container, group, name).unwrap();
                    assert_eq!(of_container("Udp", "NoPorts"), 1);
                    assert_eq!(of_container("Udp", "InDatagrams"), 0);
                    assert_eq!(of_container("Icmp", "OutDestUnreachs"), 1);
                }
            },
        );
    }

    #[test]
    fn the_hairpin_is_as_wrong_in_ipv6() {
        in_namespaces(&path("the_hairpin_is_as_wrong_in_ipv6"), || {
            let picture = DockerHost::new().unwrap();
            let _server = NaiveServer::start(&picture.host, Wildcard::DualStack, PORT).unwrap();
            let capture = Capture::start(&picture.host, "docker0").unwrap();
            let (port, answer) = ask(&picture.container, DockerHost::HOST_V6);
            assert!(answer.is_err());
            assert_eq!(
                lines(capture),
                [
                    format!("fd17::3.{port} > fd13::13.5151: UDP, length 4"),
                    format!("fd17::1.5151 > fd17::3.{port}: UDP, length 4"),
                    format!("fd17::3 > fd17::1: ICMP6 udp port {port} unreachable"),
                ]
            );
            assert_eq!(counter6(&picture.container, "Udp6NoPorts").unwrap(), 1);
            assert_eq!(
                counter6(&picture.container, "Icmp6OutDestUnreachs").unwrap(),
                1
            );
        });
    }

    /// Asked at the address that the route prefers, the naive server is right by luck.
    #[test]
    fn the_preferred_address_is_answered() {
        in_namespaces(&path("the_preferred_address_is_answered"), || {
            let picture = DockerHost::new().unwrap();
            let server = NaiveServer::start(&picture.host, Wildcard::DualStack, PORT).unwrap();
            assert_eq!(server.port(), PORT);
            assert_eq!(ask(&picture.container, DockerHost::DOCKER0).1.unwrap(), 4);
            assert_eq!(
                ask(&picture.container, DockerHost::DOCKER0_V6).1.unwrap(),
                4
            );
            NaiveServer::start(&picture.host, Wildcard::Ipv4, PORT).unwrap_err();
            drop(server);
            NaiveServer::start(&picture.host, Wildcard::Ipv4, PORT).unwrap();
        });
    }

    /// Behind MASQUERADE the answer matches no entry, and the host itself refuses it.
    #[test]
    fn behind_nat_the_answer_is_refused_by_the_host() {
        let name = path("behind_nat_the_answer_is_refused_by_the_host");
        in_namespaces(&name, || {
            let picture = DockerHost::new().unwrap();
            if !in_force(&name, picture.masquerade()) {
                return;
            }
            let _server = NaiveServer::start(&picture.outside, Wildcard::Ipv4, PORT).unwrap();
            let capture = Capture::start(&picture.host, "eth0").unwrap();
            let (port, answer) = ask(&picture.container, DockerHost::OUTSIDE_SECOND);
            assert!(answer.is_err());
            let packets = capture.stop().unwrap();
            let packets: Vec<_> = packets
                .iter()
                .filter(|packet| packet.is_about_udp())
                .collect();
            let [request, reply, refusal] = packets[..] else {
                panic!("{packets:?}")
            };
            assert_eq!(request.source.ip(), DockerHost::HOST);
            assert_eq!(reply.source.ip(), DockerHost::OUTSIDE);
            assert!(refusal.is_port_unreachable());
            assert_eq!(refusal.source.ip(), DockerHost::HOST);
            let entries = conntrack(&picture.host).unwrap();
            let udp = entries.iter().filter(|entry| entry.protocol == "udp");
            assert_eq!(udp.clone().count(), 2, "{entries:?}");
            assert!(udp.clone().all(|entry| !entry.is_replied), "{entries:?}");
            let source = SocketAddr::from((DockerHost::CONTAINER, port));
            assert!(
                udp.clone().any(|entry| entry.original.source == source),
                "{entries:?}"
            );
            assert_eq!(ask(&picture.container, DockerHost::OUTSIDE).1.unwrap(), 4);
            let entries = conntrack(&picture.host).unwrap();
            assert_eq!(entries.iter().filter(|entry| entry.is_replied).count(), 1);
        });
    }

    /// Behind a stateful filter the answer goes astray in silence.
    #[test]
    fn behind_a_stateful_filter_there_is_silence() {
        let name = path("behind_a_stateful_filter_there_is_silence");
        in_namespaces(&name, || {
            let picture = DockerHost::new().unwrap();
            if !in_force(&name, picture.stateful_filter()) {
                return;
            }
            let _server = NaiveServer::start(&picture.outside, Wildcard::Ipv4, PORT).unwrap();
            let capture = Capture::start(&picture.host, "docker0").unwrap();
            let (port, answer) = ask(&picture.container, DockerHost::OUTSIDE_SECOND);
            assert_eq!(answer.unwrap_err().kind(), io::ErrorKind::WouldBlock);
            let request = format!("172.17.0.3.{port} > 172.16.13.3.5151: UDP, length 4");
            assert_eq!(lines(capture), [request]);
            assert_eq!(ask(&picture.container, DockerHost::OUTSIDE).1.unwrap(), 4);
        });
    }
}
