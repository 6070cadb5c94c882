//! A ring that keeps the kernel's promises and no others.

use std::collections::{BTreeMap, VecDeque};
use std::io;
use std::net::SocketAddr;

use fastrand::Rng;

use crate::engine::uring::ring::{Completion, Ring};
use crate::engine::uring::{buffers, entries_max};
use reflector_udp::addr::{PeerAddr, parse_sockaddr};
use reflector_udp::memory::Lease;

pub const BUFFERS: u16 = 8;
pub const SOCKETS: usize = 2;

/// A datagram's number, and the peer that sent it.
pub type Id = u32;

/// Something that waits in a socket's queue: one datagram, or a train.
pub struct Inbound {
    pub peer: SocketAddr,
    pub payload: Vec<u8>,
    pub segment_len: Option<usize>,
}

pub enum Queued {
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
pub type Coverage = BTreeMap<&'static str, usize>;

/// Everything that it can do.
pub const DEEDS: [&str; 13] = [
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

pub struct FakeRing {
    pub rng: Rng,
    /// Buffers that the kernel sees, oldest first.
    pub published: VecDeque<Lease>,
    /// Given back, not yet committed.
    pub recycled: Vec<Lease>,
    pub queued: VecDeque<Queued>,
    pub completions: VecDeque<Completion>,
    /// Buffers that a completion has named or will name.
    pub filled: BTreeMap<u16, Lease>,
    /// Completions that found no room, in order; the next `enter` brings them (a CQ overflow).
    pub held_back: Vec<Completion>,
    pub inbound: [VecDeque<Inbound>; SOCKETS],
    pub is_armed: [bool; SOCKETS],
    pub is_wake_armed: bool,
    pub keeps_unused_buffers: bool,
    /// The error that every receive ends with, if any.
    pub broken: Option<i32>,
    /// Receives that failed for want of memory.
    pub without_memory: u64,
    /// Datagrams that left by a send of the ring, in order.
    pub sent: Vec<(SocketAddr, Id)>,
    pub coverage: Coverage,
}

impl FakeRing {
    pub fn new(seed: u64, leases: Vec<Lease>) -> Self {
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

    /// Whether the completion queue has no room: once that is so, what follows is held back as
    /// well.
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
            self.assert_not_in_kernel(iovec.iov_base as usize);
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
    fn assert_not_in_kernel(&self, address: usize) {
        for lease in self.published.iter().chain(&self.recycled) {
            let start = lease.as_buffer_ptr() as usize;
            let range = start..start + lease.capacity() as usize;
            assert!(
                !range.contains(&address),
                "buffer {} is sent from and in the kernel",
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
        let most = entries_max::<Self>(usize::from(BUFFERS), SOCKETS);
        assert!(self.queued.len() <= most, "the queue has room for a round");
    }

    pub fn in_kernel_count(&self) -> usize {
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

    fn cancel(&mut self) {
        (0..SOCKETS).for_each(|socket| self.disarm(socket));
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
        let mut in_kernel = self.published.iter().chain(&self.recycled);
        assert!(
            in_kernel.all(|other| other.id() != lease.id()),
            "buffer {} is given to the kernel twice",
            lease.id()
        );
        self.recycled.push(lease);
    }

    fn commit(&mut self) {
        self.published.extend(self.recycled.drain(..));
    }

    fn into_leases(self) -> io::Result<Vec<Lease>> {
        Ok(self.published.into())
    }
}

/// The number that stands for an empty datagram, which has no room for one.
pub const EMPTY: Id = Id::MAX;

pub fn id_of(segment: &[u8]) -> Id {
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
