//! The ways of waiting for a completion.

use std::hint;
use std::io;
use std::time::Duration;

use super::Uring;
use super::ring::Ring;
use crate::clock;
use crate::engine::look::Glance;
use crate::engine::settings::{Wait, Waiting};
use crate::stats::Stats;
use reflector_udp::mmsg::Calls;

/// Times that a spinning engine polls before the worker looks at its control.
const SPINS: usize = 4096;

impl<R: Ring, C: Calls> Uring<R, C> {
    /// Submits what is queued, and waits until something completes, in the way asked for.
    pub(super) fn exchange_waiting(&mut self, stats: &mut Stats) -> io::Result<()> {
        match (self.waiting, self.look.limit()) {
            (Waiting::Spin, _) => self.exchange_spinning(stats),
            (Waiting::Adaptive, Some(limit)) => self.exchange_looking(limit, stats),
            (Waiting::Adaptive | Waiting::Block, _) => self.exchange(Wait::Idle, stats).map(drop),
        }
    }

    /// Submits what is queued, and reads in memory for `limit` whether another `enter` would bring
    /// something, before one that sleeps.
    fn exchange_looking(&mut self, limit: Duration, stats: &mut Stats) -> io::Result<()> {
        let mut has_completed = self.exchange(Wait::Never, stats)?;
        let mut glance = Glance::begin(limit, clock::monotonic());
        let mut goes_on = true;
        while !has_completed && goes_on {
            hint::spin_loop();
            // First the clock: what came while the CPU was away is found.
            goes_on = glance.goes_on(clock::monotonic());
            if self.ring.has_work() {
                has_completed = self.exchange(Wait::Never, stats)?;
            }
        }
        self.look
            .looked(glance.outcome(has_completed), glance.end());
        if !has_completed {
            self.exchange(Wait::Idle, stats)?;
        }
        Ok(())
    }

    fn exchange_spinning(&mut self, stats: &mut Stats) -> io::Result<()> {
        self.exchange(Wait::Never, stats)?;
        for _ in 0..SPINS {
            if !self.arrived.is_empty() {
                break;
            }
            if self.ring.has_work() {
                self.exchange(Wait::Never, stats)?;
            }
            hint::spin_loop();
        }
        Ok(())
    }
}
