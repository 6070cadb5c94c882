//! What a worker shares with the thread that reports: a stop, a wake, and its counters.

use std::io;
use std::sync::atomic::{AtomicBool, Ordering};

use crate::stats::Stats;
use reflector_measure::handover::Handover;
use reflector_udp::wake::Wake;

/// What a worker shares with the thread that reports.
#[derive(Debug)]
pub(crate) struct Control {
    stop: AtomicBool,
    /// What interrupts the worker's wait.
    pub(crate) wake: Wake,
    /// Where the worker leaves its counters.
    pub(crate) handover: Handover<Stats>,
}

impl Control {
    /// Neither stopped nor asked for anything.
    ///
    /// # Errors
    /// `EMFILE` or `ENFILE` where there is no descriptor left for an eventfd.
    pub(crate) fn open() -> io::Result<Self> {
        Ok(Self {
            stop: AtomicBool::new(false),
            wake: Wake::open()?,
            handover: Handover::new(Stats::new()),
        })
    }

    /// Ends the schedule; what is open is still waited for.
    pub(crate) fn stop(&self) {
        self.stop.store(true, Ordering::Relaxed);
        self.wake.wake();
    }

    /// Whether the schedule is to end.
    pub(crate) fn is_stopped(&self) -> bool {
        self.stop.load(Ordering::Relaxed)
    }

    /// Asks for the counters, and wakes the worker for it.
    pub(crate) fn request(&self) {
        self.handover.request();
        self.wake.wake();
    }
}
