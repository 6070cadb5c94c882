//! One core: pin, open, loop, drain.

use std::io;
use std::net::IpAddr;
use std::num::NonZero;
use std::sync::atomic::{AtomicU8, AtomicU32, Ordering};
use std::sync::mpsc::SyncSender;
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::Duration;

use core_affinity::CoreId;

use crate::batch::{Answer, Batch};
use crate::datagram::{DropReason, Verdict};
use crate::engine::{self, Engine, Resources, Wait};
use crate::guard::Guard;
use crate::responder::{Request, Responder};
use crate::stats::Stats;
use reflector_udp::wake::Wake;

/// What a worker tells the server.
#[derive(Debug)]
pub enum Event {
    /// Every socket of this worker has an armed receive.
    Armed {
        /// Which worker.
        worker: usize,
        /// Whether it runs on the CPU that it was to be pinned to.
        is_pinned: bool,
    },
    /// The allow list refused a datagram, for the first time at this worker.
    Refused {
        /// Who sent it.
        peer: IpAddr,
    },
    /// The worker is no more, and its share of the peers unheard.
    Died {
        /// Which worker.
        worker: usize,
        /// Why.
        reason: String,
    },
    /// The worker has drained, as it was told to.
    Ended {
        /// Which worker.
        worker: usize,
        /// What it counted since it was last asked.
        stats: Box<Stats>,
    },
    /// The server is asked to drain and end.
    Stop,
}

/// What a worker is told to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Command {
    /// Go on.
    Run,
    /// Answer what has been received, then end.
    Drain,
    /// End at once, in the order that leaves the port free.
    Leave,
}

/// What a worker shares with the server: a command and, on request, its counts.
///
/// Aligned so that no two workers' share a cache line.
#[repr(align(128))]
pub struct Control {
    command: AtomicU8,
    /// Counts up with each request for the counts.
    requested: AtomicU32,
    published: Mutex<Published>,
    was_published: Condvar,
    wake: Arc<Wake>,
}

const _: () = assert!(align_of::<Control>() == 128);

struct Published {
    /// Whether the worker is no more, so that nothing will be published.
    is_over: bool,
    /// The request that `stats` answer.
    request: u32,
    /// Whether the server has taken the last answer, so that `stats` are zero.
    is_fetched: bool,
    stats: Stats,
}

impl Published {
    fn fetch(&mut self, sum: &mut Stats) {
        sum.add(&self.stats);
        self.stats.reset();
        self.is_fetched = true;
    }
}

impl Control {
    /// A control that says [`Command::Run`].
    ///
    /// # Errors
    /// What eventfd(2) says.
    pub fn open() -> io::Result<Self> {
        Ok(Self {
            command: AtomicU8::new(Command::Run as u8),
            requested: AtomicU32::new(0),
            published: Mutex::new(Published {
                is_over: false,
                request: 0,
                is_fetched: true,
                stats: Stats::new(),
            }),
            was_published: Condvar::new(),
            wake: Arc::new(Wake::open()?),
        })
    }

    /// What interrupts the worker's wait.
    pub fn wake(&self) -> Arc<Wake> {
        Arc::clone(&self.wake)
    }

    /// Tells the worker what to do, and wakes it.
    pub fn command(&self, command: Command) {
        self.command.store(command as u8, Ordering::Release);
        self.wake.wake();
    }

    /// Asks for the counts since the last time, and adds them to `sum`. Returns whether the worker
    /// answered within `patience`; if not, its counts come with the next answer.
    pub fn gather(&self, sum: &mut Stats, patience: Duration) -> bool {
        let request = self
            .requested
            .fetch_add(1, Ordering::Release)
            .wrapping_add(1);
        self.wake.wake();
        let published = self
            .published
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        let (mut published, _) = self
            .was_published
            .wait_timeout_while(published, patience, |published| {
                published.request != request && !published.is_over
            })
            .unwrap_or_else(PoisonError::into_inner);
        let is_answered = published.request == request || published.is_over;
        published.fetch(sum);
        is_answered
    }

    /// Adds to `sum` what was published too late to be gathered. The worker has ended.
    pub fn gather_rest(&self, sum: &mut Stats) {
        self.published
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .fetch(sum);
    }

    /// Says that the worker is no more: whoever waits for its counts waits no longer.
    pub fn end(&self) {
        let mut published = self
            .published
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        published.is_over = true;
        self.was_published.notify_one();
    }

    /// Whether the rest of the queue is to be left.
    fn is_leaving(&self) -> bool {
        self.command.load(Ordering::Acquire) == Command::Leave as u8
    }

    fn is_running(&self) -> bool {
        self.command.load(Ordering::Acquire) == Command::Run as u8
    }

    /// Hands the worker's counts over if they were asked for since `answered`.
    fn publish(&self, answered: &mut u32, stats: &mut Stats) {
        let requested = self.requested.load(Ordering::Acquire);
        if requested == *answered {
            return;
        }
        *answered = requested;
        let mut published = self
            .published
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        if published.is_fetched {
            std::mem::swap(&mut published.stats, stats);
        } else {
            // The server gave up waiting for an earlier answer and has not fetched it since.
            published.stats.add(stats);
            stats.reset();
        }
        published.is_fetched = false;
        published.request = requested;
        self.was_published.notify_one();
    }
}

/// Everything that a worker starts with.
pub struct Worker<R> {
    /// Its number, from 0.
    pub index: usize,
    /// The CPU that it is pinned to, if to any.
    pub core: Option<CoreId>,
    /// How it moves datagrams.
    pub engine: engine::Settings,
    /// What it moves them with.
    pub resources: Resources,
    /// How long it waits for more before it answers.
    pub coalesce: Duration,
    /// What may be answered.
    pub guard: Guard,
    /// What is answered.
    pub responder: R,
    /// What the server says.
    pub control: Arc<Control>,
    /// What the server hears.
    pub events: SyncSender<Event>,
}

impl<R: Responder> Worker<R> {
    /// Reflects on the calling thread until told to drain. Returns the counts since they were last
    /// gathered.
    ///
    /// # Errors
    /// What the kernel refused of the engine itself.
    pub fn run(mut self) -> io::Result<Stats> {
        let is_pinned = self.core.is_none_or(core_affinity::set_for_current);
        let slots_max = usize::from(self.engine.buffers);
        // Allocated after pinning, so that the memory is this core's.
        let mut batch = Batch::new(slots_max);
        let mut stats = Stats::new();
        let mut engine = Engine::open(&self.engine, self.resources.clone())?;
        if !self.coalesce.is_zero() {
            // Otherwise a sleep may last 50 µs longer than asked (PR_SET_TIMERSLACK(2const)).
            let _ = rustix::thread::set_current_timer_slack(Some(NonZero::<u64>::MIN));
        }
        engine.arm()?;
        // The server is there for as long as its workers are.
        let _ = self.events.send(Event::Armed {
            worker: self.index,
            is_pinned,
        });

        let mut answered = 0;
        let mut has_refused = false;
        while self.control.is_running() {
            engine.receive(&mut batch, &mut stats, Wait::Idle)?;
            if !self.coalesce.is_zero() && !batch.is_empty() {
                std::thread::sleep(self.coalesce);
                engine.receive(&mut batch, &mut stats, Wait::Never)?;
            }
            let refused = self.respond(&mut batch, &mut stats);
            engine.transmit(&mut batch, &mut stats)?;
            self.control.publish(&mut answered, &mut stats);
            if let (Some(peer), false) = (refused, has_refused) {
                has_refused = self.events.try_send(Event::Refused { peer }).is_ok();
            }
        }
        self.drain(engine, &mut batch, &mut stats)?;
        Ok(stats)
    }

    /// Answers what is queued. The server has shut the sockets to what is new.
    fn drain(&mut self, engine: Engine, batch: &mut Batch, stats: &mut Stats) -> io::Result<()> {
        let mut engine = engine.into_mmsg(batch, stats)?;
        loop {
            self.respond(batch, stats);
            engine.transmit(batch, stats);
            // A batch is empty as well where nothing in it can be answered; the queue goes on.
            let received = stats.counters.received;
            if self.control.is_leaving() {
                return Ok(());
            }
            engine.receive(batch, stats, Wait::Never)?;
            if stats.counters.received == received {
                return Ok(());
            }
        }
    }

    /// Decides the answer of each slot. Returns a peer that the allow list refused.
    fn respond(&mut self, batch: &mut Batch, stats: &mut Stats) -> Option<IpAddr> {
        stats.counters.batches += u64::from(!batch.is_empty());
        let mut refused = None;
        let (slots, verdicts) = batch.parts_mut();
        for (slot, lease) in slots {
            let arrival = &slot.arrival;
            slot.answer = match self.guard.admit(&arrival.route.peer) {
                Err(reason) => {
                    let ip = arrival.route.peer.ip();
                    // What is denied on purpose needs no remedy.
                    if reason == DropReason::NotAllowed && !self.guard.is_denied(ip) {
                        refused = Some(ip);
                    }
                    Answer::Drop(reason)
                }
                Ok(()) if R::AS_IS => Answer::Whole,
                Ok(()) => {
                    let request = Request {
                        peer: arrival.route.peer.addr(),
                        local: arrival.route.local,
                        received_ns: arrival.received_ns,
                    };
                    let first = verdicts.len() as u32;
                    let segment_len = arrival.segment_len as usize;
                    respond_each(&mut self.responder, &request, lease, segment_len, verdicts);
                    Answer::Each(first)
                }
            };
        }
        refused
    }
}

/// One verdict for each datagram of a train; an empty datagram is one.
fn respond_each<R: Responder>(
    responder: &mut R,
    request: &Request,
    train: &mut [u8],
    segment_len: usize,
    verdicts: &mut Vec<Verdict>,
) {
    if train.is_empty() {
        verdicts.push(responder.respond(request, train));
    }
    for segment in train.chunks_mut(segment_len.max(1)) {
        verdicts.push(responder.respond(request, segment));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_that_come_too_late_for_the_server_are_not_lost() {
        let control = Control::open().unwrap();
        let (mut sum, mut stats, mut answered) = (Stats::new(), Stats::new(), 0);
        assert!(!control.gather(&mut sum, Duration::ZERO), "nobody answers");
        stats.counters.receive(3, 300);
        control.publish(&mut answered, &mut stats);
        assert_eq!((sum.counters.received, stats.counters.received), (0, 0));
        control.gather_rest(&mut sum);
        assert_eq!(sum.counters.received, 3);
        control.gather_rest(&mut sum);
        assert_eq!(sum.counters.received, 3, "only once");
    }

    #[test]
    fn nobody_waits_for_the_counts_of_a_worker_that_is_no_more() {
        let control = Control::open().unwrap();
        control.end();
        assert!(control.gather(&mut Stats::new(), Duration::MAX));
    }
}
