//! The engine's buffer ownership, proven against a ring that does its worst.
//!
//! The fake ring keeps the kernel's promises (a send that does not wait is over when the
//! submission returns; the error completion of a send comes before `enter` has nothing left to do)
//! and no others: it accepts submissions in part, is interrupted or busy, ends multishots with
//! and without data, runs out of buffers, refuses sends for any reason, and brings completions
//! late and out of order. A seeded driver lets datagrams and trains arrive in between.
//!
//! What must hold: every buffer is in exactly one place, none is visible to the kernel while a
//! send or a resend still reads it, every datagram is answered once or counted, and the order per
//! peer is kept where no train was refused.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::io;
use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::sync::Arc;

use fastrand::Rng;

use super::buffers;
use super::ring::{Completion, Ring};
use super::{Settings, Uring, Wait};
use crate::batch::Batch;
use crate::egress;
use crate::engine::{Kind, Resources};
use crate::socket::{self, Socket, SocketPair};
use crate::stats::Stats;
use reflector_udp::addr::{PeerAddr, parse_sockaddr};
use reflector_udp::memory::Lease;
use reflector_udp::wake::Wake;

const BUFFERS: u16 = 8;
const SOCKETS: usize = 2;

/// A datagram's number, and the peer that sent it.
type Id = u32;

/// Something that waits in a socket's queue: one datagram, or a train.
struct Inbound {
    peer: SocketAddr,
    payload: Vec<u8>,
    segment_len: Option<usize>,
}

enum Queued {
    Receive(usize),
    ArmedReceive(usize),
    Disarm(usize),
    Wake,
    Send {
        message: usize,
        header: *const libc::msghdr,
    },
}

/// What the fake kernel has done, so that a run in which something never happened is noticed.
type Coverage = BTreeMap<&'static str, usize>;

/// Everything that it can do.
const DEEDS: [&str; 13] = [
    "accepted a part",
    "failed an enter",
    "ran out of buffers",
    "ended a multishot with data",
    "ended it with an empty datagram",
    "failed a receive",
    "found nothing",
    "cut a receive short",
    "disarmed a receive",
    "refused a train",
    "refused a single",
    "held a completion back",
    "held a datagram back",
];

struct FakeRing {
    rng: Rng,
    /// Buffers that the kernel sees, oldest first.
    published: VecDeque<Lease>,
    /// Given back, not yet committed.
    recycled: Vec<Lease>,
    queued: VecDeque<Queued>,
    completions: VecDeque<Completion>,
    /// Buffers that a completion has named or will name.
    filled: BTreeMap<u16, Lease>,
    /// Completions that found no room, in order; the next `enter` brings them (a CQ overflow).
    held_back: Vec<Completion>,
    inbound: [VecDeque<Inbound>; SOCKETS],
    is_armed: [bool; SOCKETS],
    is_wake_armed: bool,
    keeps_unused_buffers: bool,
    /// The error that every receive ends with, if any.
    broken: Option<i32>,
    /// Receives that failed for want of memory.
    without_memory: u64,
    /// Datagrams that left by a send of the ring, in order.
    sent: Vec<(SocketAddr, Id)>,
    coverage: Coverage,
}

impl FakeRing {
    fn new(seed: u64, leases: Vec<Lease>) -> Self {
        Self {
            rng: Rng::with_seed(seed),
            published: leases.into(),
            recycled: Vec::new(),
            queued: VecDeque::new(),
            completions: VecDeque::new(),
            filled: BTreeMap::new(),
            held_back: Vec::new(),
            inbound: Default::default(),
            is_armed: [false; SOCKETS],
            is_wake_armed: false,
            keeps_unused_buffers: true,
            broken: None,
            without_memory: 0,
            sent: Vec::new(),
            coverage: Coverage::new(),
        }
    }

    fn chance(&mut self, percent: u32) -> bool {
        self.rng.u32(0..100) < percent
    }

    fn has_done(&mut self, deed: &'static str) {
        assert!(DEEDS.contains(&deed));
        *self.coverage.entry(deed).or_default() += 1;
    }

    /// Whether the completion queue has no room: once that is so, what follows is held back as well.
    fn is_full(&mut self) -> bool {
        !self.held_back.is_empty() || self.chance(5)
    }

    fn complete(&mut self, completion: Completion) {
        let is_full = self.is_full();
        self.post(completion, is_full);
    }

    fn post(&mut self, completion: Completion, is_full: bool) {
        if !is_full {
            return self.completions.push_back(completion);
        }
        let has_data = matches!(completion, Completion::Received { result: Ok(_), .. });
        self.has_done(if has_data {
            "held a datagram back"
        } else {
            "held a completion back"
        });
        self.held_back.push(completion);
    }

    fn execute(&mut self, queued: Queued) {
        match queued {
            Queued::Receive(socket) => self.receive_busy(socket),
            Queued::ArmedReceive(socket) => {
                assert!(!self.is_armed[socket], "socket {socket} is armed twice");
                self.is_armed[socket] = true;
            }
            Queued::Disarm(socket) => self.disarm_now(socket),
            Queued::Wake => self.is_wake_armed = true,
            Queued::Send { message, header } => self.execute_send(message, header),
        }
    }

    fn execute_send(&mut self, message: usize, header: *const libc::msghdr) {
        // SAFETY: the engine keeps the header and all that it points to until the submission is
        // over, which is what this test is about; `Outbox` states the lengths.
        let (peer, control, iovecs) = unsafe {
            let header = &*header;
            let name =
                std::slice::from_raw_parts(header.msg_name.cast(), header.msg_namelen as usize);
            let control: &[u8] = match header.msg_controllen {
                0 => &[],
                len => std::slice::from_raw_parts(header.msg_control.cast(), len),
            };
            let iovecs = std::slice::from_raw_parts(header.msg_iov, header.msg_iovlen);
            (parse_sockaddr(name).expect("a peer"), control, iovecs)
        };
        let mut payload = Vec::new();
        for iovec in iovecs {
            self.assert_not_lent(iovec.iov_base as usize);
            // SAFETY: as above; the bytes belong to a buffer that the engine holds.
            payload.extend_from_slice(unsafe {
                std::slice::from_raw_parts(iovec.iov_base.cast::<u8>(), iovec.iov_len)
            });
        }
        // No pktinfo on a bound socket, so a train's control is its segment length alone.
        let segment_len = control
            .get(16..18)
            .map(|len| u16::from_ne_bytes([len[0], len[1]]));
        let is_train = segment_len.is_some();
        if self.chance(15) {
            let errnos = [
                libc::EMSGSIZE,
                libc::EINVAL,
                libc::EIO,
                libc::EAGAIN,
                libc::EPERM,
                libc::ENETUNREACH,
            ];
            let errno = errnos[self.rng.usize(0..errnos.len())];
            self.has_done(if is_train {
                "refused a train"
            } else {
                "refused a single"
            });
            return self.complete(Completion::SendFailed { message, errno });
        }
        let segment_len = segment_len.map_or(payload.len(), usize::from).max(1);
        if payload.is_empty() {
            self.sent.push((peer, EMPTY));
        }
        self.sent.extend(
            payload
                .chunks(segment_len)
                .map(|segment| (peer, id_of(segment))),
        );
    }

    /// Whether the kernel could write to `address` at this moment.
    fn assert_not_lent(&self, address: usize) {
        for lease in self.published.iter().chain(&self.recycled) {
            let start = lease.as_buffer_ptr() as usize;
            let range = start..start + lease.capacity() as usize;
            assert!(
                !range.contains(&address),
                "buffer {} is sent from and lent",
                lease.id()
            );
        }
    }

    fn receive_busy(&mut self, socket: usize) {
        assert!(self.keeps_unused_buffers, "it may cost a buffer");
        self.receive(socket, false);
    }

    /// Does what multishot receives do. An armed one stays, unless something ends it; another is
    /// over in any case.
    fn receive(&mut self, socket: usize, is_armed: bool) {
        if let Some(errno) = self.broken {
            return self.end_receive(socket, is_armed, Err(errno));
        }
        let most = if is_armed { 5 } else { Self::RECEIVED_MAX };
        for _ in 0..self.rng.usize(0..=most) {
            if self.chance(2) {
                self.has_done("failed a receive");
                let errno = if self.chance(50) {
                    self.without_memory += 1;
                    libc::ENOMEM
                } else {
                    libc::ECANCELED
                };
                return self.end_receive(socket, is_armed, Err(errno));
            }
            if self.inbound[socket].is_empty() {
                break;
            }
            let Some(mut lease) = self.published.pop_front() else {
                self.has_done("ran out of buffers");
                return self.end_receive(socket, is_armed, Err(libc::ENOBUFS));
            };
            let inbound = self.inbound[socket].pop_front().expect("it is not empty");
            let len = deliver(&mut lease, &inbound);
            let id = lease.id();
            assert!(self.filled.insert(id, lease).is_none(), "two of one buffer");
            let is_empty = inbound.payload.is_empty();
            // A multishot that finds no room for a completion ends with it, data and all.
            let is_full = self.is_full();
            if is_empty || is_full || self.chance(5) {
                self.has_done(if is_empty {
                    "ended it with an empty datagram"
                } else {
                    "ended a multishot with data"
                });
                return self.end_receive_into(socket, is_armed, Ok((id, len)), is_full);
            }
            self.completions.push_back(Completion::Received {
                socket,
                result: Ok((id, len)),
                has_ended: false,
            });
        }
        if !is_armed {
            self.has_done(if self.inbound[socket].is_empty() {
                "found nothing"
            } else {
                "cut a receive short"
            });
            self.end_receive(socket, false, Err(libc::EAGAIN));
        }
    }

    /// What had ended by itself cannot be ended once more.
    fn disarm_now(&mut self, socket: usize) {
        if self.is_armed[socket] {
            self.has_done("disarmed a receive");
            self.end_receive(socket, true, Err(libc::ECANCELED));
        }
        self.complete(Completion::Other);
    }

    fn end_receive(&mut self, socket: usize, is_armed: bool, result: Result<(u16, u32), i32>) {
        let is_full = self.is_full();
        self.end_receive_into(socket, is_armed, result, is_full);
    }

    fn end_receive_into(
        &mut self,
        socket: usize,
        is_armed: bool,
        result: Result<(u16, u32), i32>,
        is_full: bool,
    ) {
        if is_armed {
            self.is_armed[socket] = false;
        }
        let ended = Completion::Received {
            socket,
            result,
            has_ended: is_armed,
        };
        self.post(ended, is_full);
    }

    fn queue(&mut self, queued: Queued) {
        self.queued.push_back(queued);
        let most = Uring::<Self>::entries_max(usize::from(BUFFERS), SOCKETS);
        assert!(self.queued.len() <= most, "the queue has room for a round");
    }

    fn lent_count(&self) -> usize {
        self.published.len() + self.recycled.len() + self.filled.len()
    }
}

impl Ring for FakeRing {
    const RECEIVED_MAX: usize = 3;

    fn receive(&mut self, socket: usize) {
        self.queue(Queued::Receive(socket));
    }

    fn arm_receive(&mut self, socket: usize) {
        self.queue(Queued::ArmedReceive(socket));
    }

    fn disarm(&mut self, socket: usize) {
        self.queue(Queued::Disarm(socket));
    }

    fn arm_wake(&mut self) {
        assert!(!self.is_wake_armed, "the wake is armed twice");
        self.queue(Queued::Wake);
    }

    fn send(&mut self, _socket: usize, message: usize, header: *const libc::msghdr) {
        self.queue(Queued::Send { message, header });
    }

    fn enter(&mut self, wait: bool) -> io::Result<()> {
        self.completions.extend(self.held_back.drain(..));
        if self.chance(5) {
            self.has_done("failed an enter");
            let errno = if self.chance(50) {
                libc::EINTR
            } else {
                libc::EBUSY
            };
            return Err(io::Error::from_raw_os_error(errno));
        }
        let mut submitted = self.queued.len();
        if submitted > 1 && self.chance(10) {
            self.has_done("accepted a part");
            submitted = self.rng.usize(1..submitted);
        }
        for _ in 0..submitted {
            let queued = self.queued.pop_front().expect("counted above");
            self.execute(queued);
        }
        let first = self.rng.usize(0..SOCKETS);
        for socket in (first..SOCKETS).chain(0..first) {
            if self.is_armed[socket] {
                self.receive(socket, true);
            }
        }
        // The kernel does not wait after it has accepted only a part.
        let must_wake = wait
            && self.queued.is_empty()
            && self.completions.is_empty()
            && self.held_back.is_empty();
        if must_wake || (self.is_wake_armed && self.chance(3)) {
            assert!(self.is_wake_armed, "asleep with nothing that could wake it");
            self.is_wake_armed = false;
            self.complete(Completion::Woken);
        }
        // Error completions of sends may come behind receives, and in any order among themselves.
        if self.chance(30) {
            let at = self.rng.usize(0..=self.completions.len());
            let mut tail: Vec<_> = self.completions.drain(at..).collect();
            let (mut sends, receives): (Vec<_>, Vec<_>) = tail
                .drain(..)
                .partition(|it| matches!(it, Completion::SendFailed { .. }));
            self.rng.shuffle(&mut sends);
            self.completions.extend(receives.into_iter().chain(sends));
        }
        Ok(())
    }

    fn is_behind(&mut self) -> bool {
        !self.queued.is_empty() || !self.held_back.is_empty()
    }

    fn has_work(&mut self) -> bool {
        self.rng.bool()
    }

    fn reap(&mut self) -> Option<Completion> {
        self.completions.pop_front()
    }

    fn take(&mut self, id: u16) -> Lease {
        self.filled
            .remove(&id)
            .expect("a completion named the buffer")
    }

    fn recycle(&mut self, lease: Lease) {
        let mut lent = self.published.iter().chain(&self.recycled);
        assert!(
            lent.all(|other| other.id() != lease.id()),
            "buffer {} is lent twice",
            lease.id()
        );
        self.recycled.push(lease);
    }

    fn commit(&mut self) {
        self.published.extend(self.recycled.drain(..));
    }
}

/// The number that stands for an empty datagram, which has no room for one.
const EMPTY: Id = Id::MAX;

fn id_of(segment: &[u8]) -> Id {
    Id::from_be_bytes(
        segment[..4]
            .try_into()
            .expect("every datagram starts with its number"),
    )
}

/// Fills `lease` as the kernel would; returns the bytes used.
fn deliver(lease: &mut Lease, inbound: &Inbound) -> u32 {
    let mut control = Vec::new();
    if let Some(segment_len) = inbound.segment_len {
        control.extend_from_slice(&20usize.to_ne_bytes());
        control.extend_from_slice(&libc::SOL_UDP.to_ne_bytes());
        control.extend_from_slice(&libc::UDP_GRO.to_ne_bytes());
        control.extend_from_slice(&(segment_len as i32).to_ne_bytes());
    }
    buffers::fill(
        lease,
        PeerAddr::new(inbound.peer).as_bytes(),
        &control,
        &inbound.payload,
    )
}

/// The engine on a fake ring, the peers that resends really go to, and what came of it all.
struct Driver {
    rng: Rng,
    engine: Uring<FakeRing>,
    batch: Batch,
    stats: Stats,
    peers: Vec<UdpSocket>,
    /// Numbers given to the datagrams of each peer, in order.
    asked: BTreeMap<SocketAddr, Vec<Id>>,
    /// Numbers that came by resends, which have left the ring's order.
    resent: Vec<(SocketAddr, Id)>,
    next_id: Id,
}

impl Driver {
    fn new(seed: u64) -> Self {
        let settings = socket::Settings::default();
        let addr = (Ipv4Addr::LOCALHOST, 0).into();
        let open = |_| SocketPair {
            receiver: Socket::open(addr, true, &settings).expect("a socket"),
            sender: None,
        };
        let resources = Resources {
            sockets: (0..SOCKETS).map(open).collect(),
            wake: Arc::new(Wake::open().expect("an eventfd")),
        };
        let engine = Settings {
            kind: Kind::Uring,
            buffers: BUFFERS,
            spin: seed.is_multiple_of(4),
            busy_receive: !seed.is_multiple_of(7),
            egress: egress::Settings {
                gso: !seed.is_multiple_of(5),
                segments_max: 128,
                latency: false,
            },
        };
        let mut ring = FakeRing::new(seed, buffers::carve(BUFFERS).expect("memory"));
        ring.keeps_unused_buffers = engine.busy_receive;
        let peer = |host| {
            let peer = UdpSocket::bind((Ipv4Addr::new(127, 0, 1, host), 0)).expect("a peer");
            peer.set_nonblocking(true).expect("a socket option");
            peer
        };
        Self {
            rng: Rng::with_seed(!seed),
            engine: Uring::with(ring, &engine, resources),
            batch: Batch::new(usize::from(BUFFERS)),
            stats: Stats::new(),
            peers: (1..=6).map(peer).collect(),
            asked: BTreeMap::new(),
            resent: Vec::new(),
            next_id: 0,
        }
    }

    /// Lets a datagram or a train arrive.
    fn arrive(&mut self) {
        // Port 0 is a peer to whom every resend fails with EINVAL, as if the source were gone.
        let index = self.rng.usize(0..=self.peers.len());
        let peer = match self.peers.get(index) {
            Some(peer) => peer.local_addr().expect("it is bound"),
            None => (Ipv4Addr::new(127, 0, 1, 99), 0).into(),
        };
        let segment_len = self.rng.usize(4..40);
        let count = if self.rng.bool() {
            1
        } else {
            self.rng.usize(2..20)
        };
        let mut payload = Vec::new();
        let mut ids = Vec::new();
        if count == 1 && self.rng.u32(0..8) == 0 {
            ids.push(EMPTY);
        } else {
            for segment in 0..count {
                let is_last = segment + 1 == count;
                let len = if is_last {
                    self.rng.usize(4..=segment_len)
                } else {
                    segment_len
                };
                payload.extend_from_slice(&self.next_id.to_be_bytes());
                payload.resize(payload.len() + len - 4, 0);
                ids.push(self.next_id);
                self.next_id += 1;
            }
        }
        self.asked.entry(peer).or_default().extend(ids);
        let segment_len = (count > 1).then_some(segment_len);
        // One socket for each peer, as SO_REUSEPORT has it.
        let queue = &mut self.engine.ring.inbound[index % SOCKETS];
        queue.push_back(Inbound {
            peer,
            payload,
            segment_len,
        });
    }

    /// One turn of a worker's loop, all answers being echoes.
    fn turn(&mut self, wait: Wait) {
        self.engine
            .receive(&mut self.batch, &mut self.stats, wait)
            .expect("the ring goes on");
        self.assert_every_buffer_is_somewhere();
        self.engine
            .transmit(&mut self.batch, &mut self.stats)
            .expect("the ring goes on");
        self.assert_every_buffer_is_somewhere();
        self.collect_resent();
    }

    fn assert_every_buffer_is_somewhere(&mut self) {
        let engine = &mut self.engine;
        let in_sends = engine.egress.outbox().lease_count();
        let places = engine.ring.lent_count() + self.batch.len() + in_sends;
        assert_eq!(
            places,
            usize::from(BUFFERS),
            "every buffer is in exactly one place"
        );
        assert_eq!(
            engine.in_kernel + engine.arrived.len(),
            engine.ring.lent_count(),
            "the engine knows how many the kernel has"
        );
    }

    fn collect_resent(&mut self) {
        let mut bytes = [0; 2048];
        for peer in &self.peers {
            while let Ok(len) = peer.recv(&mut bytes) {
                let id = if len == 0 {
                    EMPTY
                } else {
                    id_of(&bytes[..len])
                };
                self.resent
                    .push((peer.local_addr().expect("it is bound"), id));
            }
        }
    }

    fn run(&mut self) {
        for _ in 0..400 {
            for _ in 0..self.rng.usize(0..6) {
                self.arrive();
            }
            let wait = if self.rng.bool() {
                Wait::Idle
            } else {
                Wait::Never
            };
            self.turn(wait);
        }
        // What is still queued: turns enough for every end that a multishot can come to.
        for _ in 0..4000 {
            self.turn(Wait::Never);
        }
    }

    fn assert_all_is_well(&self) {
        let ring = &self.engine.ring;
        assert_eq!(
            ring.published.len(),
            usize::from(BUFFERS),
            "every buffer came home"
        );
        assert!(
            ring.inbound.iter().all(VecDeque::is_empty),
            "every datagram was received"
        );
        let counters = &self.stats.counters;
        let asked: usize = self.asked.values().map(Vec::len).sum();
        assert_eq!(counters.received, asked as u64);
        assert_eq!(counters.in_flight(), 0, "the counters add up");
        let failed: Vec<_> = counters.receive_errors().collect();
        let without_memory = ring.without_memory;
        let expected = (without_memory > 0).then_some((libc::ENOMEM, without_memory));
        assert_eq!(failed, Vec::from_iter(expected), "each failure is counted");
        let answers = ring.sent.len() + self.resent.len();
        assert_eq!(
            counters.replied, answers as u64,
            "what is counted as replied left us"
        );
        self.assert_no_answer_twice();
        self.assert_order();
    }

    fn assert_no_answer_twice(&self) {
        let mut seen = BTreeSet::new();
        for &(peer, id) in self.engine.ring.sent.iter().chain(&self.resent) {
            assert!(
                id == EMPTY || self.asked[&peer].contains(&id),
                "{peer} got what it never sent"
            );
            assert!(
                id == EMPTY || seen.insert(id),
                "datagram {id} was answered twice"
            );
        }
    }

    /// Numbers per peer rise; empty datagrams have none, and resends may come late.
    fn assert_order(&self) {
        for &peer in self.asked.keys() {
            let sent = self.engine.ring.sent.iter();
            let ids: Vec<_> = sent.filter(|it| it.0 == peer && it.1 != EMPTY).collect();
            assert!(ids.is_sorted(), "{peer} got its answers out of order");
        }
    }
}

#[test]
fn no_buffer_is_lost_shared_or_published_too_early_whatever_the_ring_does() {
    let mut covered = Coverage::new();
    for seed in 0..40 {
        let mut driver = Driver::new(seed);
        let outcome = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            driver.run();
            driver.assert_all_is_well();
        }));
        let coverage = &driver.engine.ring.coverage;
        assert!(
            outcome.is_ok(),
            "seed {seed}; what the ring has done: {coverage:?}"
        );
        for (&deed, count) in coverage {
            *covered.entry(deed).or_default() += count;
        }
    }
    let is_covered = |deed: &str| covered.get(deed).is_some_and(|&count| count > 20);
    assert!(
        DEEDS.into_iter().all(is_covered),
        "each has been through: {covered:?}"
    );
}

/// An engine whose every receive ends with `errno`.
fn broken(errno: i32) -> Driver {
    let mut driver = Driver::new(1);
    driver.engine.ring.broken = Some(errno);
    driver
}

#[test]
fn nothing_is_ready_while_a_socket_cannot_be_received_from() {
    for errno in [libc::EACCES, libc::EBADF, libc::ENOMEM] {
        let error = broken(errno).engine.arm().unwrap_err().to_string();
        assert!(error.contains("cannot be received from"), "{error}");
    }
    Driver::new(1).engine.arm().unwrap();
}

#[test]
fn a_socket_that_is_lost_ends_the_engine_and_is_counted() {
    let mut driver = broken(libc::EBADF);
    let Driver {
        engine,
        batch,
        stats,
        ..
    } = &mut driver;
    let failed = (0..100).find_map(|_| engine.receive(batch, stats, Wait::Never).err());
    assert!(failed.is_some_and(|it| it.to_string().contains("EBADF")));
    let counted: Vec<_> = stats.counters.receive_errors().collect();
    assert_eq!(counted, [(libc::EBADF, 1)]);
}
