//! One measurement: starts the workers, collects their counters, waits for their end.

use std::io;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::sync::{Arc, Barrier};
use std::thread;
use std::time::{Duration, Instant};

use core_affinity::CoreId;

use crate::control::Control;
use crate::ended::Ended;
use crate::flow::Flow;
use crate::options::Rate;
use crate::plan::{Offer, Plan};
use crate::schedule::{Schedule, Shape};
use crate::stats::Stats;
use crate::worker::{Parts, Worker};
use reflector_measure::clock::{self, Timeline};
use reflector_measure::error::Error;
use reflector_measure::handover::Counters as _;
use reflector_measure::host;

/// Between the workers' readiness and the first datagram.
const RUN_UP_NS: u64 = 1_000_000;
/// How soon a stop is noticed.
const STOP_LATENCY: Duration = Duration::from_millis(50);
/// How long all workers together may take to hand over their counters.
const ANSWER_MAX: Duration = Duration::from_secs(2);
/// Time between collections where no interval is set.
const TICK_DEFAULT: Duration = Duration::from_secs(1);

/// What was counted over a part of the measurement.
#[derive(Debug)]
pub(crate) struct Interval<'a> {
    /// The counters.
    pub(crate) stats: &'a Stats,
    /// When it began, from the end of the warm-up on.
    pub(crate) start: Duration,
    /// How long it was.
    pub(crate) length: Duration,
}

/// What came of a measurement.
#[derive(Debug)]
pub(crate) struct Outcome {
    /// Everything that was counted.
    pub(crate) stats: Stats,
    /// How long was sent, without the warm-up.
    pub(crate) seconds: f64,
    /// What the workers knew at their end.
    pub(crate) ended: Ended,
    /// UDP `SndbufErrors` of the host meanwhile, ours and others'.
    pub(crate) sndbuf_errors: u64,
    /// Whether it was stopped before its end.
    pub(crate) is_interrupted: bool,
}

/// Makes `offer` as `plan` says, until it is over or `stop` is set. Calls `on_interval` about as
/// often as the plan's interval.
///
/// # Errors
/// Sockets that cannot be opened (see [`Flow::open_all`]), a worker that ended early, or the first
/// error of `on_interval`.
pub(crate) fn measure(
    plan: &Plan,
    offer: &Offer,
    stop: &AtomicBool,
    on_interval: &mut OnInterval<'_>,
) -> Result<Outcome, Error> {
    let mut flows = Flow::open_all(plan)?;
    let count = plan.cores.len();
    let session = fastrand::u32(..);
    let timeline = Timeline::start();
    let mut gathering = Gathering::new(plan)?;
    let mut parts = Vec::with_capacity(count);
    for worker in (0..count).rev() {
        let seed = plan.seed.wrapping_add(worker as u64);
        parts.push(Parts {
            plan,
            flows: flows.split_off(worker * plan.flows / count),
            schedule: Schedule::new(shape(plan, offer, worker, seed)),
            session,
            seed,
            timeline,
            control: Arc::clone(&gathering.workers[worker].control),
        });
    }
    parts.reverse();
    let sndbuf_errors_before = host::sndbuf_errors();
    let start_line = StartLine::new(count);
    thread::scope(|scope| {
        let (postbox, ended) = channel();
        for (worker, parts) in parts.into_iter().enumerate() {
            let (postbox, start_line) = (postbox.clone(), &start_line);
            let core = plan.cores[worker];
            let run = move || {
                let end = work(parts, core, start_line);
                // Nobody waits for it if the measurement has failed otherwise.
                let _ = postbox.send((worker, end));
            };
            thread::Builder::new()
                .name("load".to_owned())
                .spawn_scoped(scope, run)
                .expect("without threads nothing can be measured");
        }
        drop(postbox);
        gathering.start(start_line.start(&timeline));
        let result = gathering.run(&ended, stop, on_interval);
        if result.is_err() {
            // The scope waits for the workers.
            gathering.stop();
        }
        result
    })?;
    gathering.outcome(host::sndbuf_errors().saturating_sub(sndbuf_errors_before))
}

/// The schedule of one worker: its share of the offer.
fn shape(plan: &Plan, offer: &Offer, worker: usize, seed: u64) -> Shape {
    let count = plan.cores.len();
    let share = |total: u64| {
        let (worker, count) = (worker as u64, count as u64);
        total / count + u64::from(worker < total % count)
    };
    Shape {
        rate: match offer.rate {
            Rate::Max => Rate::Max,
            Rate::Pps(pps) => Rate::Pps(pps / count as f64),
        },
        burst: plan.burst,
        poisson: plan.poisson,
        seed,
        phase: worker as f64 / count as f64,
        warmup_ns: plan.warmup.as_nanos() as u64,
        duration_ns: offer.duration.map(|it| it.as_nanos() as u64),
        count: offer.count.map(share),
    }
}

/// Where workers wait until all are ready, and learn when to start.
struct StartLine {
    barrier: Barrier,
    start_ns: AtomicU64,
}

impl StartLine {
    fn new(workers: usize) -> Self {
        Self {
            barrier: Barrier::new(workers + 1),
            start_ns: AtomicU64::new(0),
        }
    }

    /// Waits until all workers are ready, and starts them. Returns when that is.
    fn start(&self, timeline: &Timeline) -> Instant {
        self.barrier.wait();
        let start_ns = timeline.now_ns() + RUN_UP_NS;
        self.start_ns.store(start_ns, Ordering::Relaxed);
        self.barrier.wait();
        clock::monotonic() + Duration::from_nanos(RUN_UP_NS)
    }

    /// Tells that a worker is ready, and waits for the start.
    fn wait(&self) -> u64 {
        self.barrier.wait();
        self.barrier.wait();
        self.start_ns.load(Ordering::Relaxed)
    }
}

fn work(parts: Parts<'_>, core: Option<CoreId>, start_line: &StartLine) -> io::Result<Ended> {
    if core.is_some_and(|core| !core_affinity::set_for_current(core)) {
        tracing::warn!("cannot pin a worker to its core; the system chooses");
    }
    // Made after pinning, so that the memory is this core's.
    let worker = Worker::new(parts);
    let start_ns = start_line.wait();
    worker?.run(start_ns)
}

/// What is called with each interval; it may refuse to go on.
pub(crate) type OnInterval<'a> = dyn FnMut(&Interval<'_>) -> Result<(), Error> + 'a;

/// Who has counted what, and when it was reported last.
struct Gathering {
    workers: Vec<Gathered>,
    tick: Duration,
    warmup: Duration,
    /// When counting began; in the future during the warm-up.
    start: Instant,
    interval_start: Instant,
    interval: Stats,
    total: Stats,
    /// The workers' ends, added up.
    ended: Ended,
    is_interrupted: bool,
    failure: Option<io::Error>,
}

struct Gathered {
    control: Arc<Control>,
    is_running: bool,
}

impl Gathering {
    fn new(plan: &Plan) -> Result<Self, Error> {
        let now = clock::monotonic();
        let gathered = |_| {
            let control = Arc::new(Control::open()?);
            let is_running = true;
            Ok(Gathered {
                control,
                is_running,
            })
        };
        Ok(Self {
            workers: (0..plan.cores.len())
                .map(gathered)
                .collect::<io::Result<_>>()
                .map_err(|e| Error::system("cannot make an eventfd", &e))?,
            tick: plan.interval.unwrap_or(TICK_DEFAULT),
            warmup: plan.warmup,
            start: now,
            interval_start: now,
            interval: Stats::new(),
            total: Stats::new(),
            ended: Ended::default(),
            is_interrupted: false,
            failure: None,
        })
    }

    /// Gathers until the last worker has ended.
    fn run(
        &mut self,
        ended: &Receiver<(usize, io::Result<Ended>)>,
        stop: &AtomicBool,
        on_interval: &mut OnInterval<'_>,
    ) -> Result<(), Error> {
        while self.is_running() {
            match ended.recv_timeout(self.sleep()) {
                Ok((worker, end)) => self.end(worker, end),
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => {
                    return Err(Error::new("cannot go on", "a worker panicked"));
                }
            }
            if stop.load(Ordering::Relaxed) {
                self.is_interrupted = true;
                self.stop();
            }
            let tick = self.interval_start + self.tick;
            if self.is_running() && clock::monotonic() >= tick {
                self.close_interval(on_interval)?;
            }
        }
        self.close_interval(on_interval)
    }

    fn is_running(&self) -> bool {
        self.workers.iter().any(|worker| worker.is_running)
    }

    fn start(&mut self, start: Instant) {
        self.start = start + self.warmup;
        self.interval_start = self.start;
    }

    /// Time until something is due.
    fn sleep(&self) -> Duration {
        let tick = self.interval_start + self.tick;
        tick.saturating_duration_since(clock::monotonic())
            .min(STOP_LATENCY)
    }

    fn stop(&self) {
        self.workers.iter().for_each(|worker| worker.control.stop());
    }

    fn end(&mut self, worker: usize, end: io::Result<Ended>) {
        self.workers[worker].is_running = false;
        self.workers[worker].control.handover.close();
        match end {
            Ok(end) => self.ended.add(end),
            Err(error) => {
                self.failure = Some(error);
                self.stop();
            }
        }
    }

    fn close_interval(&mut self, on_interval: &mut OnInterval<'_>) -> Result<(), Error> {
        self.workers
            .iter()
            .for_each(|worker| worker.control.request());
        let deadline = clock::monotonic() + ANSWER_MAX;
        for worker in &self.workers {
            let handover = &worker.control.handover;
            handover.wait(deadline.saturating_duration_since(clock::monotonic()));
            // What comes too late for this interval counts in the next.
            handover.collect(&mut self.interval);
        }
        let now = clock::monotonic();
        let interval = Interval {
            stats: &self.interval,
            start: self.interval_start.saturating_duration_since(self.start),
            length: now.saturating_duration_since(self.interval_start),
        };
        let reported = on_interval(&interval);
        self.total.add(&self.interval);
        self.interval.reset();
        self.interval_start = now;
        reported
    }

    fn outcome(self, sndbuf_errors: u64) -> Result<Outcome, Error> {
        if let Some(error) = self.failure {
            return Err(Error::system("cannot go on sending", &error));
        }
        Ok(Outcome {
            stats: self.total,
            seconds: self.ended.span_ns as f64 / 1e9,
            ended: self.ended,
            sndbuf_errors,
            is_interrupted: self.is_interrupted,
        })
    }
}
