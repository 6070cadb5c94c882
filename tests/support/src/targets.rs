//! UDP echo services with one known fault each, on loopback: what a judge of answers is judged by.

use std::collections::VecDeque;
use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::os::fd::AsFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use reflector_measure::clock;
use reflector_udp::sockopt;

/// What is wrong with a target. Datagrams are counted from 1, in the order of their arrival.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// Nothing: every datagram comes back.
    None,
    /// Nothing comes back.
    Silence,
    /// What the first peer sends does not come back.
    FirstPeer,
    /// Every tenth does not come back.
    DropTenth,
    /// Each comes back twice.
    Duplicate,
    /// Of each two, the second comes back first.
    Swap,
    /// The last byte of every tenth is another one.
    CorruptTenth,
    /// Every tenth comes back without its last byte.
    CutTenth,
    /// Every tenth comes back after this time.
    DelayTenth(Duration),
    /// What comes back has another source port.
    OtherPort,
    /// What comes back is "no".
    Foreign,
}

/// A running target. Stopped when dropped.
pub struct Target {
    /// Where it is asked.
    pub addr: SocketAddr,
    /// Where it answers from with [`Fault::OtherPort`].
    pub other_addr: SocketAddr,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

/// How long the thread sleeps in `recv_from` before it looks what else there is to do.
const POLL_INTERVAL: Duration = Duration::from_millis(5);
/// Room for everything that a test sends, should the thread not run for a while.
const RECEIVE_BUFFER_LEN: i32 = 64 << 20;

impl Target {
    /// A target with `fault` on a free port of 127.0.0.1.
    pub fn start(fault: Fault) -> Self {
        let open = || UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).expect("a socket on loopback");
        let (socket, other) = (open(), open());
        socket
            .set_read_timeout(Some(POLL_INTERVAL))
            .expect("a timeout above 0");
        enlarge(&socket);
        let addr = |socket: &UdpSocket| socket.local_addr().expect("it is bound");
        let (addr, other_addr) = (addr(&socket), addr(&other));
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = Arc::clone(&stop);
        let thread = std::thread::spawn(move || serve(fault, &socket, &other, &stopped));
        Self {
            addr,
            other_addr,
            stop,
            thread: Some(thread),
        }
    }
}

impl Drop for Target {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

pub(crate) fn enlarge(socket: &impl AsFd) {
    let set = |option| sockopt::set_int(socket, libc::SOL_SOCKET, option, RECEIVE_BUFFER_LEN);
    // Without the privilege as far as the system allows.
    let _ = set(libc::SO_RCVBUFFORCE).or_else(|_| set(libc::SO_RCVBUF));
}

fn serve(fault: Fault, socket: &UdpSocket, other: &UdpSocket, stop: &AtomicBool) {
    let mut bytes = [0; 65_535];
    let mut held: VecDeque<(Instant, SocketAddr, Vec<u8>)> = VecDeque::new();
    let mut count = 0u64;
    let mut first_peer = None;
    while !stop.load(Ordering::Relaxed) {
        let now = clock::monotonic();
        while held.front().is_some_and(|&(due, ..)| due <= now) {
            let (_, peer, payload) = held.pop_front().expect("there is one");
            reply(socket, &payload, peer);
        }
        let Ok((len, peer)) = socket.recv_from(&mut bytes) else {
            continue;
        };
        count += 1;
        let payload = &mut bytes[..len];
        let is_tenth = count.is_multiple_of(10);
        match fault {
            Fault::Silence => {}
            Fault::FirstPeer if *first_peer.get_or_insert(peer) == peer => {}
            Fault::DropTenth if is_tenth => {}
            Fault::CutTenth if is_tenth => reply(socket, &payload[..len - 1], peer),
            Fault::DelayTenth(delay) if is_tenth => {
                held.push_back((now + delay, peer, payload.to_vec()));
            }
            Fault::Duplicate => {
                reply(socket, payload, peer);
                reply(socket, payload, peer);
            }
            // Goes out when the next one has.
            Fault::Swap if !count.is_multiple_of(2) => {
                held.push_back((now + Duration::from_secs(3600), peer, payload.to_vec()));
            }
            Fault::Swap => {
                reply(socket, payload, peer);
                let (_, peer, payload) = held.pop_front().expect("the first of the two");
                reply(socket, &payload, peer);
            }
            Fault::OtherPort => reply(other, payload, peer),
            Fault::Foreign => reply(socket, b"no", peer),
            _ => {
                if fault == Fault::CorruptTenth && is_tenth {
                    payload[len - 1] ^= 0x40;
                }
                reply(socket, payload, peer);
            }
        }
    }
}

fn reply(socket: &UdpSocket, payload: &[u8], peer: SocketAddr) {
    // Whoever asked may have ended.
    let _ = socket.send_to(payload, peer);
}
