//! The load of the bench: flows of trains or singles, a window of unanswered datagrams each.
//!
//! Closed loop on purpose: the question is what the server can do, and a window keeps the queues
//! short enough that nothing is lost on the way. (`Outcome::lost` says if anything was.)

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::AsFd;
use std::time::Duration;

use reflector::internals::datagram::segment_count;
use reflector_measure::clock;
use reflector_udp::addr::PeerAddr;
use reflector_udp::cmsg::{self, Received};
use reflector_udp::memory::Lease;
use reflector_udp::mmsg::{Inbox, Outbox, Piece};
use reflector_udp::sockopt;
use socket2::{Domain, Protocol, SockAddr, Socket, Type};

/// What is offered.
#[derive(Clone, Copy, Debug)]
pub struct Load {
    /// Payload bytes of each datagram.
    pub payload_len: u16,
    /// Datagrams in each train; 1 sends singles.
    pub train_len: u16,
    /// Source ports.
    pub flows: usize,
    /// Unanswered datagrams per flow at most.
    pub window: u64,
}

/// What came of it.
#[derive(Clone, Copy, Debug, Default)]
pub struct Outcome {
    /// Datagrams answered.
    pub answered: u64,
    /// Datagrams given up after nothing had come for a while.
    pub lost: u64,
    /// How long it ran.
    pub seconds: f64,
}

/// Nothing within this time means that what is outstanding is lost.
const STALLED: Duration = Duration::from_millis(100);
/// Messages handed over in one call.
const BATCH: usize = 32;

struct Flow {
    socket: Socket,
    outstanding: u64,
}

/// Offers `load` to `target` for `duration` from the calling thread.
///
/// # Errors
/// EMFILE or ENOBUFS for want of descriptors or memory, ENETUNREACH where no route leads there.
pub fn run(target: SocketAddr, load: &Load, duration: Duration) -> io::Result<Outcome> {
    let mut flows = (0..load.flows)
        .map(|_| open(target))
        .collect::<io::Result<Vec<_>>>()?;
    let mut inbox = Inbox::new(Lease::carve(64, 65_535, 65_600)?, 64);
    let mut outbox = trains(target, load)?;
    let burst = u64::from(load.train_len);
    let start = clock::monotonic();
    let mut last_progress = start;
    let mut outcome = Outcome::default();
    loop {
        let mut has_moved = false;
        for flow in &mut flows {
            let room = load.window.saturating_sub(flow.outstanding) / burst;
            let count = (room as usize).min(outbox.len());
            if count > 0 {
                let sent = outbox.send(flow.socket.as_fd(), 0..count).unwrap_or(0) as u64;
                flow.outstanding += sent * burst;
                has_moved |= sent > 0;
            }
            let received = receive(&mut inbox, flow);
            flow.outstanding = flow.outstanding.saturating_sub(received);
            outcome.answered += received;
            has_moved |= received > 0;
        }
        let now = clock::monotonic();
        if has_moved {
            last_progress = now;
        } else if now.duration_since(last_progress) > STALLED {
            outcome.lost += flows
                .iter_mut()
                .map(|it| std::mem::take(&mut it.outstanding))
                .sum::<u64>();
            last_progress = now;
        }
        if now.duration_since(start) >= duration {
            outcome.seconds = now.duration_since(start).as_secs_f64();
            drain(&mut inbox, &mut flows);
            return Ok(outcome);
        }
    }
}

/// The same load without an answer: each flow sends its window whenever it is told to.
pub struct Bursts {
    flows: Vec<Flow>,
    outbox: Outbox,
    trains: usize,
    train_len: u64,
}

impl Bursts {
    /// Opens the sockets.
    ///
    /// # Errors
    /// As [`run`].
    pub fn new(target: SocketAddr, load: &Load) -> io::Result<Self> {
        let outbox = trains(target, load)?;
        let train_len = u64::from(load.train_len);
        Ok(Self {
            flows: (0..load.flows)
                .map(|_| open(target))
                .collect::<io::Result<_>>()?,
            trains: ((load.window / train_len) as usize).min(outbox.len()),
            outbox,
            train_len,
        })
    }

    /// Sends; how many datagrams went.
    pub fn send(&mut self) -> u64 {
        let Self { flows, outbox, .. } = self;
        let send = |flow: &Flow| {
            outbox
                .send(flow.socket.as_fd(), 0..self.trains)
                .unwrap_or(0)
        };
        flows.iter().map(send).sum::<usize>() as u64 * self.train_len
    }
}

/// Takes what is still to come, uncounted: whoever measures next should not wait for it.
fn drain(inbox: &mut Inbox, flows: &mut [Flow]) {
    let mut last_progress = clock::monotonic();
    while flows.iter().any(|flow| flow.outstanding > 0)
        && clock::monotonic().duration_since(last_progress) < STALLED
    {
        for flow in &mut *flows {
            let received = receive(inbox, flow);
            flow.outstanding = flow.outstanding.saturating_sub(received);
            if received > 0 {
                last_progress = clock::monotonic();
            }
        }
    }
}

/// Round trips of single datagrams, one outstanding, in nanoseconds.
///
/// # Errors
/// What the sockets say; a reply that does not come within a second.
pub fn round_trips(
    target: SocketAddr,
    spinning: bool,
    duration: Duration,
) -> io::Result<hdrhistogram::Histogram<u64>> {
    let flow = open(target)?;
    flow.socket.connect(&SockAddr::from(target))?;
    flow.socket.set_nonblocking(spinning)?;
    flow.socket.set_read_timeout(Some(Duration::from_secs(1)))?;
    let socket: std::net::UdpSocket = flow.socket.into();
    let mut times = hdrhistogram::Histogram::new_with_bounds(1, 10_000_000_000, 3)
        .expect("1 < ten seconds, and 3 is between 0 and 5");
    let mut bytes = [0; 64];
    let start = clock::monotonic();
    loop {
        let sent = clock::monotonic();
        socket.send(&bytes)?;
        while let Err(error) = socket.recv(&mut bytes) {
            let waited = clock::monotonic().duration_since(sent);
            if error.kind() != io::ErrorKind::WouldBlock || waited > Duration::from_secs(1) {
                return Err(error);
            }
        }
        let now = clock::monotonic();
        times.saturating_record(now.duration_since(sent).as_nanos() as u64);
        if now.duration_since(start) >= duration {
            return Ok(times);
        }
    }
}

fn open(target: SocketAddr) -> io::Result<Flow> {
    let socket = Socket::new(
        Domain::for_address(target),
        Type::DGRAM,
        Some(Protocol::UDP),
    )?;
    let any: IpAddr = match target {
        SocketAddr::V4(_) => std::net::Ipv4Addr::UNSPECIFIED.into(),
        SocketAddr::V6(_) => std::net::Ipv6Addr::UNSPECIFIED.into(),
    };
    socket.bind(&SockAddr::from(SocketAddr::new(any, 0)))?;
    sockopt::enable(&socket, libc::SOL_UDP, libc::UDP_GRO)?;
    for option in [libc::SO_RCVBUFFORCE, libc::SO_SNDBUFFORCE] {
        sockopt::set_int(&socket, libc::SOL_SOCKET, option, 16 << 20)?;
    }
    Ok(Flow {
        socket,
        outstanding: 0,
    })
}

/// Messages to send again and again: their bytes never change.
fn trains(target: SocketAddr, load: &Load) -> io::Result<Outbox> {
    let mut outbox = Outbox::new(1, BATCH, BATCH);
    let len = u32::from(load.payload_len) * u32::from(load.train_len);
    for lease in Lease::carve(1, len, len as usize)? {
        outbox.adopt(lease);
    }
    for _ in 0..BATCH {
        let piece = Piece {
            lease: 0,
            start: 0,
            len,
        };
        let (name, control) = outbox.push([piece].into_iter());
        *name = PeerAddr::new(target);
        if load.train_len > 1 {
            control.push_segment_len(load.payload_len);
        }
    }
    outbox.seal();
    Ok(outbox)
}

fn receive(inbox: &mut Inbox, flow: &Flow) -> u64 {
    let Ok(count) = inbox.receive(flow.socket.as_fd()) else {
        return 0;
    };
    let mut datagrams = 0;
    let mut used = Vec::with_capacity(count);
    for _ in 0..count {
        let (lease, incoming) = inbox.take();
        let segment_len = cmsg::received(incoming.control).find_map(|it| match it {
            Received::SegmentLen(len) => Some(len),
            _ => None,
        });
        datagrams += segment_count(lease.len(), segment_len.unwrap_or(lease.len() as u32));
        used.push(lease);
    }
    used.into_iter().for_each(|lease| inbox.recycle(lease));
    datagrams
}
