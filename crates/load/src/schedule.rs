//! When datagrams are due. Pure: the time is handed in.
//!
//! Scheduled times are absolute. A sender that was held up finds everything that became due
//! meanwhile still due at its old time, so that a stall shows in the latencies of all the datagrams
//! that it delayed, and not in one (coordinated omission).

use fastrand::Rng;

use crate::options::Rate;

/// What a schedule is made from. Times are nanoseconds since the start.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Shape {
    /// How many datagrams per second.
    pub(crate) rate: Rate,
    /// Datagrams that are due together.
    pub(crate) burst: u32,
    /// Whether the times between bursts are random, exponentially distributed.
    pub(crate) poisson: bool,
    /// Seed of the random times.
    pub(crate) seed: u64,
    /// When the first burst is due, in parts of the time between two.
    pub(crate) phase: f64,
    /// What is due before this does not count.
    pub(crate) warmup_ns: u64,
    /// How long to go on after that.
    pub(crate) duration_ns: Option<u64>,
    /// How many datagrams to send after that.
    pub(crate) count: Option<u64>,
}

/// How long after its end a schedule may at least be caught up with.
const GRACE_NS_MIN: u64 = 10_000_000;
/// Bursts up to which a backlog is counted one by one.
const BACKLOG_STEPS_MAX: usize = 100_000;

/// Datagrams that are due at the same time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Due {
    /// When, in nanoseconds since the start.
    pub(crate) scheduled_ns: u64,
    /// How many are not taken yet.
    pub(crate) count: u32,
}

/// The times of one sender's datagrams.
#[derive(Clone, Debug)]
pub(crate) struct Schedule {
    shape: Shape,
    /// Mean time between two bursts; 0 where the rate has no bound.
    interval_ns: f64,
    random: Rng,
    /// Bursts begun before the next one.
    bursts: u64,
    /// When the next burst is due.
    next_ns: f64,
    /// Datagrams of it that are not taken.
    in_burst: u32,
    /// Datagrams that are still to be counted.
    remaining: u64,
}

impl Schedule {
    /// The schedule of `shape`, at its start.
    pub(crate) fn new(shape: Shape) -> Self {
        let interval_ns = match shape.rate {
            Rate::Max => 0.0,
            Rate::Pps(pps) => f64::from(shape.burst) * 1e9 / pps,
        };
        let mut schedule = Self {
            shape,
            interval_ns,
            random: Rng::with_seed(shape.seed),
            bursts: 0,
            next_ns: shape.phase * interval_ns,
            in_burst: shape.burst,
            remaining: shape.count.unwrap_or(u64::MAX),
        };
        if shape.poisson {
            schedule.next_ns = schedule.random_interval_ns();
        }
        schedule
    }

    /// What is due at `now_ns`, the oldest first.
    #[inline]
    pub(crate) fn due(&self, now_ns: u64) -> Option<Due> {
        let scheduled_ns = self.next_ns(now_ns)?;
        (scheduled_ns <= now_ns).then(|| Due {
            scheduled_ns,
            count: self.capped(scheduled_ns),
        })
    }

    /// When the next datagram is due; `None` if there will be no more.
    #[inline]
    pub(crate) fn next_ns(&self, now_ns: u64) -> Option<u64> {
        let next_ns = match self.shape.rate {
            Rate::Max => now_ns,
            Rate::Pps(_) => self.next_ns as u64,
        };
        (next_ns < self.limit_ns() && self.remaining > 0).then_some(next_ns)
    }

    /// Takes `count` of the datagrams that were due at `scheduled_ns`.
    #[inline]
    pub(crate) fn take(&mut self, scheduled_ns: u64, count: u32) {
        if self.is_counted(scheduled_ns) {
            self.remaining -= u64::from(count);
        }
        self.in_burst -= count;
        if self.in_burst == 0 {
            self.in_burst = self.shape.burst;
            self.bursts += 1;
            if self.shape.poisson {
                self.next_ns += self.random_interval_ns();
            } else {
                self.next_ns = (self.shape.phase + self.bursts as f64) * self.interval_ns;
            }
        }
    }

    /// Leaves out what was due a burst or more before `now_ns`, as if it had never been due. For
    /// even schedules. Returns how many bursts that are.
    pub(crate) fn skip(&mut self, now_ns: u64) -> u64 {
        let now_ns = now_ns.min(self.limit_ns()) as f64;
        let behind = (now_ns - self.next_ns) / self.interval_ns;
        if behind < 1.0 {
            return 0;
        }
        self.bursts += behind as u64;
        self.next_ns = (self.shape.phase + self.bursts as f64) * self.interval_ns;
        behind as u64
    }

    /// Whether what is due at `scheduled_ns` is past the warm-up.
    #[inline]
    pub(crate) fn is_counted(&self, scheduled_ns: u64) -> bool {
        scheduled_ns >= self.shape.warmup_ns
    }

    /// When the last datagram's share of the time is over: what rates are to be divided by. `None`
    /// where only the sender can tell.
    pub(crate) fn end_ns(&self) -> Option<u64> {
        match self.shape.rate {
            Rate::Max => (self.remaining > 0).then(|| self.limit_ns()),
            Rate::Pps(_) => Some((self.next_ns as u64).min(self.limit_ns())),
        }
    }

    /// Datagrams that were due before `end_ns` and count, and have not been taken; of random times
    /// that would take long to draw, as many as are to be expected.
    pub(crate) fn backlog(&self, end_ns: u64) -> u64 {
        if self.shape.rate == Rate::Max {
            return 0;
        }
        let mut rest = self.clone();
        let mut backlog = 0;
        for _ in 0..BACKLOG_STEPS_MAX {
            let due = end_ns.checked_sub(1).and_then(|last| rest.due(last));
            let Some(Due {
                scheduled_ns,
                count,
            }) = due
            else {
                return backlog;
            };
            rest.take(scheduled_ns, count);
            backlog += u64::from(count) * u64::from(self.is_counted(scheduled_ns));
        }
        backlog + rest.expected(end_ns)
    }

    /// Datagrams that come due from now on until `end_ns` and count, to within a burst.
    fn expected(&self, end_ns: u64) -> u64 {
        let first_ns = self.next_ns.max(self.shape.warmup_ns as f64);
        let end_ns = end_ns.min(self.limit_ns()) as f64;
        let bursts = ((end_ns - first_ns) / self.interval_ns).ceil().max(0.0);
        (bursts * f64::from(self.shape.burst)).min(self.remaining as f64) as u64
    }

    /// Ends the schedule at `now_ns`.
    pub(crate) fn stop(&mut self, now_ns: u64) {
        let duration_ns = now_ns.saturating_sub(self.shape.warmup_ns);
        self.shape.duration_ns = Some(duration_ns.min(self.shape.duration_ns.unwrap_or(u64::MAX)));
        self.shape.warmup_ns = self.shape.warmup_ns.min(now_ns);
    }

    /// When the warm-up is over.
    pub(crate) fn warmup_ns(&self) -> u64 {
        self.shape.warmup_ns
    }

    /// When it is over, whatever has been taken by then.
    pub(crate) fn limit_ns(&self) -> u64 {
        let duration_ns = self.shape.duration_ns.unwrap_or(u64::MAX);
        self.shape.warmup_ns.saturating_add(duration_ns)
    }

    /// When what was due and could not be sent in time is no longer sent late.
    pub(crate) fn abandoned_ns(&self) -> u64 {
        let limit_ns = self.limit_ns();
        limit_ns.saturating_add((limit_ns / 100).max(GRACE_NS_MIN))
    }

    fn capped(&self, scheduled_ns: u64) -> u32 {
        if self.is_counted(scheduled_ns) {
            self.in_burst
                .min(u32::try_from(self.remaining).unwrap_or(u32::MAX))
        } else {
            self.in_burst
        }
    }

    fn random_interval_ns(&mut self) -> f64 {
        // 1 - [0, 1) is never 0, whose logarithm would be infinite.
        -(1.0 - self.random.f64()).ln() * self.interval_ns
    }
}

#[cfg(test)]
mod tests;
