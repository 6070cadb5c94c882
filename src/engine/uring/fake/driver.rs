//! Lets datagrams and trains arrive at an engine on a fake ring, and sees what came of them.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::sync::Arc;

use fastrand::Rng;

use super::ring::{BUFFERS, EMPTY, FakeRing, Id, Inbound, SOCKETS, id_of};
use crate::batch::Batch;
use crate::egress;
use crate::engine::settings::{Kind, Resources, Settings, Wait};
use crate::engine::uring::{Uring, buffers};
use crate::socket::{self, Socket, SocketPair};
use crate::stats::Stats;
use reflector_udp::mmsg::Kernel;
use reflector_udp::wake::Wake;

/// The engine on a fake ring, the peers that resends really go to, and what came of it all.
pub struct Driver {
    rng: Rng,
    pub engine: Uring<FakeRing>,
    pub batch: Batch,
    pub stats: Stats,
    peers: Vec<UdpSocket>,
    /// Numbers given to the datagrams of each peer, in order.
    asked: BTreeMap<SocketAddr, Vec<Id>>,
    /// Numbers that came by resends, which have left the ring's order.
    resent: Vec<(SocketAddr, Id)>,
    next_id: Id,
}

impl Driver {
    pub fn new(seed: u64) -> Self {
        let settings = socket::Settings::default();
        let addr = (Ipv4Addr::LOCALHOST, 0).into();
        let open = |_| SocketPair {
            receiver: Socket::open(addr, true, &settings).expect("a socket"),
            sender: None,
        };
        let resources = Resources {
            sockets: (0..SOCKETS).map(open).collect(),
            detours: Arc::default(),
            wake: Arc::new(Wake::open().expect("an eventfd")),
        };
        let engine = Settings {
            kind: Kind::Uring,
            may_fall_back: false,
            buffers: BUFFERS,
            spin: seed.is_multiple_of(4),
            busy_receive: !seed.is_multiple_of(7),
            egress: egress::Settings {
                gso: !seed.is_multiple_of(5),
                segments_max: 128,
                latency: false,
                wire: false,
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
            engine: Uring::with(Kernel, ring, &engine, resources),
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
        let places = engine.ring.in_kernel_count() + self.batch.len() + in_sends;
        assert_eq!(
            places,
            usize::from(BUFFERS),
            "every buffer is in exactly one place"
        );
        assert_eq!(
            engine.in_kernel + engine.arrived.len(),
            engine.ring.in_kernel_count(),
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

    pub fn run(&mut self) {
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

    pub fn assert_all_is_well(&self) {
        let ring = &self.engine.ring;
        assert_eq!(
            ring.published.len(),
            usize::from(BUFFERS),
            "every buffer came back"
        );
        assert!(
            ring.inbound.iter().all(VecDeque::is_empty),
            "every datagram was received"
        );
        let counters = &self.stats.counters;
        let asked: usize = self.asked.values().map(Vec::len).sum();
        assert_eq!(counters.received, asked as u64);
        assert_eq!(counters.unaccounted(), 0, "the counters add up");
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
