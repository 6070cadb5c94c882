//! The queues of devices, and which device leads to an address.

use std::collections::BTreeMap;
use std::io;
use std::net::{IpAddr, SocketAddr};

use netlink_packet_route::RouteNetlinkMessage;
use netlink_packet_route::route::{RouteAttribute, RouteFlags};
use netlink_packet_route::tc::{TcAttribute, TcHandle, TcMessage, TcStats2};

use crate::route::{Intent, Netlink};

/// The queue of a device, its root queueing discipline (tc(8)), and what it has counted since it
/// was made. The counters wrap.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Queue {
    /// Its kind, such as `fq_codel`; `noqueue` where the device has none.
    pub kind: String,
    /// Its handle, by which another one of the same kind is told.
    pub handle: u32,
    /// Packets that have left it, each datagram of a train.
    pub packets: u32,
    /// Packets that it has dropped: a train once, unless it cuts trains. It or one below it: a
    /// class counts what the queue below refuses as a whole, but not what that has cut and dropped
    /// in part.
    pub drops: u32,
    /// Packets that wait in it.
    pub waiting: u32,
}

impl Netlink {
    /// The queue of the device with this index; `None` where it has none that is listed. Asking
    /// needs no privilege.
    ///
    /// # Errors
    /// EOPNOTSUPP in a sandbox without queues.
    pub fn queue(&mut self, device: u32) -> io::Result<Option<Queue>> {
        let mut message = TcMessage::default();
        message.header.index = device as i32;
        let request = RouteNetlinkMessage::GetQueueDiscipline(message);
        let answers = self.request(request, Intent::Dump)?;
        let mut root = None;
        let mut below = 0;
        let is_of_device = |it: &&TcMessage| it.header.index == device as i32;
        for message in answers.iter().filter_map(discipline).filter(is_of_device) {
            if message.header.parent == TcHandle::ROOT {
                root = Some(queue(message));
            } else {
                below += queue(message).drops;
            }
        }
        Ok(root.map(|root| Queue {
            drops: root.drops.max(below),
            ..root
        }))
    }

    /// Packets that the queues of all devices have dropped: a train once, unless the queue cuts
    /// trains. It falls where a queue goes.
    ///
    /// # Errors
    /// EOPNOTSUPP in a sandbox without queues.
    pub fn queue_drops(&mut self) -> io::Result<u64> {
        let request = RouteNetlinkMessage::GetQueueDiscipline(TcMessage::default());
        let answers = self.request(request, Intent::Dump)?;
        // By device: of its root, and below that.
        let mut drops: BTreeMap<i32, [u64; 2]> = BTreeMap::new();
        for message in answers.iter().filter_map(discipline) {
            let is_root = message.header.parent == TcHandle::ROOT;
            let of_device = drops.entry(message.header.index).or_default();
            of_device[usize::from(!is_root)] += u64::from(queue(message).drops);
        }
        Ok(drops.values().map(|[root, below]| *root.max(below)).sum())
    }

    /// The index of the device by which datagrams from `source` to `target` leave; an unspecified
    /// source is one that the routing table chooses.
    ///
    /// # Errors
    /// ENETUNREACH and EHOSTUNREACH where there is no route.
    pub fn device_to(&mut self, target: SocketAddr, source: IpAddr) -> io::Result<u32> {
        let scope = match target {
            SocketAddr::V6(target) => target.scope_id(),
            SocketAddr::V4(_) => 0,
        };
        let source = Some(source).filter(|ip| !ip.is_unspecified());
        let route = self.route_to(target.ip(), source, scope, RouteFlags::empty())?;
        let mut devices = route.attributes.iter().filter_map(|it| match it {
            RouteAttribute::Oif(index) => Some(*index),
            _ => None,
        });
        devices
            .next()
            .ok_or_else(|| io::Error::from_raw_os_error(libc::ENETUNREACH))
    }

    /// The name of the device with this index.
    ///
    /// # Errors
    /// ENODEV when there is none.
    pub fn device_name(&mut self, device: u32) -> io::Result<String> {
        Ok(self.link_at(device)?.name)
    }
}

/// One that sends: what is received passes the others.
fn discipline(answer: &RouteNetlinkMessage) -> Option<&TcMessage> {
    match answer {
        RouteNetlinkMessage::NewQueueDiscipline(message)
            if message.header.parent != TcHandle::INGRESS =>
        {
            Some(message)
        }
        _ => None,
    }
}

fn queue(message: &TcMessage) -> Queue {
    let mut queue = Queue {
        kind: String::new(),
        handle: message.header.handle.into(),
        packets: 0,
        drops: 0,
        waiting: 0,
    };
    for attribute in &message.attributes {
        match attribute {
            TcAttribute::Kind(kind) => queue.kind.clone_from(kind),
            TcAttribute::Stats2(stats) => {
                for stat in stats {
                    match stat {
                        TcStats2::Basic(basic) => queue.packets = basic.packets,
                        TcStats2::Queue(counted) => {
                            (queue.drops, queue.waiting) = (counted.drops, counted.qlen);
                        }
                        _ => {}
                    }
                }
            }
            _ => {}
        }
    }
    queue
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn loopback_leads_to_this_host_and_has_no_queue() {
        let Ok(mut netlink) = Netlink::open() else {
            return;
        };
        for target in ["127.0.0.1:7", "[::1]:7"] {
            let target: SocketAddr = target.parse().unwrap();
            let unspecified = unspecified_like(target);
            let Ok(device) = netlink.device_to(target, unspecified) else {
                continue;
            };
            assert_eq!(netlink.device_to(target, target.ip()).unwrap(), device);
            assert_eq!(netlink.device_name(device).unwrap(), "lo");
            let queue = netlink.queue(device).unwrap();
            assert!(queue.is_none_or(|it| it.kind == "noqueue" && it.drops == 0));
        }
    }

    fn unspecified_like(target: SocketAddr) -> IpAddr {
        match target {
            SocketAddr::V4(_) => IpAddr::from([0; 4]),
            SocketAddr::V6(_) => IpAddr::from([0; 16]),
        }
    }
}
