//! How long the datagrams of a round have been here.

use crate::stats::Stats;
use reflector_measure::clock::StepWatch;

/// The times of reception of a round's replies, until they are handed over.
pub struct Residences {
    received: Vec<Received>,
    step_watch: StepWatch,
}

/// When some replied datagrams were received.
struct Received {
    at_ns: u64,
    count: u64,
}

impl Residences {
    /// Empty, with room for `count_max` times.
    pub fn new(count_max: usize) -> Self {
        Self {
            received: Vec::with_capacity(count_max),
            step_watch: StepWatch::new(),
        }
    }

    /// Whether there is nothing to record.
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.received.is_empty()
    }

    /// Takes in `count` datagrams that the kernel received at `at_ns` (`CLOCK_REALTIME`).
    #[inline]
    pub fn push(&mut self, at_ns: u64, count: u64) {
        self.received.push(Received { at_ns, count });
    }

    /// Records how long they stayed until `now_ns` (`CLOCK_REALTIME`), which is to be read just
    /// before the messages are handed over.
    #[inline]
    pub fn record(&mut self, now_ns: u64, stats: &mut Stats) {
        let (mut has_plain, mut has_stepped) = (false, false);
        for Received { at_ns, count } in self.received.drain(..) {
            match self.step_watch.residence_ns(at_ns, now_ns) {
                Some(residence_ns) => {
                    stats.latency.record(residence_ns, count);
                    has_plain = true;
                }
                None => {
                    stats.latency.clock_stepped += count;
                    has_stepped = true;
                }
            }
        }
        if has_plain && has_stepped {
            self.step_watch.accept();
        }
    }
}
