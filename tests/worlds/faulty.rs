//! A service with faults, and what it did.

use std::net::{SocketAddr, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use reflector_netlab::topology::Namespace;
use reflector_udp::sockopt;

use super::world::Faults;

/// What it did.
#[derive(Clone, Copy, Debug, Default)]
pub struct Done {
    pub received: u64,
    pub duplicated: u64,
    pub from_elsewhere: u64,
    pub swapped: u64,
}

pub struct Faulty {
    stop: Arc<AtomicBool>,
    thread: JoinHandle<Done>,
}

/// Room for all that a world sends while it stands still.
const RECEIVE_BUFFER_LEN: i32 = 64 << 20;
/// Datagrams before it stands still.
const STALL_AFTER: u64 = 50;

impl Faulty {
    pub fn start(namespace: &Namespace, addr: SocketAddr, faults: Faults) -> Self {
        let (socket, other) = namespace.run(|| {
            let open = |addr: SocketAddr| UdpSocket::bind(addr).expect("the port is free");
            (open(addr), open(SocketAddr::new(addr.ip(), 0)))
        });
        socket
            .set_read_timeout(Some(Duration::from_millis(5)))
            .expect("it is not 0");
        let set = |option| sockopt::set_int(&socket, libc::SOL_SOCKET, option, RECEIVE_BUFFER_LEN);
        let _ = set(libc::SO_RCVBUFFORCE).or_else(|_| set(libc::SO_RCVBUF));
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = Arc::clone(&stop);
        let thread = thread::spawn(move || serve(&socket, &other, &faults, &stopped));
        Self { stop, thread }
    }

    pub fn stop(self) -> Done {
        self.stop.store(true, Ordering::Relaxed);
        self.thread.join().expect("it does not panic")
    }
}

fn serve(socket: &UdpSocket, other: &UdpSocket, faults: &Faults, stop: &AtomicBool) -> Done {
    let mut done = Done::default();
    let mut bytes = [0; 65_535];
    let mut held: Option<(Vec<u8>, SocketAddr)> = None;
    loop {
        let Ok((len, peer)) = socket.recv_from(&mut bytes) else {
            if let Some((held, peer)) = held.take() {
                let _ = socket.send_to(&held, peer);
            }
            if stop.load(Ordering::Relaxed) {
                return done;
            }
            continue;
        };
        done.received += 1;
        let is_one_of =
            |every: Option<u64>| every.is_some_and(|it| done.received.is_multiple_of(it));
        if let Some(stall) = faults.stall.filter(|_| done.received == STALL_AFTER) {
            thread::sleep(stall);
        }
        let payload = &bytes[..len];
        if is_one_of(faults.other_port) {
            done.from_elsewhere += 1;
            let _ = other.send_to(payload, peer);
        } else if held.is_none() && is_one_of(faults.swap) {
            held = Some((payload.to_vec(), peer));
            continue;
        } else {
            let is_twice = is_one_of(faults.duplicate);
            for _ in 0..1 + u64::from(is_twice) {
                let _ = socket.send_to(payload, peer);
            }
            done.duplicated += u64::from(is_twice);
        }
        if let Some((held, to)) = held.take() {
            done.swapped += u64::from(to == peer);
            let _ = socket.send_to(&held, to);
        }
    }
}
