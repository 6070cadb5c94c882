//! The program, for whoever follows devices and whoever reports.

use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use reflector_measure::error::Error;
use reflector_netlink::LOOPBACK;

use crate::accelerator::{Accelerator, Device};
use crate::counted::Counters;
use crate::devices::{Attachments, Bridge, LocalAddresses};
use crate::routes::Routes;
use crate::rules::Rules;
use crate::targets::Local;
use crate::way::{Framing, Way};

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

    fn lock(&self) -> MutexGuard<'_, Accelerator> {
        // What a panic leaves half done passes frames to the sockets, if anything.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Attachments for Shared {
    fn attach(
        &mut self,
        index: u32,
        way: Way,
        framing: Framing,
        bridge: Option<Bridge>,
    ) -> Result<(), Error> {
        let mut device = Device {
            ifindex: index,
            way,
            framing,
            is_loopback: index == LOOPBACK,
            other: None,
            routed_by: index,
        };
        be_port_of(&mut device, bridge);
        self.lock().attach(&device)
    }

    fn set_way(&mut self, index: u32, way: Way) -> Result<(), Error> {
        self.lock().alter(index, |it| it.way = way)
    }

    fn set_bridge(&mut self, index: u32, bridge: Option<Bridge>) -> Result<(), Error> {
        self.lock().alter(index, |it| be_port_of(it, bridge))
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

    fn set_routes(&mut self, routes: &Routes) -> Result<(), Error> {
        self.lock().set_routes(routes.clone())
    }
}

/// What is for the bridge comes in at its port, and has the bridge's routes.
fn be_port_of(device: &mut Device, bridge: Option<Bridge>) {
    device.other = bridge.and_then(|it| it.mac);
    device.routed_by = bridge.map_or(device.ifindex, |it| it.index);
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
