//! The server's side of the counts: by worker since the start, of all since the last report.

use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::config::Config;
use crate::socket::Socket;
use crate::stats::Stats;
use crate::stats::report::{KernelLoss, Summary, Totals, WorkerShare};
use crate::worker::Control;
use reflector_measure::host;

/// How long a worker may take to hand over its counts. Longer than any batch takes.
const PATIENCE: Duration = Duration::from_secs(2);

/// Who has counted what, and when it was last reported.
pub struct Books {
    start: Instant,
    interval_start: Instant,
    interval: Stats,
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
    sockets: Arc<[Socket]>,
    kernel_drops: u64,
    /// The kernel's counter of each socket when it was read last; it wraps.
    seen: Vec<u32>,
}

impl Share {
    fn read_drops(&mut self) {
        for (socket, seen) in self.sockets.iter().zip(&mut self.seen) {
            // One that cannot be read now is read the next time.
            let Some(drops) = socket.drops() else {
                continue;
            };
            self.kernel_drops += u64::from(drops.wrapping_sub(*seen));
            *seen = drops;
        }
    }
}

impl Books {
    /// Opens the books at `start`.
    pub fn new(start: Instant, config: &Config, sockets: &[Arc<[Socket]>]) -> Self {
        let share = |(worker, sockets): (usize, &Arc<[Socket]>)| Share {
            total: Stats::new(),
            cpu: config.workers[worker].map(|core| core.id),
            sockets: Arc::clone(sockets),
            kernel_drops: 0,
            seen: vec![0; sockets.len()],
        };
        let loss = KernelLoss {
            kernel_drops: 0,
            sndbuf_errors: host::sndbuf_errors(),
        };
        Self {
            start,
            interval_start: start,
            interval: Stats::new(),
            workers: sockets.iter().enumerate().map(share).collect(),
            interval_loss: loss,
            first_loss: loss,
            final_loss: None,
        }
    }

    /// Gathers the counts of every worker.
    pub fn gather(&mut self, controls: &[Arc<Control>]) {
        for (worker, control) in controls.iter().enumerate() {
            let mut stats = Stats::new();
            if !control.gather(&mut stats, PATIENCE) {
                tracing::warn!("worker {worker} is stuck: it has not answered for {PATIENCE:?}");
            }
            self.add(worker, &stats);
        }
        self.read_losses();
    }

    /// Adds what `worker` counted.
    pub fn add(&mut self, worker: usize, stats: &Stats) {
        self.interval.add(stats);
        self.workers[worker].total.add(stats);
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

    /// The interval until `now`, when it began and how long it was; the next one begins.
    pub fn close_interval(&mut self, now: Instant) -> Interval {
        let length = now.duration_since(self.interval_start);
        let loss = self.losses();
        let mut stats = Stats::new();
        std::mem::swap(&mut stats, &mut self.interval);
        let interval = Interval {
            totals: Totals::new(
                length.as_secs_f64(),
                &stats,
                self.total().counters.in_flight(),
                difference(loss, self.interval_loss),
            ),
            stats,
            start: self.interval_start.duration_since(self.start),
            length,
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
        Summary {
            totals: Totals::new(seconds, &total, in_flight, loss),
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

/// One closed interval.
pub struct Interval {
    /// What is reported.
    pub totals: Totals,
    /// The counts behind it.
    pub stats: Stats,
    /// When it began, since the start.
    pub start: Duration,
    /// How long it was.
    pub length: Duration,
}

fn difference(now: KernelLoss, before: KernelLoss) -> KernelLoss {
    KernelLoss {
        kernel_drops: now.kernel_drops.saturating_sub(before.kernel_drops),
        sndbuf_errors: now.sndbuf_errors.saturating_sub(before.sndbuf_errors),
    }
}
