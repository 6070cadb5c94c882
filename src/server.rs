//! The life of the service: opens the sockets, starts the workers, listens to them, reports,
//! drains.

mod accounting;
mod collection;
mod control;
mod failure;
mod heartbeat;
mod inherited;
mod log;
mod opening;
mod rules;
mod sockets;
mod workers;

use std::collections::BTreeSet;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::config::{Config, Listener};
use crate::datagram::DropReason;
use crate::engine::{Kind, Resources, probe};
use crate::responder::Responder;
use crate::stats::report::{Report, Summary};
use crate::worker::Worker;
use crate::worker::control::{Command, Control, WorkerReport};
use accounting::Accounting;
use collection::Collection;
pub use control::Handle;
use control::{Event, Mailbox, Order};
use heartbeat::Heartbeat;
pub use inherited::{Inherited, SocketLabel, SocketRole};
use log::Log;
use reflector_measure::clock;
use reflector_measure::error::Error;
use sockets::Sockets;
use workers::Workers;

/// How long the workers may take to get ready, together.
const START_MAX: Duration = Duration::from_secs(10);

/// Reports that a worker may have made which nobody has read: each thing that it says once.
const REPORTS_MAX: usize = 2 + DropReason::ALL.len();

/// A reflector that has all its sockets, and serves once it is [`run`](Server::run).
pub struct Server<R> {
    config: Config,
    sockets: Sockets,
    /// By worker and socket.
    responders: Vec<Vec<R>>,
    mailbox: Mailbox,
    log: Log,
}

impl<R: Responder + Send + 'static> Server<R> {
    /// Opens every socket of every worker. `responder` makes one responder for each socket of each
    /// worker, and before that one for each listener, which is only asked what it needs. Nothing is
    /// served yet, and nothing stays open if anything fails.
    ///
    /// # Errors
    /// The first thing that was not available: an address (EADDRNOTAVAIL), its port (EADDRINUSE,
    /// EACCES), an interface (ENODEV), descriptors (EMFILE), each with what to try.
    pub fn open(config: Config, responder: impl Fn(&Listener) -> R) -> Result<Self, Error> {
        Self::adopt(config, Vec::new(), responder)
    }

    /// As [`open`](Self::open), with sockets that another server has [handed
    /// out](Handle::hand_out), or whoever opens sockets for servers. Those of addresses that
    /// nobody listens on any more are closed; what is missing is opened.
    ///
    /// With fewer workers than sockets of an address each worker has several. With more, further
    /// ones join the group, and the kernel moves peers to them: what has come to these is lost if
    /// the server fails before it is ready, and nothing else.
    ///
    /// # Errors
    /// As [`open`](Self::open); a socket that cannot be received from as `config` asks for.
    pub fn adopt(
        config: Config,
        inherited: Vec<Inherited>,
        responder: impl Fn(&Listener) -> R,
    ) -> Result<Self, Error> {
        let needs: Vec<_> = (config.listen.iter())
            .map(|listener| responder(listener).needs())
            .collect();
        let sockets = opening::open(&config, &needs, inherited)?;
        let responders = sockets.by_worker.iter().map(|pairs| {
            let listeners = sockets.listeners.iter().cycle().take(pairs.len());
            listeners.map(&responder).collect()
        });
        let mailbox = Mailbox::open(REPORTS_MAX * config.workers.len())
            .map_err(|e| Error::system("cannot start the server", &e))?;
        Ok(Self {
            responders: responders.collect(),
            config,
            sockets,
            mailbox,
            log: Log::default(),
        })
    }

    /// What controls the server from other threads.
    pub fn handle(&self) -> Handle {
        self.mailbox.handle()
    }

    /// The addresses that are served, with the ports that the kernel chose.
    pub fn listen_addrs(&self) -> Vec<SocketAddr> {
        self.sockets.listeners.iter().map(|it| it.addr).collect()
    }

    /// The interfaces that sockets are bound to, by name, each once.
    pub fn interfaces(&self) -> Vec<String> {
        self.sockets.interfaces()
    }

    /// Serves until it is stopped, and tells `observe` how it goes, on this thread. However it ends
    /// once it was ready, the last two reports are what was left to count and the summary.
    ///
    /// # Errors
    /// A worker could not start, died, or gives no sign of life: its share of the peers would be
    /// unheard. An interface came back whose sockets may not be bound to it again. A drain took too
    /// long, or was cut short by a second stop.
    pub fn run(mut self, mut observe: impl FnMut(Report<'_>)) -> Result<Summary, Error> {
        log::settings(&self.config, &self.sockets.by_worker[0]);
        let mode = self.mode();
        let mut workers = Workers::default();
        let started = self.start(&mut workers);
        // While they begin, so that the start does not wait for it.
        let mut accounting = Accounting::new(clock::monotonic(), &self.config, &self.sockets);
        let armed = started.and_then(|()| self.wait_until_armed(&workers.controls));
        if let Err(error) = armed {
            workers.leave();
            return Err(error);
        }
        // Only now: where one ring was possible, one for each worker need not be.
        let ready = self.sockets.ready(&self.config, mode);
        let start = clock::monotonic();
        accounting.begin(start);
        observe(Report::Ready(&ready));
        let served = self
            .reflect(&workers.controls, &mut accounting, start, &mut observe)
            .and_then(|end| {
                observe(Report::Stopping);
                self.drain(end, &workers.controls, &mut accounting)
            });
        // After a drain there is nobody left to wait for.
        log::uncounted(&workers.leave());
        accounting.collect_rest(&workers.controls);
        let now = clock::monotonic();
        observe(Report::Interval(&accounting.close_interval(now, true)));
        let summary = accounting.summary(now);
        self.log.totals(&summary.totals);
        if summary.unaccounted != 0 && served.is_ok() {
            log::unaccounted(summary.unaccounted);
        }
        observe(Report::Summary(&summary));
        served.map(|()| summary)
    }

    fn log_refused(&self, peer: SocketAddr, reason: DropReason) {
        let listeners = &self.sockets.listeners;
        let is_own_port = |port| listeners.iter().any(|it| it.addr.port() == port);
        self.log.refused(peer, reason, is_own_port);
    }

    fn look_for_route(&self, peer: SocketAddr, interface: u32) {
        if self.sockets.detours.has_route(peer, interface) == Some(false) {
            self.log.no_route(peer, interface);
        }
    }

    fn start(&mut self, workers: &mut Workers) -> Result<(), Error> {
        let guard = self.guard(&self.config.rules);
        let cannot = |e| Error::system("cannot start a worker", &e);
        let responders = std::mem::take(&mut self.responders);
        for (index, (sockets, responders)) in
            self.sockets.by_worker.iter().zip(responders).enumerate()
        {
            let control = Arc::new(Control::open(sockets.len()).map_err(cannot)?);
            let worker = Worker {
                index,
                core: self.config.workers[index],
                engine: self.config.engine.clone(),
                resources: Resources {
                    sockets: Arc::clone(sockets),
                    detours: Arc::clone(&self.sockets.detours),
                    wake: control.wake(),
                },
                confine: self.config.confine,
                coalesce: self.config.coalesce,
                guard: guard.clone(),
                limiter: self.limiter().map_err(cannot)?,
                responders,
                control,
                reports: self.mailbox.reports(),
            };
            workers.start(worker).map_err(cannot)?;
        }
        Ok(())
    }

    fn wait_until_armed(&mut self, controls: &[Arc<Control>]) -> Result<(), Error> {
        let mut armed = 0;
        let mut early = Vec::new();
        let mut is_stopped = false;
        let until = clock::monotonic() + START_MAX;
        while armed < self.sockets.by_worker.len() {
            match self.mailbox.next(Some(until)) {
                Event::Report(WorkerReport::Armed { worker, is_pinned }) => {
                    armed += 1;
                    tracing::debug!("worker {worker} is armed");
                    if !is_pinned {
                        tracing::warn!("worker {worker} could not be pinned to its CPU");
                    }
                }
                Event::Report(WorkerReport::NoRing { worker, error }) => {
                    self.go_on_without_ring(worker, &error, controls);
                }
                Event::Report(WorkerReport::Died { worker, reason }) => {
                    return Err(failure::not_started(worker, &reason));
                }
                Event::Report(WorkerReport::Refused { peer, reason }) => {
                    self.log_refused(peer, reason);
                }
                Event::Order(Order::SetRouteMtus(mtus)) => self.sockets.set_mtus(&mtus, controls),
                Event::Order(Order::Stop) if is_stopped => {
                    return Err(Error::new("the start was cut short", "stopped twice"));
                }
                Event::Order(order) => {
                    is_stopped |= matches!(order, Order::Stop);
                    early.push(order);
                }
                Event::TimedOut => {
                    let said = format!("only {armed} of them are ready after {START_MAX:?}");
                    return Err(Error::new("cannot start the workers", said));
                }
                Event::Report(WorkerReport::Ended { .. } | WorkerReport::CameBy { .. })
                | Event::Woken => {}
            }
        }
        // Ordered while starting: obeyed as soon as there is somebody to obey.
        early
            .into_iter()
            .for_each(|order| self.handle().order(order));
        Ok(())
    }

    /// One engine for all workers: one that has no ring makes the others go on without theirs.
    fn go_on_without_ring(&mut self, worker: usize, error: &io::Error, controls: &[Arc<Control>]) {
        tracing::debug!("worker {worker} has no ring: {error}");
        if self.config.engine.kind == Kind::Mmsg {
            return;
        }
        self.config.engine.kind = Kind::Mmsg;
        let blocker = probe::blocker(error);
        log::engine_blocker(&blocker);
        self.config.engine_blocker = Some(blocker);
        let command = Command::RunWithoutRing;
        controls.iter().for_each(|control| control.command(command));
    }

    /// What the responders are called.
    fn mode(&self) -> String {
        let names: BTreeSet<_> = self.responders[0].iter().map(R::name).collect();
        Vec::from_iter(names).join(",")
    }

    /// Reports from `start` on, until asked to stop; says how the workers are to end.
    fn reflect(
        &self,
        controls: &[Arc<Control>],
        accounting: &mut Accounting,
        start: Instant,
        observe: &mut impl FnMut(Report<'_>),
    ) -> Result<Command, Error> {
        // A time beyond the clock's range never comes.
        let after_start = |length: Duration| start.checked_add(length);
        let mut deadline = self.config.duration.and_then(after_start);
        let delay = self.config.drain_delay;
        let mut is_stopping = false;
        // What is shared with others must not be shut.
        let mut end = self.sockets.end();
        let mut collection = Collection::new(start, self.config.interval);
        let mut heartbeat = Heartbeat::start(controls, start);
        loop {
            let next = [collection.due(), deadline, Some(heartbeat.due())];
            match self.mailbox.next(next.into_iter().flatten().min()) {
                Event::Order(Order::Stop) if is_stopping || delay.is_zero() => return Ok(end),
                Event::Order(Order::LeaveSockets) => return Ok(Command::LeaveQueue),
                Event::Order(Order::HandOut(sender)) => {
                    end = Command::LeaveQueue;
                    // Whoever asked may have gone, and takes the sockets back then.
                    let _ = sender.send(self.sockets.hand_out());
                }
                Event::Order(Order::TakeBack) => end = self.sockets.end(),
                Event::Order(Order::Stop) => {
                    tracing::info!("stopping in {delay:?}; a second signal or stop does it now");
                    is_stopping = true;
                    observe(Report::Stopping);
                    let due = clock::monotonic().checked_add(delay);
                    deadline = deadline.into_iter().chain(due).min();
                }
                Event::Order(Order::SetRules(rules)) => self.set_rules(&rules, controls),
                Event::Order(Order::Snapshot(sender)) => collection.add(sender),
                Event::Order(Order::SetRouteMtus(mtus)) => self.sockets.set_mtus(&mtus, controls),
                Event::Order(Order::Rebind(interface)) => self.sockets.rebind(&interface)?,
                Event::Report(WorkerReport::Died { worker, reason }) => {
                    return Err(failure::died(worker, &reason));
                }
                Event::Report(WorkerReport::Refused { peer, reason }) => {
                    self.log_refused(peer, reason);
                }
                Event::Report(WorkerReport::CameBy { peer, interface }) => {
                    self.look_for_route(peer, interface);
                }
                Event::Report(_) | Event::Woken | Event::TimedOut => {}
            }
            let now = clock::monotonic();
            heartbeat.look(controls, now).map_err(failure::lost)?;
            if deadline.is_some_and(|deadline| now >= deadline) {
                return Ok(end);
            }
            collection.proceed(now, accounting, controls, |interval| {
                self.log.totals(&interval.totals);
                observe(Report::Interval(interval));
            });
        }
    }

    /// Waits until the workers have answered what is queued, for as long as the configuration says,
    /// after the sockets have been shut to what is new; where they `end` by leaving the queue, only
    /// what they have received.
    fn drain(
        &self,
        end: Command,
        controls: &[Arc<Control>],
        accounting: &mut Accounting,
    ) -> Result<(), Error> {
        // Read before: what the filter refuses counts as dropped as well.
        accounting.close_losses();
        if end == Command::Drain {
            self.sockets.reject_new();
        }
        controls.iter().for_each(|control| control.command(end));
        // A time beyond the clock's range never comes.
        let until = clock::monotonic().checked_add(self.config.drain_timeout);
        let mut heartbeat = Heartbeat::start(controls, clock::monotonic());
        while !heartbeat.running().is_empty() {
            let next = until.into_iter().chain([heartbeat.due()]).min();
            match self.mailbox.next(next) {
                Event::Report(WorkerReport::Ended { worker }) => heartbeat.end(worker),
                Event::Order(Order::Stop) => {
                    return Err(Error::new(
                        "the drain was cut short",
                        "stopped a second time",
                    ));
                }
                Event::Report(WorkerReport::Died { worker, reason }) => {
                    return Err(failure::died(worker, &reason));
                }
                // Orders come first, so this may have waited behind the one to stop.
                Event::Report(WorkerReport::Refused { peer, reason }) => {
                    self.log_refused(peer, reason);
                }
                Event::Order(Order::Rebind(interface)) => self.sockets.rebind(&interface)?,
                Event::Order(Order::SetRouteMtus(mtus)) => self.sockets.set_mtus(&mtus, controls),
                Event::Report(_) | Event::Order(_) | Event::Woken | Event::TimedOut => {}
            }
            let now = clock::monotonic();
            heartbeat.look(controls, now).map_err(failure::lost)?;
            if until.is_some_and(|until| now >= until) && !heartbeat.running().is_empty() {
                let running = heartbeat.running();
                let left = self.sockets.queued_bytes(&running);
                return Err(failure::not_drained(
                    &running,
                    self.config.drain_timeout,
                    left,
                ));
            }
        }
        Ok(())
    }
}
