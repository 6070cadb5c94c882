//! The program, for whoever follows devices and whoever reports.

use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use reflector_measure::error::Error;
use reflector_netlink::Netlink;

use crate::accelerator::{Accelerator, Device};
use crate::counted::Counters;
use crate::devices::{Attachments, LocalAddresses};
use crate::rules::Rules;
use crate::targets::Local;
use crate::way::{Framing, Way};

/// LOOPBACK_IFINDEX of net/flow.h: `lo` of every namespace.
const LOOPBACK: u32 = 1;

/// One [`Accelerator`] of several owners.
#[derive(Clone)]
pub struct Shared(Arc<Mutex<Accelerator>>);

impl Shared {
    /// Shares `accelerator`.
    pub fn new(accelerator: Accelerator) -> Self {
        Self(Arc::new(Mutex::new(accelerator)))
    }

    /// As [`Accelerator::set_rules`].
    ///
    /// # Errors
    /// As there.
    pub fn set_rules(&self, rules: Rules) -> Result<(), Error> {
        self.lock().set_rules(rules)
    }

    /// As [`Accelerator::counters`].
    ///
    /// # Errors
    /// As there.
    pub fn counters(&self) -> Result<Counters, Error> {
        self.lock().counters()
    }

    /// Lets go of all devices.
    pub fn detach_all(&self) {
        let mut accelerator = self.lock();
        for index in accelerator.attached() {
            if let Err(error) = accelerator.detach(index) {
                tracing::error!("{error}");
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, Accelerator> {
        // What a panic leaves half done passes frames to the sockets, if anything.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Attachments for Shared {
    fn attach(&mut self, index: u32, way: Way, framing: Framing) -> Result<(), Error> {
        let device = Device {
            ifindex: index,
            way,
            framing,
            is_loopback: index == LOOPBACK,
            other: bridge_mac(index),
        };
        self.lock().attach(&device)
    }

    fn set_way(&mut self, index: u32, way: Way) -> Result<(), Error> {
        self.lock().set_way(index, way)
    }

    fn detach(&mut self, index: u32) {
        if let Err(error) = self.lock().detach(index) {
            tracing::error!("{error}");
        }
    }

    fn set_addresses(&mut self, addresses: &LocalAddresses) -> Result<(), Error> {
        let broadcasts = addresses.broadcasts.iter().copied().collect();
        self.lock().set_addresses(locals(addresses), broadcasts)
    }
}

fn locals(addresses: &LocalAddresses) -> Vec<Local> {
    let ipv4 = addresses.ipv4.iter().map(|ip| IpAddr::V4(*ip));
    let ipv6 = addresses.ipv6.iter().map(|ip| IpAddr::V6(*ip));
    let anywhere = ipv4.chain(ipv6).map(|addr| Local {
        addr,
        // Those of loopback are asked there alone; for others the device does not matter.
        ifindex: LOOPBACK,
    });
    let link_local = addresses.link_local.iter();
    let link_local = link_local.map(|(ifindex, ip)| Local {
        addr: IpAddr::V6(*ip),
        ifindex: *ifindex,
    });
    anywhere.chain(link_local).collect()
}

/// The MAC of the bridge that a device is a port of: what is for the bridge comes in there. Without
/// it the sockets answer what is not for the port's own.
fn bridge_mac(index: u32) -> Option<[u8; 6]> {
    let links = Netlink::open()
        .and_then(|mut netlink| netlink.links())
        .ok()?;
    let port = links.iter().find(|it| it.index == index)?;
    if port.port_kind.as_deref() != Some("bridge") {
        return None;
    }
    links.iter().find(|it| Some(it.index) == port.master)?.mac
}
