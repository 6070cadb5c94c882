//! What this host lost of a measurement, by its kernel's counters before and after.

use crate::device::{DeviceQueue, QueueCounts};
use crate::plan::Plan;
use crate::stats::Counters;
use reflector_measure::drops::{Arrivals, Drops, Families};
use reflector_measure::snmp::Texts;

/// What was lost on this host, as its kernel tells.
#[derive(Clone, Debug, Default)]
pub(crate) struct HostLoss {
    /// UDP `SndbufErrors` of the namespace meanwhile, ours and others'.
    pub(crate) sndbuf_errors: u64,
    /// What our sockets dropped.
    pub(crate) drops: Drops,
    /// What the queue of the device counted; `None` where it cannot be read.
    pub(crate) queue: Option<QueueCounts>,
}

/// The kernel's counters before the first datagram.
pub(crate) struct Before {
    sndbuf_errors: u64,
    /// `None` where what is counted then does not count here.
    arrivals: Option<Arrivals>,
    families: Families,
    queue: Option<DeviceQueue>,
}

impl Before {
    /// Reads them.
    pub(crate) fn read(plan: &Plan) -> Self {
        let families = Families {
            v4: plan.target.is_ipv4(),
            v6: plan.target.is_ipv6(),
        };
        let texts = Texts::read();
        Self {
            sndbuf_errors: texts.sndbuf_errors(),
            families,
            arrivals: Arrivals::of(families, &texts).filter(|_| plan.warmup.is_zero()),
            queue: DeviceQueue::open(plan),
        }
    }

    /// What was lost since, by a run that counted `counters`.
    pub(crate) fn lost(self, counters: &Counters) -> HostLoss {
        let texts = Texts::read();
        let arrivals = self.arrivals.zip(Arrivals::of(self.families, &texts));
        let arrivals = arrivals.map(|(before, now)| now.since(before));
        HostLoss {
            sndbuf_errors: texts.sndbuf_errors().saturating_sub(self.sndbuf_errors),
            drops: Drops::new(counters.receive_drops, counters.arrived, arrivals),
            queue: self.queue.and_then(DeviceQueue::counted),
        }
    }
}
