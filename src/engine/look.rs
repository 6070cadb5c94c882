//! How long a worker looks for datagrams before it sleeps.
//!
//! A sleep costs CPU time, and its end costs whoever waits for the reply some more; a look costs
//! the time that it lasts, and all of it is in vain where nothing comes. Which of the two is dearer
//! depends on the machine, on those who ask, and on who else wants this CPU. So both are measured,
//! in CPU time for each datagram, and a worker looks for as long as that costs nothing.
//!
//! This is the policy alone: the engines look, and read the clock.

use std::mem;
use std::time::{Duration, Instant};

use crate::engine::reading::Reading;

/// The longest look.
pub const LOOK_MAX: Duration = Duration::from_micros(50);
/// What a look lasts beyond twice the time after which one usually finds something.
const LOOK_MARGIN: Duration = Duration::from_micros(8);
/// Between two readings of the clock in a look this is no work of ours: the CPU was taken away.
const JUMP_MIN: Duration = Duration::from_micros(100);
/// Looks in vain in a row after which no more is looked for.
const MISSES_MAX: u32 = 3;
/// Waits of this length in the mean, waking up included, are too long to look for their end.
const GAP_MAX: Duration = Duration::from_micros(100);

/// Waits after which what they cost is read.
const WAITS: u32 = 32;
/// Spans of so many waits until it is known what a sleep costs.
const SPANS_MIN: u32 = 8;
/// Spans after which what a sleep cost counts half.
const SPANS_REMEMBERED: u32 = 64;
/// Spans of looks after which it is measured once more what a sleep costs.
const SPANS_UNTIL_RENEWED: u32 = 1024;
/// How much dearer than sleeps looks may be in the long run: what cannot be told from noise.
const DEARER: f64 = 0.03;
/// What looks may cost beyond that until they are given up, in spans of sleeps. Idle CPUs wake up
/// sooner the more often they have to, which those who ask have to find out about first.
const DEBT_MAX: f64 = 3.0;
/// Times that the CPU may be taken away in a span: by threads of the kernel.
const PREEMPTED_MAX: u64 = 4;
/// Of the time since it first looked, no more than one in so many parts may be lost to others, with
/// some of it at once: a hypervisor takes a CPU away now and then, who shares it for good.
const LOST_SHARE: u32 = 4;
const LOST_AT_FIRST: Duration = Duration::from_millis(4);

/// How long no look is tried after looks that had paid, and at most.
const BACKOFF: Duration = Duration::from_millis(16);
const BACKOFF_MAX: Duration = Duration::from_secs(1);
/// By how much that gets longer each time that looks did not pay, the first included.
const BACKOFF_FACTOR: u32 = 8;
/// Looks that went on for so many times their backoff have paid.
const PAID: u32 = 8;

/// What came of a look.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Outcome {
    /// After which time something had come, if anything had.
    pub found_after: Option<Duration>,
    /// For how long the CPU was taken away meanwhile.
    pub lost: Duration,
}

/// One look, by the clock.
#[derive(Debug)]
pub struct Glance {
    start: Instant,
    last: Instant,
    limit: Duration,
    lost: Duration,
}

impl Glance {
    /// A look that begins `now` and lasts no longer than `limit`.
    pub fn begin(limit: Duration, now: Instant) -> Self {
        Self {
            start: now,
            last: now,
            limit,
            lost: Duration::ZERO,
        }
    }

    /// Whether it goes on, if nothing is there `now`.
    pub fn goes_on(&mut self, now: Instant) -> bool {
        let passed = now.saturating_duration_since(self.last);
        self.last = now;
        if passed >= JUMP_MIN {
            self.lost = passed;
            return false;
        }
        now.saturating_duration_since(self.start) < self.limit
    }

    /// When the clock was last read.
    pub fn end(&self) -> Instant {
        self.last
    }

    /// What came of it.
    pub fn outcome(&self, has_found: bool) -> Outcome {
        let after = self.last.saturating_duration_since(self.start);
        Outcome {
            found_after: has_found.then_some(after),
            lost: self.lost,
        }
    }
}

/// Whether a worker looks before it sleeps, and for how long: what it has learnt.
#[derive(Debug)]
pub struct Look {
    /// None while every wait is a sleep.
    looking: Option<Looking>,
    /// What datagrams cost while every wait is a sleep.
    asleep: Cost,
    /// Spans of this since it last looked.
    spans_asleep: u32,
    span: Span,
    /// When it may be tried again to look, if that has not paid.
    retry_at: Option<Instant>,
    backoff: Duration,
}

#[derive(Debug)]
struct Looking {
    since: Instant,
    /// Looks in vain in a row.
    misses: u32,
    /// For how long the CPU was taken away.
    lost: Duration,
    /// After which time one usually finds something.
    usual: Duration,
    /// What looks have cost beyond sleeps, in spans of these.
    debt: f64,
    spans: u32,
}

/// CPU time of datagrams.
#[derive(Debug, Default)]
struct Cost {
    cpu: Duration,
    datagrams: u64,
    spans: u32,
}

/// The waits since the usage was last read.
#[derive(Debug, Default)]
struct Span {
    /// None where some before it may have been of another kind.
    start: Option<Reading>,
    waits: u32,
    datagrams: u64,
}

impl Default for Look {
    /// Has learnt nothing: every wait is a sleep.
    fn default() -> Self {
        Self {
            looking: None,
            asleep: Cost::default(),
            spans_asleep: 0,
            span: Span::default(),
            retry_at: None,
            backoff: BACKOFF,
        }
    }
}

impl Look {
    /// Has learnt that sleeps are dear.
    #[cfg(test)]
    pub fn looking(now: Instant) -> Self {
        let asleep = Cost {
            cpu: Duration::from_secs(1),
            datagrams: 1,
            spans: SPANS_MIN,
        };
        let mut look = Self {
            asleep,
            spans_asleep: SPANS_MIN,
            ..Self::default()
        };
        look.begin(now);
        look
    }

    /// How long to look before the next sleep, if at all.
    pub fn limit(&self) -> Option<Duration> {
        self.looking.as_ref().map(Looking::limit)
    }

    /// What came of a look that was over `now`.
    pub fn looked(&mut self, outcome: Outcome, now: Instant) {
        let Some(looking) = &mut self.looking else {
            return;
        };
        looking.lost += outcome.lost;
        match outcome.found_after {
            _ if !outcome.lost.is_zero() => {}
            Some(after) => {
                looking.misses = 0;
                looking.usual = (looking.usual * 7 + after) / 8;
            }
            None => {
                looking.misses += 1;
                looking.usual = looking.limit();
            }
        }
        let lasted = now.saturating_duration_since(looking.since);
        let is_taken_often = looking.lost * LOST_SHARE > lasted + LOST_AT_FIRST;
        if looking.misses >= MISSES_MAX || is_taken_often {
            self.give_up(now);
        }
    }

    /// So many datagrams were received, waited for or not.
    pub fn received(&mut self, datagrams: u64) {
        self.span.datagrams += datagrams;
    }

    /// A wait is over, and what it brought was told. `read` is called once in many waits; where it
    /// can tell nothing, no look is ever tried.
    pub fn waited(&mut self, read: impl FnOnce() -> Option<Reading>) {
        self.span.waits += 1;
        if self.span.waits < WAITS {
            return;
        }
        let end = read();
        let span = mem::replace(
            &mut self.span,
            Span {
                start: end,
                ..Span::default()
            },
        );
        let (Some(start), Some(end)) = (span.start, end) else {
            return;
        };
        if span.datagrams == 0 {
            return;
        }
        let cpu = end.usage.cpu.saturating_sub(start.usage.cpu);
        let preempted = end.usage.preempted.saturating_sub(start.usage.preempted);
        let passed = end.at.saturating_duration_since(start.at);
        match &mut self.looking {
            None if passed.saturating_sub(cpu) / span.waits > GAP_MAX => {
                self.asleep = Cost::default();
                self.spans_asleep = 0;
            }
            None => {
                self.asleep.add(cpu, span.datagrams);
                self.spans_asleep += 1;
                self.begin(end.at);
            }
            Some(looking) => {
                looking.spans += 1;
                let ratio = cpu.as_secs_f64() / span.datagrams as f64 / self.asleep.per_datagram();
                looking.debt = (looking.debt + ratio - 1.0 - DEARER).max(0.0);
                if preempted > PREEMPTED_MAX || looking.debt > DEBT_MAX {
                    self.give_up(end.at);
                } else if looking.spans >= SPANS_UNTIL_RENEWED {
                    self.looking = None;
                    self.asleep.halve();
                    self.asleep.halve();
                }
            }
        }
    }

    /// Looks from now on, where it is known what a sleep costs, and it is not too early.
    fn begin(&mut self, now: Instant) {
        let is_early = self.retry_at.is_some_and(|at| now < at);
        if is_early || self.spans_asleep < SPANS_MIN {
            return;
        }
        self.looking = Some(Looking {
            since: now,
            misses: 0,
            lost: Duration::ZERO,
            usual: LOOK_MAX,
            debt: 0.0,
            spans: 0,
        });
        self.spans_asleep = 0;
    }

    /// Looks no more, for some time.
    fn give_up(&mut self, now: Instant) {
        let Some(looking) = self.looking.take() else {
            return;
        };
        let lasted = now.saturating_duration_since(looking.since);
        self.backoff = match lasted >= self.backoff * PAID {
            true => BACKOFF,
            false => (self.backoff * BACKOFF_FACTOR).min(BACKOFF_MAX),
        };
        self.retry_at = Some(now + self.backoff);
        self.span = Span::default();
    }
}

impl Looking {
    fn limit(&self) -> Duration {
        LOOK_MAX.min(self.usual * 2 + LOOK_MARGIN)
    }
}

impl Cost {
    fn add(&mut self, cpu: Duration, datagrams: u64) {
        self.cpu += cpu;
        self.datagrams += datagrams;
        self.spans += 1;
        if self.spans >= SPANS_REMEMBERED {
            self.halve();
        }
    }

    fn halve(&mut self) {
        self.cpu /= 2;
        self.datagrams /= 2;
        self.spans /= 2;
    }

    fn per_datagram(&self) -> f64 {
        self.cpu.as_secs_f64() / self.datagrams as f64
    }
}

#[cfg(test)]
mod tests;
