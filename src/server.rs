//! Opens the sockets, starts the workers, listens to them, reports, drains.

mod books;

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::panic::{self, AssertUnwindSafe};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use crate::config::{Config, SEND_BUFFER_SMALL};
use crate::engine::{Kind, Resources};
use crate::guard::Guard;
use crate::responder::Responder;
use crate::socket::{self, Socket};
use crate::stats::report::{Ready, Report, Reporter, Summary};
use crate::worker::{Command, Control, Event, Worker};
use books::Books;
use reflector_measure::clock;
use reflector_measure::error::Error;
use reflector_measure::hdr_log::HdrLog;

/// A reflector that has all its sockets, and serves once it is [`run`](Server::run).
pub struct Server {
    config: Config,
    /// By worker, in the order of opening.
    sockets: Vec<Arc<[Socket]>>,
    hdr_log: Option<HdrLog>,
    /// Why the log has ended early, if it has.
    hdr_failure: Option<Error>,
    events: (SyncSender<Event>, Receiver<Event>),
}

/// Asks a running server to end.
#[derive(Clone, Debug)]
pub struct Stop(SyncSender<Event>);

impl Stop {
    /// Drain and end. From any thread.
    pub fn stop(&self) {
        // A full queue already holds enough to wake the server; a closed one has ended.
        let _ = self.0.try_send(Event::Stop);
    }
}

impl Server {
    /// Opens every socket of every worker, and the histogram log. Nothing is served yet, and
    /// nothing stays open if anything fails.
    ///
    /// # Errors
    /// The first thing that could not be had.
    pub fn open(config: Config) -> Result<Self, Error> {
        let sockets = open_sockets(&config)?;
        let create = |path| HdrLog::create(path, "Residence times in nanoseconds");
        let hdr_log = config.hdr.as_deref().map(create).transpose()?;
        // Room for every worker to say each thing that it says once, and for a few stops.
        let events = sync_channel(4 * config.workers.len() + 16);
        Ok(Self {
            config,
            sockets,
            hdr_log,
            hdr_failure: None,
            events,
        })
    }

    /// What ends the server from another thread.
    pub fn stop_handle(&self) -> Stop {
        Stop(self.events.0.clone())
    }

    /// The addresses that are served, with the ports that the kernel chose.
    pub fn listen_addrs(&self) -> Vec<SocketAddr> {
        self.sockets[0]
            .iter()
            .map(|socket| socket.endpoint().addr)
            .collect()
    }

    /// Serves until it is stopped, reporting to `out`. `responder` makes one responder for each
    /// worker, and `mode` names what they do.
    ///
    /// # Errors
    /// A worker could not start, or died: its share of the peers would be unheard. Or, after all
    /// has been served, the histogram log could not be written to its end.
    pub fn run<R: Responder + Send + 'static>(
        mut self,
        mode: &'static str,
        responder: impl Fn() -> R,
        out: impl io::Write,
    ) -> Result<Summary, Error> {
        self.log_settings();
        let mut reporter = Reporter::new(out, self.config.json);
        let mut workers = Workers::default();
        let mut serve = || {
            self.start(&responder, &mut workers)?;
            self.wait_until_armed()?;
            let mut books = Books::new(clock::monotonic(), &self.config, &self.sockets);
            report(&mut reporter, Report::Ready(&self.ready(mode)));
            self.serve(&workers.controls, &mut books, &mut reporter)?;
            self.drain(&workers.controls, &mut books)?;
            Ok(books)
        };
        let served = serve();
        // After a drain there is nobody left to wait for.
        workers.leave();
        let mut books = served?;
        let now = clock::monotonic();
        self.log_interval(&books.close_interval(now));
        let summary = books.summary(now);
        report(&mut reporter, Report::Summary(&summary));
        match self.hdr_failure {
            Some(error) => Err(error),
            None => Ok(summary),
        }
    }

    fn log_settings(&self) {
        for note in &self.config.notes {
            tracing::warn!("{note}");
        }
        if let Some(blocker) = &self.config.engine_blocker {
            tracing::warn!(
                "io_uring is not to be had: {}; serving with recvmmsg and sendmmsg; {}",
                blocker.what,
                blocker.remedy
            );
        }
        if self.config.engine.kind == Kind::Uring && !self.config.engine.looks {
            tracing::debug!(
                "on this kernel a receive that finds nothing costs a buffer: receives stay armed in a \
                 rush"
            );
        }
        let send_buffer_len = self.sockets[0][0].send_buffer_len();
        if send_buffer_len < SEND_BUFFER_SMALL {
            tracing::warn!(
                "the send buffer is {send_buffer_len} bytes, a few trains: replies beyond it are \
                 lost (EAGAIN); raise --sndbuf, and net.core.wmem_max or run with CAP_NET_ADMIN"
            );
        }
        let memory = self.config.memory();
        tracing::debug!(
            "memory budget: {} KiB = {} KiB + {} workers of {} KiB ({} buffers each), socket \
             buffers not counted",
            memory.total() / 1024,
            memory.base / 1024,
            memory.workers,
            memory.worker / 1024,
            self.config.engine.buffers
        );
    }

    fn start<R: Responder + Send + 'static>(
        &self,
        responder: &impl Fn() -> R,
        workers: &mut Workers,
    ) -> Result<(), Error> {
        let guard = Guard::new(
            self.config.allow.clone(),
            self.config.deny.clone(),
            self.config.deny_ports.iter().copied(),
            self.listen_addrs().iter().map(SocketAddr::port),
        );
        let cannot = |e| Error::system("cannot start a worker", &e);
        for (index, sockets) in self.sockets.iter().enumerate() {
            let control = Arc::new(Control::open().map_err(cannot)?);
            let worker = Worker {
                index,
                core: self.config.workers[index],
                engine: self.config.engine.clone(),
                resources: Resources {
                    sockets: Arc::clone(sockets),
                    wake: control.wake(),
                },
                coalesce: self.config.coalesce,
                guard: guard.clone(),
                responder: responder(),
                control: Arc::clone(&control),
                events: self.events.0.clone(),
            };
            let thread = thread::Builder::new().name(format!("worker-{index}"));
            let thread = thread.spawn(move || watched(worker)).map_err(cannot)?;
            workers.controls.push(control);
            workers.threads.push(thread);
        }
        Ok(())
    }

    fn wait_until_armed(&self) -> Result<(), Error> {
        let mut armed = 0;
        let mut is_stopped = false;
        while armed < self.sockets.len() {
            match self.next_event(None) {
                Some(Event::Armed { worker, is_pinned }) => {
                    armed += 1;
                    tracing::debug!("worker {worker} is armed");
                    if !is_pinned {
                        tracing::warn!("worker {worker} could not be pinned to its CPU");
                    }
                }
                Some(Event::Died { worker, reason }) => return Err(not_started(worker, &reason)),
                Some(Event::Stop) => is_stopped = true,
                Some(Event::Refused { peer }) => log_refused(peer),
                Some(Event::Ended { .. }) | None => {}
            }
        }
        if is_stopped {
            // Asked while starting: drained as soon as there is something to drain.
            self.stop_handle().stop();
        }
        Ok(())
    }

    fn ready(&self, mode: &'static str) -> Ready {
        let socket = &self.sockets[0][0];
        Ready {
            listen: self.listen_addrs(),
            workers: self.sockets.len(),
            engine: self.config.engine.kind.name(),
            engine_reason: self
                .config
                .engine_blocker
                .as_ref()
                .map(|blocker| blocker.what.clone()),
            mode,
            receive_buffer_bytes: socket.receive_buffer_len(),
            send_buffer_bytes: socket.send_buffer_len(),
        }
    }

    /// Reports until asked to stop.
    fn serve(
        &mut self,
        controls: &[Arc<Control>],
        books: &mut Books,
        reporter: &mut Reporter<impl io::Write>,
    ) -> Result<(), Error> {
        let start = clock::monotonic();
        // A time beyond the clock's range never comes.
        let after_start = |length: Duration| start.checked_add(length);
        let deadline = self.config.duration.and_then(after_start);
        let mut next_report = self.config.interval.and_then(after_start);
        let mut has_refused = false;
        loop {
            match self.next_event([next_report, deadline].into_iter().flatten().min()) {
                Some(Event::Stop) => return Ok(()),
                Some(Event::Died { worker, reason }) => return Err(died(worker, &reason)),
                Some(Event::Refused { peer }) if !has_refused => {
                    has_refused = true;
                    log_refused(peer);
                }
                Some(_) => {}
                None => {
                    let now = clock::monotonic();
                    if deadline.is_some_and(|deadline| now >= deadline) {
                        return Ok(());
                    }
                    books.gather(controls);
                    let interval = books.close_interval(clock::monotonic());
                    self.log_interval(&interval);
                    report(reporter, Report::Interval(&interval.totals));
                    next_report = next_report.zip(self.config.interval).and_then(|it| {
                        let next = it.0.checked_add(it.1)?;
                        // One that was missed, stopped or suspended, is not made up for.
                        Some(next.max(now))
                    });
                }
            }
        }
    }

    /// The next event, or `None` when `until` has come.
    fn next_event(&self, until: Option<Instant>) -> Option<Event> {
        let Some(until) = until else {
            return self.events.1.recv().ok();
        };
        let left = until.saturating_duration_since(clock::monotonic());
        match self.events.1.recv_timeout(left) {
            Ok(event) => Some(event),
            Err(RecvTimeoutError::Timeout) => None,
            Err(RecvTimeoutError::Disconnected) => unreachable!("the server holds a sender itself"),
        }
    }

    /// A log that cannot be written any more ends there. The service goes on; its end tells.
    fn log_interval(&mut self, interval: &books::Interval) {
        let Some(log) = &mut self.hdr_log else {
            return;
        };
        let values = interval.stats.latency.residence_ns();
        if let Err(error) = log.write(values, interval.start, interval.length) {
            tracing::error!("{error}; the log ends here, the service goes on");
            self.hdr_log = None;
            self.hdr_failure = Some(error);
        }
    }

    /// Shuts the sockets to what is new, and waits until the workers have answered what is queued.
    fn drain(&self, controls: &[Arc<Control>], books: &mut Books) -> Result<(), Error> {
        // Read before: what the filter refuses counts as dropped as well.
        books.close_losses();
        for socket in self.sockets.iter().flat_map(|sockets| sockets.iter()) {
            if let Err(error) = socket.reject_new() {
                tracing::warn!("cannot refuse new datagrams, so the drain may be long: {error}");
            }
        }
        controls
            .iter()
            .for_each(|control| control.command(Command::Drain));
        let mut running = controls.len();
        while running > 0 {
            match self.next_event(None) {
                Some(Event::Ended { worker, mut stats }) => {
                    running -= 1;
                    controls[worker].gather_rest(&mut stats);
                    books.add(worker, &stats);
                }
                Some(Event::Stop) => {
                    return Err(Error::new(
                        "the drain was cut short",
                        "stopped a second time",
                    ));
                }
                Some(Event::Died { worker, reason }) => return Err(died(worker, &reason)),
                Some(_) | None => {}
            }
        }
        Ok(())
    }
}

/// How long workers may take to let go of their rings and sockets when the server gives up.
const LEAVING_MAX: Duration = Duration::from_millis(500);

/// The workers that have been started.
#[derive(Default)]
struct Workers {
    controls: Vec<Arc<Control>>,
    threads: Vec<JoinHandle<()>>,
}

impl Workers {
    /// Ends those that still run, and waits for them, though not for ever: a ring that is not closed
    /// in order keeps the port busy after the process has gone.
    fn leave(&self) {
        let until = clock::monotonic() + LEAVING_MAX;
        self.controls
            .iter()
            .for_each(|control| control.command(Command::Leave));
        let is_running = || self.threads.iter().any(|thread| !thread.is_finished());
        while is_running() && clock::monotonic() < until {
            thread::sleep(Duration::from_millis(1));
        }
    }
}

/// Runs a worker and reports its end, whichever it is. A socket without a reader would swallow its
/// share of the peers for good, so no end goes unheard.
fn watched<R: Responder>(worker: Worker<R>) {
    let (index, events) = (worker.index, worker.events.clone());
    let control = Arc::clone(&worker.control);
    let event = match panic::catch_unwind(AssertUnwindSafe(|| worker.run())) {
        Ok(Ok(stats)) => Event::Ended {
            worker: index,
            stats: Box::new(stats),
        },
        Ok(Err(error)) => Event::Died {
            worker: index,
            reason: error.to_string(),
        },
        Err(_) => Event::Died {
            worker: index,
            reason: "it panicked".to_owned(),
        },
    };
    control.end();
    // Nobody listens any more if the server has given up, which is as well.
    let _ = events.send(event);
}

fn not_started(worker: usize, reason: &str) -> Error {
    Error::new(format!("cannot start worker {worker}"), reason).try_this(
        "fewer --cores or --buffers ask for less; `ulimit -a` shows what this process may have, and \
         --engine mmsg needs no ring",
    )
}

fn died(worker: usize, reason: &str) -> Error {
    Error::new(format!("worker {worker} died"), reason)
        .try_this("all stop, since its share of the peers would be left without an answer")
}

fn log_refused(peer: IpAddr) {
    tracing::warn!(
        "a datagram from {peer} is not answered, nor is any other that the address lists refuse \
         (this is said once); --allow {peer} or --allow any answers it"
    );
}

/// Reports to whoever reads. A reader that has gone does not end the service.
fn report(reporter: &mut Reporter<impl io::Write>, what: Report<'_>) {
    if let Err(error) = reporter.write(what) {
        tracing::debug!("nobody reads the reports: {error}");
    }
}

/// Opens the sockets of all workers, in worker order: that is their order in each group, which
/// steering by index rests on.
fn open_sockets(config: &Config) -> Result<Vec<Arc<[Socket]>>, Error> {
    let mut listen: Vec<SocketAddr> = Vec::new();
    let mut first = Vec::new();
    for wanted in &config.listen {
        if wanted.is_optional && !socket::has_ipv6() {
            tracing::warn!("this host has no IPv6: serving IPv4 only");
            continue;
        }
        let socket = Socket::open(wanted.addr, true, &config.socket)?;
        // The others bind the port that the kernel chose for the first.
        listen.push(socket.endpoint().addr);
        first.push(socket);
    }
    let mut sockets = vec![first];
    for _ in 1..config.workers.len() {
        let open = |&addr| Socket::open(addr, false, &config.socket);
        sockets.push(listen.iter().map(open).collect::<Result<_, _>>()?);
    }
    if config.steer_cpu {
        steer(config, &sockets)?;
    }
    Ok(sockets.into_iter().map(Arc::from).collect())
}

fn steer(config: &Config, sockets: &[Vec<Socket>]) -> Result<(), Error> {
    for (worker, sockets) in sockets.iter().enumerate() {
        let Some(core) = config.workers[worker] else {
            return Err(
                Error::usage("cannot steer by CPU", "the workers are not pinned to any")
                    .try_this("--cpus pins them"),
            );
        };
        for socket in sockets {
            socket
                .steer_to(core.id)
                .map_err(|e| Error::system(format!("cannot steer worker {worker}"), &e))?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::EngineChoice;

    #[test]
    fn steering_by_cpu_without_pinned_workers_is_refused() {
        let builder = Config::builder().engine(EngineChoice::Mmsg).steer_cpu(true);
        let mut config = builder
            .listen("127.0.0.1:0".parse().unwrap())
            .build()
            .unwrap();
        // What a cgroup's quota below the number of CPUs leads to.
        config.workers = vec![None, None];
        let error = Server::open(config).err().unwrap();
        assert!(error.is_usage());
        assert_eq!(
            error.to_string(),
            "cannot steer by CPU: the workers are not pinned to any; --cpus pins them"
        );
    }
}
