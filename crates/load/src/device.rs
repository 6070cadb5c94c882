//! The queue of the device that the target is reached by: what it drops is lost on this host.

use crate::plan::Plan;
use reflector_netlink::{Netlink, Queue};

/// The queue of the device, as it was at the start.
pub(crate) struct DeviceQueue {
    netlink: Netlink,
    index: u32,
    name: String,
    before: Queue,
}

/// What a device's queue has counted meanwhile, of everybody's packets.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct QueueCounts {
    /// The device.
    pub(crate) device: String,
    /// The queue's kind, as tc(8) names it.
    pub(crate) kind: String,
    /// Packets dropped: a train once, unless the queue cuts trains.
    pub(crate) drops: u64,
    /// Packets that have left, and that wait at the end: each datagram of a train.
    pub(crate) passed: u64,
}

impl DeviceQueue {
    /// Looks at the queue that datagrams of `plan` enter; `None` where it cannot be read.
    pub(crate) fn open(plan: &Plan) -> Option<Self> {
        let mut netlink = Netlink::open().ok()?;
        let index = netlink.device_to(plan.target, plan.bind.ip()).ok()?;
        Some(Self {
            before: netlink.queue(index).ok()?.unwrap_or_else(none),
            name: netlink.device_name(index).ok()?,
            index,
            netlink,
        })
    }

    /// What it has counted since; `None` where there is another queue now.
    pub(crate) fn counted(mut self) -> Option<QueueCounts> {
        let before = self.before;
        let now = self.netlink.queue(self.index).ok()?;
        let now = now.unwrap_or_else(none);
        let is_same = (&now.kind, now.handle) == (&before.kind, before.handle);
        is_same.then(|| QueueCounts {
            device: self.name,
            kind: now.kind,
            drops: now.drops.wrapping_sub(before.drops).into(),
            passed: u64::from(now.packets.wrapping_sub(before.packets)) + u64::from(now.waiting),
        })
    }
}

/// A device without a queue.
fn none() -> Queue {
    Queue {
        kind: "noqueue".to_owned(),
        handle: 0,
        packets: 0,
        drops: 0,
        waiting: 0,
    }
}
