//! The server's side of the counters: by worker since the start, of all since the last report.

use std::sync::Arc;
use std::time::Instant;

use crate::config::Config;
use crate::socket::SocketPair;
use crate::stats::Stats;
use crate::stats::report::{Interval, KernelLoss, Summary, Totals, WorkerShare};
use crate::worker::control::Control;
use reflector_measure::clock::Span;
use reflector_measure::handover::Counters as _;
use reflector_measure::host;

/// Who has counted what, and when it was last reported.
pub struct Accounting {
    start: Instant,
    interval_start: Instant,
    interval: Stats,
    /// What a worker has handed over, on its way into the sums; zero in between.
    collected: Stats,
    workers: Vec<Share>,
    /// The kernel's counters at the start of the interval, and at the very start.
    interval_loss: KernelLoss,
    first_loss: KernelLoss,
    /// Set when the sockets are shut: what they refuse from then on is not lost but unwanted.
    final_loss: Option<KernelLoss>,
}

struct Share {
    total: Stats,
    cpu: Option<usize>,
    sockets: Arc<[SocketPair]>,
    kernel_drops: u64,
    /// The kernel's counter of each socket when it was read last; it wraps.
    seen: Vec<u32>,
    /// Whether its counters were asked for, and have not been handed over.
    is_asked: bool,
}

impl Share {
    /// Adds what the worker has handed over to its sum and to `interval`, by way of `collected`;
    /// says whether it has answered.
    fn take(&mut self, control: &Control, collected: &mut Stats, interval: &mut Stats) -> bool {
        let has_answered = control.counters.collect(collected);
        interval.add(collected);
        self.total.add(collected);
        collected.reset();
        has_answered
    }

    fn read_drops(&mut self) {
        for (pair, seen) in self.sockets.iter().zip(&mut self.seen) {
            // One that cannot be read now is read the next time.
            let Some(drops) = pair.receiver.drops() else {
                continue;
            };
            self.kernel_drops += u64::from(drops.wrapping_sub(*seen));
            *seen = drops;
        }
    }
}

impl Accounting {
    /// Nothing counted at `start`.
    pub fn new(start: Instant, config: &Config, sockets: &[Arc<[SocketPair]>]) -> Self {
        let share = |(worker, sockets): (usize, &Arc<[SocketPair]>)| Share {
            total: Stats::new(),
            cpu: config.workers[worker].map(|core| core.id),
            sockets: Arc::clone(sockets),
            kernel_drops: 0,
            seen: vec![0; sockets.len()],
            is_asked: false,
        };
        let loss = KernelLoss {
            kernel_drops: 0,
            sndbuf_errors: host::sndbuf_errors(),
        };
        Self {
            start,
            interval_start: start,
            interval: Stats::new(),
            collected: Stats::new(),
            workers: sockets.iter().enumerate().map(share).collect(),
            interval_loss: loss,
            first_loss: loss,
            final_loss: None,
        }
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

    fn losses(&self) -> KernelLoss {
        self.final_loss.unwrap_or_else(|| KernelLoss {
            kernel_drops: self.workers.iter().map(|share| share.kernel_drops).sum(),
            sndbuf_errors: host::sndbuf_errors(),
        })
    }

    /// The interval until `now`, the last one or not; the next one begins.
    pub fn close_interval(&mut self, now: Instant, is_last: bool) -> Interval {
        self.read_losses();
        let length = now.duration_since(self.interval_start);
        let loss = self.losses();
        let mut stats = Stats::new();
        std::mem::swap(&mut stats, &mut self.interval);
        let mut totals = Totals::new(
            length.as_secs_f64(),
            &stats,
            self.total().counters.in_flight(),
            difference(loss, self.interval_loss),
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
        let total = self.total();
        let seconds = now.duration_since(self.start).as_secs_f64();
        let in_flight = total.counters.in_flight();
        let loss = difference(self.losses(), self.first_loss);
        let share = |(worker, share): (usize, &Share)| {
            WorkerShare::new(worker, share.cpu, &share.total.counters, share.kernel_drops)
        };
        let mut totals = Totals::new(seconds, &total, in_flight, loss);
        totals.span = Span::between(self.start, now);
        Summary {
            totals,
            per_worker: self.workers.iter().enumerate().map(share).collect(),
        }
    }

    fn total(&self) -> Stats {
        let mut total = Stats::new();
        self.workers
            .iter()
            .for_each(|share| total.add(&share.total));
        total
    }
}

fn difference(now: KernelLoss, before: KernelLoss) -> KernelLoss {
    KernelLoss {
        kernel_drops: now.kernel_drops.saturating_sub(before.kernel_drops),
        sndbuf_errors: now.sndbuf_errors.saturating_sub(before.sndbuf_errors),
    }
}
