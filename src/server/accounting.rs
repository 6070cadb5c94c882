//! The server's side of the counters: by worker since the start, of all since the last report.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Instant;

use super::sockets::Sockets;
use crate::config::{Config, Listener};
use crate::engine::Detours;
use crate::socket::SocketPair;
use crate::stats::Stats;
use crate::stats::counters::Counters;
use crate::stats::report::{Interval, KernelLoss, ListenerShare, Summary, Totals, WorkerShare};
use crate::stats::snapshot::{ListenerCounts, Snapshot, WorkerCounts};
use crate::worker::control::Control;
use reflector_measure::clock::Span;
use reflector_measure::drops::{Arrivals, Drops, Families, Received};
use reflector_measure::handover::Counters as _;
use reflector_measure::snmp::Texts;

/// Who has counted what, and when it was last reported.
pub struct Accounting {
    start: Instant,
    interval_start: Instant,
    interval: Stats,
    /// What a worker has handed over, on its way into the sums; zero in between.
    collected: Stats,
    workers: Vec<Share>,
    /// The kernel's counters at the start of the interval, and at the very start.
    interval_loss: Losses,
    first_loss: Losses,
    /// Set when the sockets are shut: what they refuse from then on is not lost but unwanted.
    final_loss: Option<Losses>,
    families: Families,
    detours: Arc<Detours>,
    /// Whether the kernel gives us trains whole, and counts a dropped one once.
    has_trains: bool,
    /// What is listened on, in the order of the sockets.
    listen: Vec<SocketAddr>,
    /// Buffers of each worker.
    buffers: usize,
}

/// The kernel's counters of what it lost, at one moment.
#[derive(Clone, Copy)]
struct Losses {
    /// Drops at our sockets, a train once.
    trains: u64,
    arrivals: Option<Arrivals>,
    sndbuf_errors: u64,
    queue_drops: Option<u64>,
}

struct Share {
    total: Stats,
    cpu: Option<usize>,
    sockets: Arc<[SocketPair]>,
    /// Of each socket.
    drops: Vec<Dropped>,
    /// Whether its counters were asked for, and have not been handed over.
    is_asked: bool,
}

/// What the kernel has dropped at one socket, a train once.
#[derive(Clone, Copy)]
struct Dropped {
    trains: u64,
    /// The kernel's counter when it was read last; it wraps.
    seen: u32,
}

impl Share {
    /// Adds what the worker has handed over to its sum and to `interval`, by way of `collected`;
    /// says whether it has answered.
    fn take(&mut self, control: &Control, collected: &mut Stats, interval: &mut Stats) -> bool {
        let has_answered = control.counters.collect(collected);
        interval.merge(collected);
        self.total.add(collected);
        collected.reset();
        has_answered
    }

    fn read_drops(&mut self) {
        for (pair, dropped) in self.sockets.iter().zip(&mut self.drops) {
            // One that cannot be read now is read the next time.
            let Some(drops) = pair.receiver.drops() else {
                continue;
            };
            dropped.trains += u64::from(drops.wrapping_sub(dropped.seen));
            dropped.seen = drops;
        }
    }

    fn trains_dropped(&self) -> u64 {
        self.drops.iter().map(|it| it.trains).sum()
    }

    /// The counters of what is listened on with the index `listener`, of `count`, with what was
    /// dropped there: a worker may have several sockets of each.
    fn of_listener(&self, listener: usize, count: usize) -> (Counters, u64) {
        let mut sum = (Counters::default(), 0);
        let both = self.total.sockets().iter().zip(&self.drops);
        for (counters, dropped) in both.skip(listener).step_by(count) {
            sum.0.add(counters);
            sum.1 += dropped.trains;
        }
        sum
    }
}

impl Accounting {
    /// Nothing counted at `now`. What the kernel drops at the sockets counts from their opening,
    /// all else that it loses from here on.
    pub fn new(now: Instant, config: &Config, sockets: &Sockets) -> Self {
        let share = |(worker, sockets): (usize, &Arc<[SocketPair]>)| Share {
            total: Stats::growing(sockets.len()),
            cpu: config.workers[worker].map(|core| core.id),
            sockets: Arc::clone(sockets),
            drops: sockets.iter().map(untouched).collect(),
            is_asked: false,
        };
        let sockets_max = sockets.by_worker.iter().map(|it| it.len()).max();
        let is_v6 = |it: &Listener| it.addr.is_ipv6();
        let families = Families {
            v4: config.socket.dual_stack || !config.listen.iter().all(is_v6),
            v6: config.listen.iter().any(is_v6),
        };
        let detours = Arc::clone(&sockets.detours);
        let loss = Losses::read(0, families, &detours);
        Self {
            start: now,
            interval_start: now,
            interval: Stats::growing(1),
            collected: Stats::growing(sockets_max.unwrap_or(0)),
            workers: sockets.by_worker.iter().enumerate().map(share).collect(),
            interval_loss: loss,
            first_loss: loss,
            final_loss: None,
            families,
            detours,
            has_trains: config.socket.gro,
            listen: sockets.listeners.iter().map(|it| it.addr).collect(),
            buffers: usize::from(config.engine.buffers),
        }
    }

    /// Serves from `now` on.
    pub fn begin(&mut self, now: Instant) {
        self.start = now;
        self.interval_start = now;
    }

    /// Asks every worker for its counters.
    pub fn request(&mut self, controls: &[Arc<Control>]) {
        // What came too late for the last interval is no answer to the next request.
        self.collect(controls);
        for (share, control) in self.workers.iter_mut().zip(controls) {
            control.request_counters();
            share.is_asked = true;
        }
    }

    /// Takes what workers that have ended have left.
    pub fn collect_rest(&mut self, controls: &[Arc<Control>]) {
        for (share, control) in self.workers.iter_mut().zip(controls) {
            share.take(control, &mut self.collected, &mut self.interval);
        }
    }

    /// Takes what has been handed over; says whether that is all. Waits for nobody: the counters of
    /// a worker that is late come with a later report.
    pub fn collect(&mut self, controls: &[Arc<Control>]) -> bool {
        for (share, control) in self.workers.iter_mut().zip(controls) {
            if share.is_asked {
                let has_answered = share.take(control, &mut self.collected, &mut self.interval);
                share.is_asked = !has_answered;
            }
        }
        self.workers.iter().all(|share| !share.is_asked)
    }

    /// Reads the kernel's loss counters for the last time.
    pub fn close_losses(&mut self) {
        self.read_losses();
        self.final_loss = Some(self.losses());
    }

    fn read_losses(&mut self) {
        if self.final_loss.is_none() {
            self.workers.iter_mut().for_each(Share::read_drops);
        }
    }

    fn losses(&self) -> Losses {
        self.final_loss.unwrap_or_else(|| {
            let trains = self.workers.iter().map(Share::trains_dropped);
            Losses::read(trains.sum(), self.families, &self.detours)
        })
    }

    /// What was lost from `before` to `now`, while `counters` were counted.
    fn lost(&self, before: Losses, now: Losses, counters: &Counters) -> KernelLoss {
        let trains = now.trains.saturating_sub(before.trains);
        let received = Received {
            datagrams: counters.received,
            buffers: counters.trains_received.count(),
        };
        let arrivals = before.arrivals.zip(now.arrivals);
        let arrivals = arrivals.map(|(before, now)| now.since(before));
        KernelLoss {
            drops: match self.has_trains {
                true => Drops::new(trains, received, arrivals),
                false => Drops::exact(trains),
            },
            sndbuf_errors: now.sndbuf_errors.saturating_sub(before.sndbuf_errors),
            queue_drops: (before.queue_drops.zip(now.queue_drops))
                .map(|(before, now)| now.saturating_sub(before)),
        }
    }

    /// The interval until `now`, the last one or not; the next one begins.
    pub fn close_interval(&mut self, now: Instant, is_last: bool) -> Interval {
        self.read_losses();
        let length = now.duration_since(self.interval_start);
        let loss = self.losses();
        let mut stats = Stats::growing(1);
        std::mem::swap(&mut stats, &mut self.interval);
        let mut totals = Totals::new(
            length.as_secs_f64(),
            &stats,
            self.in_flight(),
            self.lost(self.interval_loss, loss, &stats.counters()),
        );
        totals.span = Span::between(self.interval_start, now);
        let interval = Interval {
            totals,
            latency: stats.latency,
            start: self.interval_start.duration_since(self.start),
            length,
            is_last,
        };
        self.interval_loss = loss;
        self.interval_start = now;
        interval
    }

    /// Everything from the start until `now`.
    pub fn summary(&self, now: Instant) -> Summary {
        self.summary_of(&self.total(), now)
    }

    fn summary_of(&self, total: &Stats, now: Instant) -> Summary {
        let seconds = now.duration_since(self.start).as_secs_f64();
        let loss = self.lost(self.first_loss, self.losses(), &total.counters());
        let share = |(worker, share): (usize, &Share)| {
            WorkerShare::new(worker, share.cpu, &share.total, share.trains_dropped())
        };
        let mut totals = Totals::new(seconds, total, self.in_flight(), loss);
        totals.span = Span::between(self.start, now);
        Summary {
            totals,
            unaccounted: total.unaccounted(),
            per_worker: self.workers.iter().enumerate().map(share).collect(),
            per_listener: self.listener_shares(),
        }
    }

    /// Everything from the start until `now`, for whoever asks; `is_complete` says whether every
    /// worker has handed over.
    pub fn snapshot(&mut self, now: Instant, is_complete: bool) -> Snapshot {
        self.read_losses();
        let workers = self.workers.iter().enumerate();
        let workers = workers.map(|(worker, share)| {
            let listeners = self.listen.iter().enumerate().map(|(index, &listen)| {
                let (counters, dropped) = share.of_listener(index, self.listen.len());
                ListenerCounts::new(listen, &counters, dropped)
            });
            WorkerCounts::new(worker, self.buffers, &share.total, listeners.collect())
        });
        let (workers, total) = (workers.collect(), self.total());
        Snapshot::new(self.summary_of(&total, now), workers, is_complete, total)
    }

    fn listener_shares(&self) -> Vec<ListenerShare> {
        let share = |(index, &listen): (usize, &SocketAddr)| {
            let mut sum = (Counters::default(), 0);
            for share in &self.workers {
                let (counters, dropped) = share.of_listener(index, self.listen.len());
                sum.0.add(&counters);
                sum.1 += dropped;
            }
            ListenerShare::new(listen, &sum.0, sum.1)
        };
        self.listen.iter().enumerate().map(share).collect()
    }

    fn in_flight(&self) -> u64 {
        let of_workers = self.workers.iter().map(|it| it.total.in_flight);
        // What each worker has handed over adds up to what it holds, which is no less than nothing.
        of_workers.sum::<i64>().unsigned_abs()
    }

    fn total(&self) -> Stats {
        let mut total = Stats::growing(1);
        self.workers
            .iter()
            .for_each(|share| total.merge(&share.total));
        total
    }
}

fn untouched(pair: &SocketPair) -> Dropped {
    Dropped {
        trains: 0,
        seen: pair.receiver.first_drops(),
    }
}

impl Losses {
    fn read(trains: u64, families: Families, detours: &Detours) -> Self {
        let texts = Texts::read();
        Self {
            trains,
            arrivals: Arrivals::of(families, &texts),
            sndbuf_errors: texts.sndbuf_errors(),
            queue_drops: detours.queue_drops(),
        }
    }
}
