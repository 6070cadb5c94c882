//! What the server tells a worker, and what it hears of it: two channels, neither of which makes
//! anybody wait.

use std::io;
use std::mem;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicI32, AtomicU32, Ordering};
use std::sync::mpsc::{SendError, SyncSender};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::datagram::DropReason;
use crate::engine::Routes;
use crate::guard::Guard;
use crate::stats::Stats;
use reflector_measure::handover::Handover;
use reflector_udp::wake::Wake;

/// What a worker reports.
#[derive(Debug)]
pub enum WorkerReport {
    /// Every socket of this worker is proven to receive.
    Armed {
        /// Which worker.
        worker: usize,
        /// Whether it runs on the CPU that it was to be pinned to.
        is_pinned: bool,
    },
    /// There is no ring for this worker, which goes on without.
    NoRing {
        /// Which worker.
        worker: usize,
        /// What the kernel said.
        error: io::Error,
    },
    /// The guard refused a datagram, for the first time at this worker for this reason.
    Refused {
        /// Who sent it.
        peer: SocketAddr,
        /// Why.
        reason: DropReason,
    },
    /// A datagram that came by an interface which its reply leaves by as well, whatever the routes
    /// say: one now and then.
    CameBy {
        /// Who sent it.
        peer: SocketAddr,
        /// The index of the interface.
        interface: u32,
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
    },
}

/// The worker's end of the channel to the server.
#[derive(Clone, Debug)]
pub struct Reports {
    sender: SyncSender<WorkerReport>,
    /// What the server waits at.
    wake: Arc<Wake>,
}

impl Reports {
    /// Reports by `sender`, for a server that waits at `wake`.
    pub fn new(sender: SyncSender<WorkerReport>, wake: Arc<Wake>) -> Self {
        Self { sender, wake }
    }

    /// Reports, and wakes the server.
    ///
    /// # Errors
    /// The report itself, where the server has gone.
    pub fn send(&self, report: WorkerReport) -> Result<(), SendError<WorkerReport>> {
        let sent = self.sender.send(report);
        self.wake.wake();
        sent
    }

    /// Reports if there is room; says whether there was.
    pub fn try_send(&self, report: WorkerReport) -> bool {
        let is_sent = self.sender.try_send(report).is_ok();
        self.wake.wake();
        is_sent
    }

    /// Tells the server that counters have been published.
    pub fn published(&self) {
        self.wake.wake();
    }
}

/// What a worker is told to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Command {
    /// Go on.
    Run,
    /// Go on, without io_uring.
    RunWithoutRing,
    /// Answer what has been received, then end.
    Drain,
    /// Answer what this worker has received, then end: what is queued is left to another process.
    LeaveQueue,
    /// End at once, in the order that leaves the port free.
    Leave,
}

impl Command {
    /// Whether it ends the worker, sooner or later.
    pub fn is_end(self) -> bool {
        matches!(self, Self::Drain | Self::LeaveQueue | Self::Leave)
    }
}

/// What a worker shares with the server: its orders, and the counters that it hands over.
///
/// Aligned so that no two workers' share a cache line.
#[derive(Debug)]
#[repr(align(128))]
pub struct Control {
    /// Counts up with each order, so that the worker pays one load where there is none.
    posted: AtomicU32,
    /// What `posted` was when the worker last obeyed.
    obeyed: AtomicU32,
    /// The worker's thread, once it runs.
    thread: AtomicI32,
    orders: Mutex<Orders>,
    /// Where the worker leaves its counters.
    pub counters: Handover<Stats>,
    wake: Arc<Wake>,
}

const _: () = assert!(align_of::<Control>() == 128);

#[derive(Debug)]
struct Orders {
    command: Command,
    /// The guard that replaces the worker's.
    guard: Option<Box<Guard>>,
    /// The MTUs that replace the engine's.
    routes: Option<Routes>,
}

impl Control {
    /// A control that says [`Command::Run`], of a worker with so many `sockets`.
    ///
    /// # Errors
    /// What eventfd(2) says: EMFILE, ENFILE, ENOMEM.
    pub fn open(sockets: usize) -> io::Result<Self> {
        Ok(Self {
            posted: AtomicU32::new(0),
            obeyed: AtomicU32::new(0),
            thread: AtomicI32::new(0),
            orders: Mutex::new(Orders {
                command: Command::Run,
                guard: None,
                routes: None,
            }),
            counters: Handover::new(Stats::new(sockets)),
            wake: Arc::new(Wake::open()?),
        })
    }

    /// What interrupts the worker's wait.
    pub fn wake(&self) -> Arc<Wake> {
        Arc::clone(&self.wake)
    }

    /// Tells the worker what to do, and wakes it.
    pub fn command(&self, command: Command) {
        self.orders().command = command;
        self.post();
    }

    /// Replaces the worker's guard between two batches.
    pub fn set_guard(&self, guard: Guard) {
        self.orders().guard = Some(Box::new(guard));
        self.post();
    }

    /// Tells the worker's engine the MTUs of routes, between two batches.
    pub fn set_routes(&self, routes: Routes) {
        self.orders().routes = Some(routes);
        self.post();
    }

    /// Asks for the worker's counters; they are collected from [`counters`](Self::counters) once it
    /// has published them.
    pub fn request_counters(&self) {
        self.counters.request();
        self.wake.wake();
    }

    /// Asks for a sign of life: [`is_behind`](Self::is_behind) until the worker has given it.
    pub fn ask_for_life(&self) {
        self.post();
    }

    /// Whether the worker has not yet seen all that it was told.
    pub fn is_behind(&self) -> bool {
        self.posted.load(Ordering::Acquire) != self.obeyed.load(Ordering::Acquire)
    }

    /// Says that the calling thread is the worker's.
    pub fn set_thread(&self) {
        let thread = rustix::thread::gettid().as_raw_pid();
        self.thread.store(thread, Ordering::Release);
    }

    /// The kernel's number of the worker's thread (gettid(2)); `None` before it runs.
    pub fn thread(&self) -> Option<i32> {
        Some(self.thread.load(Ordering::Acquire)).filter(|&thread| thread > 0)
    }

    fn post(&self) {
        self.posted.fetch_add(1, Ordering::Release);
        self.wake.wake();
    }

    fn orders(&self) -> MutexGuard<'_, Orders> {
        self.orders.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The worker's view of its control: what it has seen of it.
#[derive(Debug)]
pub struct Obeyed {
    seen: u32,
    command: Command,
    /// MTUs of routes that the engine has not been told.
    pub routes: Option<Routes>,
}

impl Default for Obeyed {
    /// Nothing seen, so that the first reading takes what was posted before.
    fn default() -> Self {
        Self {
            seen: 0,
            command: Command::Run,
            routes: None,
        }
    }
}

impl Obeyed {
    /// The command that is in force. Replaces `guard` where the server has posted another; one load
    /// where it has posted nothing.
    pub fn read(&mut self, control: &Control, guard: &mut Guard) -> Command {
        let posted = control.posted.load(Ordering::Acquire);
        if posted != self.seen {
            self.seen = posted;
            let other = {
                let mut orders = control.orders();
                self.command = orders.command;
                if let Some(routes) = orders.routes.take() {
                    self.routes = Some(routes);
                }
                orders.guard.take()
            };
            if let Some(mut other) = other {
                mem::swap(guard, &mut other);
            }
            control.obeyed.store(posted, Ordering::Release);
        }
        self.command
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::datagram::Arrival;
    use crate::guard::{Prefixes, Rules};
    use reflector_udp::addr::PeerAddr;

    fn guard(allow: &[&str]) -> Guard {
        let allow = Prefixes::new(allow.iter().map(|text| text.parse().unwrap()));
        let rules = Rules {
            allow,
            ..Rules::default()
        };
        Guard::new(&rules, [])
    }

    #[test]
    fn a_guard_is_replaced_between_two_readings_and_only_once() {
        let control = Control::open(1).unwrap();
        let mut obeyed = Obeyed::default();
        let mut own = guard(&[]);
        let mut arrival = Arrival::EMPTY;
        arrival.flow.peer = PeerAddr::new("10.0.0.1:4000".parse().unwrap());
        assert_eq!(obeyed.read(&control, &mut own), Command::Run);
        assert_eq!(own.admit(&arrival), Err(DropReason::NotAllowed));
        control.set_guard(guard(&["10.0.0.0/8"]));
        assert_eq!(obeyed.read(&control, &mut own), Command::Run);
        assert_eq!(own.admit(&arrival), Ok(()));
        own = guard(&[]);
        obeyed.read(&control, &mut own);
        assert_eq!(own.admit(&arrival), Err(DropReason::NotAllowed));
    }

    #[test]
    fn a_worker_is_behind_until_it_reads() {
        let control = Control::open(1).unwrap();
        let (mut obeyed, mut own) = (Obeyed::default(), guard(&[]));
        assert!(!control.is_behind());
        control.ask_for_life();
        assert!(control.is_behind());
        assert_eq!(obeyed.read(&control, &mut own), Command::Run);
        assert!(!control.is_behind());
    }

    #[test]
    fn what_was_commanded_before_the_first_reading_is_seen() {
        let control = Control::open(1).unwrap();
        control.command(Command::Drain);
        let seen = Obeyed::default().read(&control, &mut guard(&[]));
        assert_eq!(seen, Command::Drain);
    }
}
