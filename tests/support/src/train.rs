//! A client that sends and receives trains, as one that is fast would.

use std::collections::VecDeque;
use std::io::{ErrorKind, IoSlice};
use std::net::{SocketAddr, UdpSocket};
use std::os::fd::AsFd;

use reflector_netlab::topology::Namespace;
use reflector_udp::cmsg::{self, Control, Received};
use reflector_udp::memory::Lease;
use reflector_udp::mmsg::Inbox;
use reflector_udp::sockopt;
use socket2::{MsgHdr, SockRef};

use crate::PATIENCE;

/// Room for all the answers that a test lets queue up.
const RECEIVE_BUFFER_LEN: i32 = 8 << 20;
/// Messages that one receive may bring.
const BUFFERS: u16 = 16;
/// The most that one UDP message, or one train, has.
const PAYLOAD_MAX: u32 = 65_535;

/// A UDP socket connected to the reflector, so that the kernel lets through what comes from the
/// address asked and nothing else.
pub struct Client {
    /// For what [`Client`] has no method for.
    pub socket: UdpSocket,
    inbox: Inbox,
    /// Buffers on their way back to the inbox.
    taken: Vec<Lease>,
    messages: VecDeque<Message>,
}

/// What one receive brought: a datagram, or a train of them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Message {
    /// The payloads, one after the other.
    pub bytes: Vec<u8>,
    /// Bytes of each datagram; the last may be shorter.
    pub segment_len: usize,
    /// Hops it had left, where the socket was asked to tell.
    pub hop_limit: Option<u8>,
    /// Its type of service, where the socket was asked to tell.
    pub tos: Option<u8>,
}

impl Message {
    /// A message whose hop limit and type of service nobody asked for.
    pub fn new(bytes: Vec<u8>, segment_len: usize) -> Self {
        Self {
            bytes,
            segment_len,
            hop_limit: None,
            tos: None,
        }
    }

    /// Each datagram by itself.
    pub fn datagrams(&self) -> Vec<Vec<u8>> {
        if self.bytes.is_empty() {
            return vec![Vec::new()];
        }
        self.bytes
            .chunks(self.segment_len)
            .map(<[u8]>::to_vec)
            .collect()
    }
}

impl Client {
    /// A client in `namespace` at `from` (unspecified address and port 0 for any) that asks `to`.
    pub fn connect(namespace: &Namespace, from: impl Into<SocketAddr>, to: SocketAddr) -> Self {
        let from = from.into();
        let socket = namespace.run(|| UdpSocket::bind(from)).expect("a socket");
        sockopt::enable(&socket, libc::SOL_UDP, libc::UDP_GRO).expect("Linux has it since 5.0");
        let force = sockopt::set_int(
            &socket,
            libc::SOL_SOCKET,
            libc::SO_RCVBUFFORCE,
            RECEIVE_BUFFER_LEN,
        );
        force
            .or_else(|_| SockRef::from(&socket).set_recv_buffer_size(RECEIVE_BUFFER_LEN as usize))
            .expect("some receive buffer");
        socket
            .set_read_timeout(Some(PATIENCE))
            .expect("it is not zero");
        socket.connect(to).expect("a route to the reflector");
        let leases = Lease::carve(BUFFERS, PAYLOAD_MAX, PAYLOAD_MAX as usize).expect("memory");
        Self {
            socket,
            inbox: Inbox::new(leases, usize::from(BUFFERS)),
            taken: Vec::new(),
            messages: VecDeque::new(),
        }
    }

    /// A client at any address and port.
    pub fn any(namespace: &Namespace, to: SocketAddr) -> Self {
        let from = if to.is_ipv4() { "0.0.0.0:0" } else { "[::]:0" };
        Self::connect(namespace, from.parse::<SocketAddr>().expect("literal"), to)
    }

    /// Where it sends from.
    pub fn addr(&self) -> SocketAddr {
        self.socket.local_addr().expect("it is bound")
    }

    /// From now on the socket tells the hop limit of every message.
    pub fn watch_hop_limits(&self) {
        let (level, option) = match self.addr() {
            SocketAddr::V4(_) => (libc::SOL_IP, libc::IP_RECVTTL),
            SocketAddr::V6(_) => (libc::SOL_IPV6, libc::IPV6_RECVHOPLIMIT),
        };
        sockopt::enable(&self.socket, level, option).expect("every kernel has it");
    }

    /// What is sent from now on may take `hops` hops.
    pub fn set_hop_limit(&self, hops: u8) {
        let (level, option) = match self.addr() {
            SocketAddr::V4(_) => (libc::SOL_IP, libc::IP_TTL),
            SocketAddr::V6(_) => (libc::SOL_IPV6, libc::IPV6_UNICAST_HOPS),
        };
        sockopt::set_int(&self.socket, level, option, hops.into()).expect("1 to 255");
    }

    /// From now on the socket tells the type of service of every message.
    pub fn watch_tos(&self) {
        let (level, option) = match self.addr() {
            SocketAddr::V4(_) => (libc::SOL_IP, libc::IP_RECVTOS),
            SocketAddr::V6(_) => (libc::SOL_IPV6, libc::IPV6_RECVTCLASS),
        };
        sockopt::enable(&self.socket, level, option).expect("every kernel has it");
    }

    /// What is sent from now on is of this type of service.
    pub fn set_tos(&self, tos: u8) {
        let (level, option) = match self.addr() {
            SocketAddr::V4(_) => (libc::SOL_IP, libc::IP_TOS),
            SocketAddr::V6(_) => (libc::SOL_IPV6, libc::IPV6_TCLASS),
        };
        sockopt::set_int(&self.socket, level, option, tos.into()).expect("any byte");
    }

    /// Sends one datagram.
    pub fn send(&self, datagram: &[u8]) {
        self.socket.send(datagram).expect("the datagram is sent");
    }

    /// Sends `payload` as one train with a datagram every `segment_len` bytes (`UDP_SEGMENT`,
    /// udp(7)). Returns its datagrams.
    pub fn send_train(&self, payload: &[u8], segment_len: usize) -> Vec<Vec<u8>> {
        let mut control = Control::EMPTY;
        control.push_segment_len(segment_len as u16);
        let buffers = [IoSlice::new(payload)];
        let message = MsgHdr::new()
            .with_buffers(&buffers)
            .with_control(control.as_bytes());
        SockRef::from(&self.socket)
            .sendmsg(&message, 0)
            .expect("the train is sent");
        payload.chunks(segment_len).map(<[u8]>::to_vec).collect()
    }

    /// The next message, whenever it comes.
    pub fn receive(&mut self) -> Message {
        while self.messages.is_empty() {
            // An error that the network reports, port unreachable above all, comes out here.
            self.socket.peek(&mut [0]).expect("an answer comes");
            self.take_queued();
        }
        self.messages.pop_front().expect("there is one")
    }

    /// Exactly `count` datagrams, whatever messages they come in.
    pub fn datagrams(&mut self, count: usize) -> Vec<Vec<u8>> {
        let mut datagrams = Vec::with_capacity(count);
        while datagrams.len() < count {
            datagrams.extend(self.receive().datagrams());
        }
        assert_eq!(datagrams.len(), count, "no more than was asked for");
        datagrams
    }

    /// Receives as many datagrams as are `sent`; they must be the same, in the same order.
    pub fn expect_back(&mut self, sent: &[Vec<u8>]) {
        let received = self.datagrams(sent.len());
        let first_wrong = received
            .iter()
            .zip(sent)
            .position(|(got, want)| got != want);
        assert_eq!(first_wrong, None, "of {} datagrams", sent.len());
    }

    /// What has come and was not asked for. Proves something once the reflector has ended.
    pub fn leftover(&mut self) -> Vec<Message> {
        self.take_queued();
        self.messages.drain(..).collect()
    }

    fn take_queued(&mut self) {
        loop {
            let count = match self.inbox.receive(self.socket.as_fd()) {
                Ok(count) => count,
                Err(error) if error.kind() == ErrorKind::WouldBlock => return,
                // Of a reflector that has ended: the port is not reachable any more.
                Err(error) if error.kind() == ErrorKind::ConnectionRefused => return,
                Err(error) => panic!("cannot receive: {error}"),
            };
            for _ in 0..count {
                let (lease, incoming) = self.inbox.take();
                let mut message = Message::new(lease.to_vec(), lease.len());
                for control in cmsg::received(incoming.control) {
                    match control {
                        Received::SegmentLen(len) => message.segment_len = len as usize,
                        Received::HopLimit(hops) => message.hop_limit = Some(hops),
                        Received::Tos(tos) => message.tos = Some(tos),
                        _ => {}
                    }
                }
                self.messages.push_back(message);
                self.taken.push(lease);
            }
            // Only now: the inbox tells its messages apart by the number of free buffers.
            for lease in self.taken.drain(..) {
                self.inbox.recycle(lease);
            }
        }
    }
}
