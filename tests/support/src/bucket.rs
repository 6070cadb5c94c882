//! A UDP echo service of a known rate: what a search for the highest rate is judged by.

use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::os::fd::AsFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use reflector_udp::addr::parse_sockaddr;
use reflector_udp::cmsg::{self, Received};
use reflector_udp::memory::Lease;
use reflector_udp::mmsg::Inbox;
use reflector_udp::sockopt;
use rustix::event::{PollFd, PollFlags, Timespec, poll};

use crate::targets::enlarge;

/// Datagrams received in one call.
const BATCH: usize = 64;
/// How long the thread sleeps before it looks whether it is to stop.
const POLL_NS: i64 = 5_000_000;

/// An echo service that a token bucket limits. Stopped when dropped.
///
/// The tokens are counted by the kernel's receive timestamps, so that the rate is what it is
/// however the thread that answers is scheduled.
pub struct Bucket {
    /// Where it is asked.
    pub addr: SocketAddr,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Bucket {
    /// A service on a free port of 127.0.0.1 that answers `pps` datagrams a second, and as many at
    /// once as are due in `depth`.
    ///
    /// # Panics
    /// Where there is no socket or no memory.
    pub fn start(pps: f64, depth: Duration) -> Self {
        let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).expect("a socket on loopback");
        enlarge(&socket);
        sockopt::enable(&socket, libc::SOL_SOCKET, libc::SO_TIMESTAMPNS).expect("stamps");
        let addr = socket.local_addr().expect("it is bound");
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = Arc::clone(&stop);
        let thread = std::thread::spawn(move || serve(&socket, pps, depth, &stopped));
        Self {
            addr,
            stop,
            thread: Some(thread),
        }
    }
}

impl Drop for Bucket {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

fn serve(socket: &UdpSocket, pps: f64, depth: Duration, stop: &AtomicBool) {
    let leases = Lease::carve(BATCH as u16, 2048, 2048).expect("memory for a batch");
    let mut inbox = Inbox::new(leases, BATCH);
    let mut used = Vec::with_capacity(BATCH);
    let tokens_max = (pps * depth.as_secs_f64()).max(1.0);
    let (mut tokens, mut at_ns) = (tokens_max, 0);
    while !stop.load(Ordering::Relaxed) {
        let timeout = Timespec {
            tv_sec: 0,
            tv_nsec: POLL_NS,
        };
        let mut wanted = [PollFd::new(socket, PollFlags::IN)];
        let _ = poll(&mut wanted, Some(&timeout));
        let Ok(count) = inbox.receive(socket.as_fd()) else {
            continue;
        };
        for _ in 0..count {
            let (lease, incoming) = inbox.take();
            let stamp_ns = cmsg::received(incoming.control).find_map(|message| match message {
                Received::Timestamp(ns) => Some(ns),
                _ => None,
            });
            let now_ns = stamp_ns.expect("the kernel stamps what arrives");
            let peer = parse_sockaddr(incoming.name).expect("it has a sender");
            let passed_ns = now_ns.saturating_sub(at_ns);
            at_ns = at_ns.max(now_ns);
            tokens = f64::min(tokens + passed_ns as f64 * pps / 1e9, tokens_max);
            if tokens >= 1.0 {
                tokens -= 1.0;
                // Whoever asked may have ended.
                let _ = socket.send_to(&lease, peer);
            }
            used.push(lease);
        }
        used.drain(..).for_each(|lease| inbox.recycle(lease));
    }
}
