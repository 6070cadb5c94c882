//! Clients of the namespace tests: what they ask, what the wire showed, what the kernel counted.

use std::fs;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV6, UdpSocket};

use reflector_netlab::capture::{Capture, Packet};
use reflector_netlab::naive::{NaiveServer, Wildcard};
use reflector_netlab::observe::{counter, counter6};
use reflector_netlab::topology::Namespace;

use crate::{PATIENCE, wait_until};

/// What a client sends; the reply is the same.
pub const PAYLOAD: &[u8] = b"ping";

/// A question asked over a connected socket, which only an answer from the address asked reaches:
/// any other the client's kernel refuses with ICMP port unreachable.
pub struct Question {
    socket: UdpSocket,
    /// Where the client is.
    pub client: SocketAddr,
    /// Whom it asked.
    pub asked: SocketAddr,
}

impl Question {
    /// Asks `ip` from `namespace`, by a fresh port and the source that the routes prefer.
    pub fn ask(namespace: &Namespace, ip: impl Into<IpAddr>, port: u16) -> Self {
        let ip = ip.into();
        Self::ask_from(namespace, wildcard_of(ip), ip, port)
    }

    /// The same, from the address `source` of the namespace.
    pub fn ask_from(namespace: &Namespace, source: IpAddr, ip: IpAddr, port: u16) -> Self {
        let asked = reachable(namespace, ip, port);
        let socket = client(namespace, source);
        socket.connect(asked).expect("there is a route");
        socket
            .send(PAYLOAD)
            .expect("the client's kernel takes a datagram");
        let client = socket.local_addr().expect("it is bound");
        Self {
            socket,
            client,
            asked,
        }
    }

    /// Waits for the answer, which is what was sent.
    pub fn assert_answered(&self) {
        let mut bytes = [0; 16];
        match self.socket.recv(&mut bytes) {
            Ok(len) => assert_eq!(&bytes[..len], PAYLOAD),
            Err(error) => panic!("no answer from {}: {error}", self.asked),
        }
    }

    /// Waits for the ICMP error that says that nobody listens there.
    pub fn assert_refused(&self) {
        let error = self.socket.recv(&mut [0; 16]).expect_err("nobody answers");
        assert_eq!(error.kind(), io::ErrorKind::ConnectionRefused, "{error}");
    }

    /// Whether nothing has come, neither an answer nor an error.
    pub fn is_unanswered(&self) -> bool {
        self.socket
            .set_nonblocking(true)
            .expect("a socket can be non-blocking");
        let result = self.socket.recv(&mut [0; 16]);
        matches!(result, Err(error) if error.kind() == io::ErrorKind::WouldBlock)
    }

    /// The question as a capture shows it.
    pub fn request(&self) -> String {
        datagram(self.client, self.asked)
    }

    /// A reply from the address asked, as a capture shows it.
    pub fn reply(&self) -> String {
        self.reply_from(self.asked.ip())
    }

    /// A reply from `source`, as a capture shows it.
    pub fn reply_from(&self, source: IpAddr) -> String {
        datagram(SocketAddr::new(source, self.asked.port()), self.client)
    }

    /// The client's refusal of a reply from `source`, as a capture shows it.
    pub fn refusal_of(&self, source: IpAddr) -> String {
        let icmp = if source.is_ipv4() { "ICMP" } else { "ICMP6" };
        let (client, port) = (self.client.ip(), self.client.port());
        format!("{client} > {source}: {icmp} udp port {port} unreachable")
    }
}

/// A socket in `namespace` on a fresh port of `source`, which waits no longer than [`PATIENCE`].
pub fn client(namespace: &Namespace, source: IpAddr) -> UdpSocket {
    let source = reachable(namespace, source, 0);
    let socket = namespace
        .run(|| UdpSocket::bind(source))
        .expect("the namespace has the address");
    socket
        .set_read_timeout(Some(PATIENCE))
        .expect("it is not zero");
    socket
}

/// The wildcard address of the family of `ip`.
pub fn wildcard_of(ip: IpAddr) -> IpAddr {
    match ip {
        IpAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
        IpAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
    }
}

/// `ip` and `port` as a socket in `namespace` names them: a link-local address with `eth0`.
pub fn reachable(namespace: &Namespace, ip: IpAddr, port: u16) -> SocketAddr {
    match ip {
        IpAddr::V6(ip) if ip.is_unicast_link_local() => {
            let scope = namespace.interface_index("eth0").expect("it has an eth0");
            SocketAddrV6::new(ip, port, 0, scope).into()
        }
        _ => SocketAddr::new(ip, port),
    }
}

fn datagram(from: SocketAddr, to: SocketAddr) -> String {
    let len = PAYLOAD.len();
    let ((from, from_port), (to, to_port)) = ((from.ip(), from.port()), (to.ip(), to.port()));
    format!("{from}.{from_port} > {to}.{to_port}: UDP, length {len}")
}

/// What `body` returns, and the packets about UDP that `interface` saw meanwhile.
pub fn watch_packets<T>(
    namespace: &Namespace,
    interface: &str,
    body: impl FnOnce() -> T,
) -> (T, Vec<Packet>) {
    let capture = Capture::start(namespace, interface).expect("the interface can be captured");
    let result = body();
    let mut packets = capture.stop().expect("the capture is complete");
    packets.retain(Packet::is_about_udp);
    (result, packets)
}

/// The same, one line for each packet.
pub fn watch<T>(
    namespace: &Namespace,
    interface: &str,
    body: impl FnOnce() -> T,
) -> (T, Vec<String>) {
    let (result, packets) = watch_packets(namespace, interface, body);
    (result, packets.iter().map(Packet::to_string).collect())
}

/// `client` asks, and its kernel refuses the reply, which comes from `naive`, since no socket there
/// expects it: seen at an interface of a namespace.
pub fn assert_refuses(
    client: &Namespace,
    (namespace, interface): (&Namespace, &str),
    naive: IpAddr,
    ask: impl FnOnce() -> Question,
) {
    let before = no_ports(client, naive);
    let (question, wire) = watch(namespace, interface, || {
        let question = ask();
        wait_until("the client has no such port", || {
            no_ports(client, naive) > before
        });
        question
    });
    assert!(question.is_unanswered());
    let expected = [
        question.request(),
        question.reply_from(naive),
        question.refusal_of(naive),
    ];
    assert_eq!(wire, expected);
}

/// Datagrams of the family of `ip` that found no socket in `namespace` (NoPorts).
pub fn no_ports(namespace: &Namespace, ip: IpAddr) -> u64 {
    match ip {
        IpAddr::V4(_) => counter(namespace, "Udp", "NoPorts"),
        IpAddr::V6(_) => counter6(namespace, "Udp6NoPorts"),
    }
    .expect("every kernel counts it")
}

/// Runs `body` beside a naive server, and frees the port for the next.
pub fn beside_naive_server<T>(
    namespace: &Namespace,
    wildcard: Wildcard,
    port: u16,
    body: impl FnOnce() -> T,
) -> T {
    let server = NaiveServer::start(namespace, wildcard, port).expect("the port is free");
    let result = body();
    drop(server);
    // A child that another test forks at this moment has a copy of the socket until it execs.
    wait_until("the port is free again", || {
        sockets_on(namespace, port).is_empty()
    });
    result
}

/// Sends to a stopped program in `server`, and waits until the datagram is in one of its sockets.
pub fn queue(client: &UdpSocket, payload: &[u8], server: &Namespace, asked: SocketAddr) {
    let before = queued_bytes(server, asked.port());
    client
        .send_to(payload, asked)
        .expect("the client's kernel takes a datagram");
    wait_until("the datagram is queued", || {
        queued_bytes(server, asked.port()) > before
    });
}

/// Memory that unread datagrams take in the sockets on `port`.
fn queued_bytes(namespace: &Namespace, port: u16) -> u64 {
    sockets_on(namespace, port).iter().sum()
}

/// The UDP sockets on `port`: for each the memory that its unread datagrams take (`rx_queue` in
/// /proc/net/udp).
fn sockets_on(namespace: &Namespace, port: u16) -> Vec<u64> {
    let tables = namespace.run(|| {
        ["udp", "udp6"].map(|table| fs::read_to_string(format!("/proc/thread-self/net/{table}")))
    });
    let port = format!(":{port:04X}");
    tables
        .iter()
        .flatten()
        .flat_map(|table| table.lines().skip(1))
        .filter_map(|line| {
            // Slot, local address, remote address, state, tx_queue:rx_queue.
            let fields: Vec<&str> = line.split_whitespace().take(5).collect();
            let (_, received) = fields.get(4)?.split_once(':')?;
            let is_ours = fields[1].ends_with(&port);
            is_ours.then(|| u64::from_str_radix(received, 16).expect("it is hexadecimal"))
        })
        .collect()
}
