//! Where what did not come back is missing: every part by name, or within bounds. Pure.
//!
//! What is missing was refused by this host's kernel, or it is lost: dropped by the queue of our
//! own device, answered otherwise than it should be, dropped at our own sockets when it came back,
//! or lost elsewhere, which is the network's or the target's.

use serde::Serialize;

use crate::device::QueueCounts;
use crate::stats::Counters;
use reflector_measure::drops::Drops;

/// A number of datagrams: known where both bounds are equal.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub(crate) struct Bounds {
    /// At least.
    pub(crate) least: u64,
    /// At most.
    pub(crate) most: u64,
}

/// The parts of what is missing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub(crate) struct Missing {
    /// Refused by this host's kernel: not lost.
    pub(crate) refused: u64,
    /// Lost in the queue of the device; `None` where that is not known.
    pub(crate) queue: Option<Bounds>,
    /// Lost although an answer came: late, corrupt, or from a wrong source.
    pub(crate) answered_otherwise: u64,
    /// Lost at the generator's own sockets.
    pub(crate) own_sockets: Bounds,
    /// Lost elsewhere: whatever is not known to be one of the others.
    pub(crate) elsewhere: Bounds,
}

/// What is known beside the counters.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Known<'a> {
    /// What the device's queue has counted, if it could be read.
    pub(crate) queue: Option<&'a QueueCounts>,
    /// What the generator's sockets dropped.
    pub(crate) drops: Drops,
    /// Whether something was sent that does not count, and may be among these.
    pub(crate) has_warmup: bool,
    /// Datagrams of a train at most.
    pub(crate) train_max: u64,
}

impl Bounds {
    fn exactly(count: u64) -> Self {
        Self {
            least: count,
            most: count,
        }
    }

    /// The same of no more than `most` things.
    fn at_most(self, most: u64) -> Self {
        Self {
            least: self.least.min(most),
            most: self.most.min(most),
        }
    }

    /// Whether it is a number, and no range.
    pub(crate) fn is_exact(self) -> bool {
        self.least == self.most
    }
}

impl std::fmt::Display for Bounds {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        if self.is_exact() {
            return self.least.fmt(f);
        }
        write!(f, "{} to {}", self.least, self.most)
    }
}

impl Missing {
    /// The parts of what is missing by `counters`.
    pub(crate) fn new(counters: &Counters, known: Known<'_>) -> Self {
        let lost = counters.lost();
        let answered_otherwise = counters.answered_otherwise.min(lost);
        let unseen = lost - answered_otherwise;
        let queue = known
            .queue
            .map(|it| in_queue(counters, known, it).at_most(unseen));
        // What the one has for certain, the other has not.
        let of_queue = queue.map_or(0, |it| it.least);
        let own_sockets = at_sockets(counters, known).at_most(unseen - of_queue);
        let queue = queue.map(|it| it.at_most(unseen - own_sockets.least));
        let of_queue = queue.unwrap_or_default();
        let most_here = (of_queue.most + own_sockets.most).min(unseen);
        let least_here = (of_queue.least + own_sockets.least).min(unseen);
        Self {
            refused: counters.refused(),
            queue,
            answered_otherwise,
            own_sockets,
            elsewhere: Bounds {
                least: if queue.is_none() {
                    0
                } else {
                    unseen - most_here
                },
                most: unseen - least_here,
            },
        }
    }

    /// Lost datagrams that were lost on this host, at least.
    pub(crate) fn lost_here(&self) -> u64 {
        self.queue.unwrap_or_default().least + self.own_sockets.least
    }
}

/// Datagrams lost in the queue of the device.
fn in_queue(counters: &Counters, known: Known<'_>, queue: &QueueCounts) -> Bounds {
    if queue.drops == 0 {
        return Bounds::exactly(0);
    }
    let most_drops = queue.drops.saturating_sub(counters.queue_refusals);
    if known.has_warmup {
        return Bounds {
            least: 0,
            most: most_drops.saturating_mul(known.train_max),
        };
    }
    if counters.trains_sent > 0 {
        // What the kernel took and what has not left is in between. Others' packets have left as
        // well, so that it may be more.
        return Bounds {
            least: counters.sent.saturating_sub(queue.passed),
            most: u64::MAX,
        }
        .at_most(most_drops.saturating_mul(known.train_max));
    }
    // Each datagram by itself, in the queue's counters too: what is more than ours is others'.
    let ours = counters.sent + counters.queue_refused;
    let others = (queue.passed + queue.drops).saturating_sub(ours);
    Bounds {
        least: most_drops.saturating_sub(others),
        most: most_drops,
    }
}

/// Datagrams lost at our sockets.
fn at_sockets(counters: &Counters, known: Known<'_>) -> Bounds {
    let Drops { least, most, .. } = known.drops;
    // What was dropped may have been no first answer to anything.
    let is_mixed = counters.duplicated + counters.foreign > 0 || known.has_warmup;
    Bounds {
        least: if is_mixed { 0 } else { least },
        most,
    }
}

#[cfg(test)]
mod tests;
