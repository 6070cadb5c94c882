//! One measurement: starts the workers, collects their counters, waits for their end.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::thread;
use std::time::{Duration, Instant};

use core_affinity::CoreId;

use crate::control::Control;
use crate::ended::Ended;
use crate::flow::Flow;
use crate::host_loss::{Before, HostLoss};
use crate::options::Rate;
use crate::plan::{Offer, Plan};
use crate::schedule::{Schedule, Shape};
use crate::start_line::{Place, StartLine};
use crate::stats::Stats;
use crate::worker::{Parts, Worker};
use reflector_measure::clock::{self, Span, Timeline};
use reflector_measure::error::Error;
use reflector_measure::handover::Counters as _;

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
    /// When it was.
    pub(crate) span: Span,
}

/// What came of a measurement.
#[derive(Debug)]
pub(crate) struct Outcome {
    /// Everything that was counted.
    pub(crate) stats: Stats,
    /// How long was sent, without the warm-up.
    pub(crate) seconds: f64,
    /// When it was measured, up to the last answer that was waited for.
    pub(crate) span: Span,
    /// What the workers knew at their end.
    pub(crate) ended: Ended,
    /// What this host lost, as far as it is known.
    pub(crate) host: HostLoss,
    /// Whether it was stopped before its end.
    pub(crate) is_interrupted: bool,
}

/// Makes `offer` as `plan` says, until it is over or `stop` is set. Calls `on_interval` about as
/// often as the plan's interval.
///
/// # Errors
/// Sockets that cannot be opened (see [`Flow::open_all`]), `EAGAIN` where no thread is available, a
/// worker that ended early, or the first error of `on_interval`.
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
    let before = Before::read(plan);
    thread::scope(|scope| {
        let mut start_line = StartLine::new();
        let (postbox, ended) = channel();
        for (worker, parts) in parts.into_iter().enumerate() {
            let (postbox, place) = (postbox.clone(), start_line.place());
            let core = plan.cores[worker];
            let control = Arc::clone(&parts.control);
            let run = move || {
                let end = work(parts, core, place);
                // Before anybody asks for what it has handed over already.
                control.handover.close();
                // Nobody waits for it if the measurement has failed otherwise.
                let _ = postbox.send((worker, end));
            };
            let name = "load".to_owned();
            let spawned = thread::Builder::new().name(name).spawn_scoped(scope, run);
            spawned.map_err(|e| no_thread(worker, &e))?;
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
    gathering.outcome(before)
}

/// The first multiple of `tick` from `start` on that is after `now`: who was late does not make
/// all that follow late.
fn next_multiple(start: Instant, tick: Duration, now: Instant) -> Instant {
    let since = now.saturating_duration_since(start).as_nanos();
    let tick_ns = tick.as_nanos().max(1);
    let count = since / tick_ns + 1;
    start + Duration::from_nanos(u64::try_from(count * tick_ns).unwrap_or(u64::MAX))
}

/// Why there is no thread for `worker`, counted from 0.
fn no_thread(worker: usize, e: &io::Error) -> Error {
    let error = Error::system(
        format!("cannot start thread {} to send from", worker + 1),
        e,
    );
    match e.raw_os_error() {
        Some(libc::EAGAIN) => error
            .try_this("`ulimit -u`, or pids.max of the control group, limits how many there are"),
        _ => error,
    }
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

fn work(parts: Parts<'_>, core: Option<CoreId>, place: Place) -> io::Result<Ended> {
    if core.is_some_and(|core| !core_affinity::set_for_current(core)) {
        tracing::warn!("cannot pin a worker to its core; the system chooses");
    }
    // Made after pinning, so that the memory is this core's.
    let worker = Worker::new(parts)?;
    match place.wait() {
        Some(start_ns) => worker.run(start_ns),
        None => Ok(Ended::default()),
    }
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
    /// When the interval is over: a multiple of the tick from the start on, however late the ones
    /// before it ended.
    interval_end: Instant,
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
            interval_end: now,
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
            if self.is_running() && clock::monotonic() >= self.interval_end {
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
        self.interval_end = self.start + self.tick;
    }

    /// Time until something is due.
    fn sleep(&self) -> Duration {
        self.interval_end
            .saturating_duration_since(clock::monotonic())
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
            span: Span::between(self.interval_start, now),
        };
        let reported = on_interval(&interval);
        self.total.add(&self.interval);
        self.interval.reset();
        self.interval_start = now;
        self.interval_end = next_multiple(self.start, self.tick, now);
        reported
    }

    fn outcome(self, before: Before) -> Result<Outcome, Error> {
        if let Some(error) = self.failure {
            return Err(Error::system("cannot go on sending", &error));
        }
        Ok(Outcome {
            host: before.lost(&self.total.counters),
            stats: self.total,
            seconds: self.ended.span_ns as f64 / 1e9,
            span: Span::between(self.start, self.interval_start),
            ended: self.ended,
            is_interrupted: self.is_interrupted,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_interval_that_ends_late_makes_none_after_it_late() {
        let start = clock::monotonic();
        let tick = Duration::from_millis(10);
        let due = |now_us| {
            let now = start + Duration::from_micros(now_us);
            (next_multiple(start, tick, now) - start).as_micros()
        };
        assert_eq!(due(0), 10_000);
        assert_eq!(due(10_300), 20_000);
        assert_eq!(due(20_000), 30_000);
        assert_eq!(due(47_000), 50_000, "what was missed is not made up for");
        assert_eq!(next_multiple(start, tick, start - tick) - start, tick);
    }
}
