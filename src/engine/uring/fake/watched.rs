//! An engine that is looked on at: between the worker and what moves its datagrams, each batch is
//! compared with what the world knows of it.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::io;
use std::mem;
use std::net::IpAddr;
use std::rc::Rc;

use super::calls::FakeCalls;
use super::fates::{Id, Reply};
use super::replies;
use super::ring::FakeRing;
use super::world::{BUFFERS, World};
use crate::batch::{Answer, Batch};
use crate::clock;
use crate::datagram::{DropReason, Verdict};
use crate::egress::Routes;
use crate::engine::settings::Wait;
use crate::engine::{Engine, Moves};
use crate::guard::Limit;
use crate::socket::SocketPair;
use crate::stats::Stats;
use crate::stats::counters::Counters;
use std::time::Instant;

/// A mistake made on purpose, between engine and worker.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mistake {
    /// One reply in some batch is counted twice.
    CountsTwice,
    /// What the guard refuses is answered where it was a single datagram.
    AnswersTheRefused,
}

/// The engine of a worker in the world.
pub struct Watched {
    pub engine: Engine<FakeRing, FakeCalls>,
    pub world: Rc<RefCell<World>>,
    pub limit: Option<Limit>,
    /// What is left of each source's burst, and since when, were it a bucket that fills by itself.
    buckets: BTreeMap<IpAddr, (f64, Instant)>,
    mistake: Option<Mistake>,
    /// Whether the ring was taken away since the worker read its orders.
    has_switched: bool,
}

impl Watched {
    pub fn new(
        engine: Engine<FakeRing, FakeCalls>,
        world: Rc<RefCell<World>>,
        limit: Option<Limit>,
        mistake: Option<Mistake>,
    ) -> Self {
        Self {
            engine,
            world,
            limit,
            buckets: BTreeMap::new(),
            mistake,
            has_switched: false,
        }
    }

    /// Every buffer is in exactly one place, and every counter what it should be.
    fn check(&mut self, batch: &Batch, stats: &Stats, is_settled: bool) {
        let leases = match &mut self.engine {
            Engine::Uring(engine) => {
                assert_eq!(
                    engine.in_kernel + engine.arrived.len(),
                    engine.ring.lease_count(),
                    "the engine knows how many buffers the kernel has"
                );
                engine.ring.lease_count() + engine.egress.outbox().lease_count()
            }
            Engine::Mmsg(engine) => engine.lease_count(),
        };
        assert_eq!(
            leases + batch.len(),
            usize::from(BUFFERS),
            "every buffer is in exactly one place"
        );
        let world = &mut *self.world.borrow_mut();
        let counters = world.counters(stats);
        world.fates.check(&counters, is_settled);
        assert_eq!(
            self.engine.in_flight() + batch.in_flight(),
            world.fates.in_flight(),
            "in flight is what has no end yet"
        );
        let failed: Vec<_> = counters.iter().flat_map(Counters::receive_errors).collect();
        let without_memory = world.memory_failures;
        let is_told = failed.is_empty() || failed.iter().all(|it| it.0 == libc::ENOMEM);
        assert!(is_told, "{failed:?}");
        let told = failed.iter().map(|it| it.1).sum::<u64>();
        assert!(told <= without_memory, "{told} of {without_memory}");
        if is_settled {
            assert_eq!(told, without_memory, "each failed receive is counted");
        }
    }

    /// The worker has just read its orders, and goes by them until it does so again.
    fn has_read_orders(&self) {
        let mut world = self.world.borrow_mut();
        assert!(
            !world.control.is_behind(),
            "orders are read between two batches"
        );
        world.in_force = world.ordered.clone();
    }

    /// The worker is about to send: every slot has been decided as it should be.
    fn look_at(&mut self, batch: &mut Batch) {
        if self.mistake == Some(Mistake::AnswersTheRefused) {
            let decided = batch.decided().1.to_vec();
            let (slots, verdicts) = batch.parts_mut();
            *verdicts = decided;
            for (slot, _) in slots {
                if slot.answer == Answer::Drop(DropReason::NotAllowed) && slot.count() == 1 {
                    slot.answer = Answer::Whole;
                }
            }
        }
        let world = Rc::clone(&self.world);
        let world = &mut *world.borrow_mut();
        let (slots, verdicts) = batch.decided();
        for (slot, lease) in slots {
            let ids = world.held[&(lease.as_buffer_ptr() as usize)].clone();
            let first = world.fates.get(ids[0]).clone();
            let flow = &slot.arrival.flow;
            let told = (flow.peer.addr(), flow.local.addr, flow.socket as usize);
            assert_eq!(told, (first.peer, first.local, first.socket), "{}", ids[0]);
            assert_eq!(slot.count(), ids.len() as u64, "datagrams of a buffer");
            let refused = world.in_force.refuse(&first);
            if let Some(reason) = refused {
                assert_eq!(
                    slot.answer,
                    Answer::Drop(reason),
                    "{ids:?}, {:?}",
                    world.in_force
                );
                ids.iter().for_each(|&id| drop_it(world, id, reason));
                continue;
            }
            let count = ids.len();
            let is_odd = world.is_odd[first.socket];
            let said = |index: usize, id: Id| match slot.answer {
                Answer::Whole if !is_odd => Verdict::Reply {
                    len: world.fates.get(id).len,
                },
                Answer::Whole => panic!("{id} goes back as it came"),
                Answer::Drop(reason) => Verdict::Drop(reason),
                Answer::Each(first) => verdicts[first as usize + index],
            };
            let said: Vec<_> = { ids.iter().enumerate() }
                .map(|(at, &id)| said(at, id))
                .collect();
            let is_beyond = |it: &&Verdict| **it == Verdict::Drop(DropReason::RateLimited);
            let beyond = said.iter().rev().take_while(is_beyond).count();
            let admitted = self.limited(first.peer.ip(), count, count - beyond);
            let hops = world.in_force.hops(first.hops);
            for (index, &id) in ids.iter().enumerate() {
                if index >= admitted {
                    drop_it(world, id, DropReason::RateLimited);
                    continue;
                }
                let len = world.fates.get(id).len;
                let tos = if is_odd {
                    replies::odd_tos(first.peer)
                } else {
                    None
                };
                let verdict = match is_odd && len > 0 {
                    true => replies::odd_verdict(id, len),
                    false => Verdict::Reply { len },
                };
                assert_eq!(said[index], verdict, "what is said to {id}");
                match verdict {
                    Verdict::Drop(reason) => drop_it(world, id, reason),
                    Verdict::Reply { len: longer } if longer > len => {
                        drop_it(world, id, DropReason::ReplyTooLong);
                    }
                    Verdict::Reply { len } => world.fates.decide(id, Reply { len, hops, tos }),
                }
            }
        }
    }

    /// `admitted` of `count` datagrams of `source`: no more than its limit allows, and not fewer
    /// than what a source that was silent may send. Returns `admitted`.
    fn limited(&mut self, source: IpAddr, count: usize, admitted: usize) -> usize {
        let Some(limit) = self.limit.as_ref().filter(|it| !it.is_dry_run) else {
            assert_eq!(admitted, count, "nothing is limited");
            return admitted;
        };
        let now = clock::monotonic();
        let burst = f64::from(limit.burst);
        let (left, then) = self.buckets.entry(source).or_insert((burst, now));
        let passed = now.duration_since(*then).as_secs_f64();
        let is_rested = *left >= burst || passed > 20.0 * burst / f64::from(limit.rate);
        *left = (*left + passed * f64::from(limit.rate)).min(burst) - admitted as f64;
        *then = now;
        // One more by rounding.
        assert!(
            *left > -2.0,
            "{source} got {admitted} of {count}, {left} left"
        );
        let most = count.min(limit.burst as usize);
        assert!(
            !is_rested || admitted >= most,
            "{source} got {admitted} of {count}"
        );
        admitted
    }
}

fn drop_it(world: &mut World, id: Id, reason: DropReason) {
    world.fates.set(id, super::fates::Fate::Dropped(reason));
}

impl Moves for Watched {
    fn arm(&mut self, _sockets: &[SocketPair], stats: &mut Stats) -> io::Result<()> {
        match &mut self.engine {
            Engine::Uring(engine) => engine.arm(stats),
            Engine::Mmsg(engine) => engine.arm(stats),
        }?;
        self.world.borrow_mut().is_ready = true;
        Ok(())
    }

    fn set_routes(&mut self, routes: Routes) {
        self.engine.set_routes(routes);
    }

    fn in_flight(&mut self) -> u64 {
        self.engine.in_flight()
    }

    fn receive(&mut self, batch: &mut Batch, stats: &mut Stats, wait: Wait) -> io::Result<()> {
        if !mem::take(&mut self.has_switched) {
            self.has_read_orders();
        }
        let looks = match &self.engine {
            Engine::Uring(engine) => engine.look.limit().map(|_| "looked for completions"),
            Engine::Mmsg(engine) => engine.look.limit().map(|_| "looked for datagrams"),
        };
        if let Some(deed) = looks {
            self.world.borrow_mut().has_done(deed);
        }
        self.engine.receive(batch, stats, wait)?;
        self.check(batch, stats, true);
        Ok(())
    }

    fn transmit(&mut self, batch: &mut Batch, stats: &mut Stats) -> io::Result<()> {
        self.has_switched = false;
        self.look_at(batch);
        if self.mistake == Some(Mistake::CountsTwice) && batch.len() > 3 {
            stats.of(0).reply(1, 0);
        }
        self.engine.transmit(batch, stats)?;
        let is_mmsg = matches!(self.engine, Engine::Mmsg(_));
        self.check(batch, stats, is_mmsg);
        Ok(())
    }

    fn without_ring(mut self, batch: &mut Batch, stats: &mut Stats) -> io::Result<Self> {
        self.has_read_orders();
        self.has_switched = true;
        self.engine = self.engine.without_ring(batch, stats)?;
        self.world.borrow_mut().is_mmsg = true;
        self.check(batch, stats, true);
        Ok(self)
    }
}
