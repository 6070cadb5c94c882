//! When the counters of the workers are asked for: for each interval, and for whoever asks.

use std::mem;
use std::sync::Arc;
use std::sync::mpsc::SyncSender;
use std::time::{Duration, Instant};

use super::accounting::Accounting;
use crate::stats::report::Interval;
use crate::stats::snapshot::Snapshot;
use crate::worker::control::Control;

/// How long is waited for counters that a worker has not handed over; what comes later is in the
/// next report.
const HANDOVER_MAX: Duration = Duration::from_millis(250);

/// What counters are wanted for, and since when they are waited for.
pub struct Collection {
    interval: Option<Duration>,
    /// When the next interval is over.
    next: Option<Instant>,
    /// Whether one is over and has not been reported.
    is_due: bool,
    /// Who wants to know how it goes.
    asked: Vec<SyncSender<Snapshot>>,
    /// Until when counters are waited for that have been asked for.
    until: Option<Instant>,
}

impl Collection {
    /// For each `interval` from `start` on, if there are any.
    pub fn new(start: Instant, interval: Option<Duration>) -> Self {
        Self {
            interval,
            // A time beyond the clock's range never comes.
            next: interval.and_then(|interval| start.checked_add(interval)),
            is_due: false,
            asked: Vec::new(),
            until: None,
        }
    }

    /// For `sender` as well.
    pub fn add(&mut self, sender: SyncSender<Snapshot>) {
        self.asked.push(sender);
    }

    /// When there is something to do.
    pub fn due(&self) -> Option<Instant> {
        self.until.or(self.next)
    }

    /// Asks for counters if it is time, and reports once they are there or late: an interval to
    /// `observe`, a snapshot to those who have asked for one.
    pub fn proceed(
        &mut self,
        now: Instant,
        accounting: &mut Accounting,
        controls: &[Arc<Control>],
        observe: impl FnOnce(&Interval),
    ) {
        if let Some(until) = self.until {
            let is_complete = accounting.collect(controls);
            if is_complete || now >= until {
                self.until = None;
                if mem::take(&mut self.is_due) {
                    observe(&accounting.close_interval(now, false));
                }
                for sender in self.asked.drain(..) {
                    // Who does not wait any more does not miss it.
                    let _ = sender.try_send(accounting.snapshot(now, is_complete));
                }
            }
        }
        if let Some(due) = self.next.filter(|&due| now >= due) {
            self.is_due = true;
            let next = self.interval.and_then(|it| due.checked_add(it));
            // One that was missed, stopped or suspended, is not made up for.
            self.next = next.map(|next| next.max(now));
        }
        if self.until.is_none() && (self.is_due || !self.asked.is_empty()) {
            accounting.request(controls);
            self.until = Some(now + HANDOVER_MAX);
        }
    }
}
