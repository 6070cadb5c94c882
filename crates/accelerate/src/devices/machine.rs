//! What is to be done when something changes.
//!
//! A message says *that* something has changed; *what is* is asked of the kernel then, since it
//! may be newer than the message. So a message that comes late undoes nothing, and the order of
//! messages matters in one case only: a device with the number of ours has gone. Then its
//! attachment is of no use, whatever else has that number by now.
//!
//! The end of a veth that moves is closed first, and then the other end is told to have no carrier.
//! So where both ends come to be in this namespace, which loses what goes by peer redirect, that is
//! heard of when the kernel tells of the carrier, and not only when it is there again.

use std::collections::BTreeSet;

use reflector_netlink::{Change, Family};

use super::device::Device;
use super::host::Host;
use super::local::{LocalAddresses, is_isolated};
use super::step::{Reason, Step};
use crate::routes::Routes;

/// What is attached where, and what is waited for.
#[derive(Debug)]
pub struct Machine {
    peer_is_scrubbed: bool,
    devices: Vec<Device>,
    /// As they were set last; `None` when they are to be set whatever they are.
    local: Option<LocalAddresses>,
    /// Devices whose addresses are not among them.
    isolated: BTreeSet<u32>,
    /// As they were set last; `None` when they are to be set whatever they are.
    routes: Option<Routes>,
    /// The families that have rules.
    ruled: &'static str,
}

impl Machine {
    /// For the devices called `names`, with nothing attached. Whether peer redirect scrubs what it
    /// hands over, [`peer_is_scrubbed`](super::judge::peer_is_scrubbed) tells.
    pub fn new(names: &[String], peer_is_scrubbed: bool) -> Self {
        let names: BTreeSet<&String> = names.iter().collect();
        Self {
            peer_is_scrubbed,
            devices: names.into_iter().map(|it| Device::new(it)).collect(),
            local: None,
            isolated: BTreeSet::new(),
            routes: Some(Routes::default()),
            ruled: "",
        }
    }

    /// Begins: everything is asked. Changes have to be subscribed to before.
    pub fn begin(&mut self, host: &mut impl Host) -> Vec<Step> {
        let mut steps = Vec::new();
        self.take_all(host, &mut steps);
        steps
    }

    /// The numbers of the devices that are attached.
    pub fn attached(&self) -> impl Iterator<Item = u32> {
        self.devices.iter().filter_map(Device::attached)
    }

    /// What `change` makes necessary, but for routes; those are read before anything is attached,
    /// whose number another device may have had when they were read last. That a bridge, of which a
    /// device becomes a port, has another's number is seen when routes are looked at.
    pub fn take(&mut self, change: &Change, host: &mut impl Host) -> Vec<Step> {
        let mut steps = Vec::new();
        match change {
            // Nothing is attached, and all is tried again when routes are looked at.
            _ if self.local.is_none() => {}
            Change::Missed => self.take_all(host, &mut steps),
            Change::Address => self.read_addresses(host, &mut steps),
            Change::Link(link) => {
                let is_concerned = |it: &Device| it.is_concerned(link);
                if self.isolated.contains(&link.index) != is_isolated(link) {
                    self.read_addresses(host, &mut steps);
                }
                self.look_at_links(host, is_concerned, &mut steps);
            }
            Change::LinkGone(link) => {
                let is_concerned = |it: &Device| it.is_concerned(link);
                self.let_go(|it| it == link.index, &Reason::Absent, &mut steps);
                // Its addresses have gone with it.
                self.read_addresses(host, &mut steps);
                self.look_at_links(host, is_concerned, &mut steps);
            }
            Change::Ipv4Route { .. } | Change::Route => {}
        }
        steps
    }

    /// To be asked after changes of any kind, once for all that are told together: a table may be
    /// long, and routes of IPv4 that go with a device or an address go without a word
    /// (fib_sync_down_dev, net/ipv4/fib_semantics.c). Where all was let go of, all is tried again.
    pub fn look_at_routes(&mut self, host: &mut impl Host) -> Vec<Step> {
        let mut steps = Vec::new();
        if self.local.is_some() {
            self.read_routes(host, &mut steps);
        } else {
            self.take_all(host, &mut steps);
        }
        steps
    }

    /// To be told that nothing is attached to device `index`, since `said` was said.
    pub fn lost(&mut self, index: u32, said: &str) -> Vec<Step> {
        let mut steps = Vec::new();
        let reason = Reason::Failed(said.to_owned());
        self.let_go(|it| it == index, &reason, &mut steps);
        steps
    }

    /// To be told that addresses or routes could not be set, since `said` was said: all devices are
    /// let go, and everything is tried again when routes are looked at next.
    pub fn lost_all(&mut self, said: &str) -> Vec<Step> {
        let mut steps = Vec::new();
        for device in &mut self.devices {
            device.wait(Reason::Failed(said.to_owned()), &mut steps);
        }
        (self.local, self.routes) = (None, None);
        steps
    }

    /// Everything, whatever has been known before: also whether what is attached is still the
    /// device that it was attached to, which only a new attachment makes sure.
    fn take_all(&mut self, host: &mut impl Host, steps: &mut Vec<Step>) {
        // Routes first: where there were too many, no addresses could be set before these are.
        self.read_routes(host, steps);
        if self.routes.is_none() {
            return;
        }
        self.read_addresses(host, steps);
        if self.local.is_none() {
            return;
        }
        for device in &mut self.devices {
            device.doubt(steps);
        }
        self.read_links(host, |_| true, steps);
    }

    fn read_addresses(&mut self, host: &mut impl Host, steps: &mut Vec<Step>) {
        let read = host
            .links()
            .and_then(|links| Ok((host.addresses()?, links)));
        let (addresses, links) = match read {
            Ok(read) => read,
            Err(error) => {
                let said = format!("cannot read the addresses of this host: {error}");
                return steps.extend(self.lost_all(&said));
            }
        };
        let isolated = links.iter().filter(|it| is_isolated(it));
        self.isolated = isolated.map(|it| it.index).collect();
        let local = LocalAddresses::of(&links, &addresses);
        if self.local.as_ref() != Some(&local) {
            steps.push(Step::SetAddresses(local.clone()));
            self.local = Some(local);
        }
    }

    fn read_routes(&mut self, host: &mut impl Host, steps: &mut Vec<Step>) {
        let read = [Family::Ipv4, Family::Ipv6].map(|it| host.routes(it));
        let [v4, v6] = match read {
            [Ok(v4), Ok(v6)] => [v4, v6],
            [Err(error), _] | [_, Err(error)] => {
                let said = format!("cannot read the routes of this host: {error}");
                return steps.extend(self.lost_all(&said));
            }
        };
        let ruled = match (&v4, &v6) {
            (Some(_), Some(_)) => "",
            (None, Some(_)) => "IPv4",
            (Some(_), None) => "IPv6",
            (None, None) => "IPv4 and IPv6",
        };
        if self.ruled != ruled {
            self.ruled = ruled;
            if !ruled.is_empty() {
                steps.push(Step::Leave(ruled));
            }
        }
        let routes: Vec<_> = [v4, v6].into_iter().flatten().flatten().collect();
        let routes = Routes::of(&routes);
        if self.routes.as_ref() != Some(&routes) {
            steps.push(Step::SetRoutes(routes.clone()));
            self.routes = Some(routes);
        }
    }

    /// Does what devices make necessary for which `is_concerned` holds, if there are any.
    fn look_at_links(
        &mut self,
        host: &mut impl Host,
        is_concerned: impl Fn(&Device) -> bool,
        steps: &mut Vec<Step>,
    ) {
        let mut concerned = self.devices.iter().filter(|it| is_concerned(it)).peekable();
        if concerned.peek().is_none() {
            return;
        }
        if concerned.any(|it| it.attached().is_none()) {
            self.read_routes(host, steps);
        }
        if self.local.is_some() {
            self.read_links(host, is_concerned, steps);
        }
    }

    fn read_links(
        &mut self,
        host: &mut impl Host,
        is_concerned: impl Fn(&Device) -> bool,
        steps: &mut Vec<Step>,
    ) {
        let links = match host.links() {
            Ok(links) => links,
            Err(error) => {
                let said = format!("cannot read the devices of this host: {error}");
                return steps.extend(self.lost_all(&said));
            }
        };
        let mut taken: BTreeSet<u32> = self.attached().collect();
        for device in self.devices.iter_mut().filter(|it| is_concerned(it)) {
            device.judge(&links, self.peer_is_scrubbed, &mut taken, host, steps);
        }
    }

    fn let_go(&mut self, is_it: impl Fn(u32) -> bool, reason: &Reason, steps: &mut Vec<Step>) {
        for device in &mut self.devices {
            if device.attached().is_some_and(&is_it) {
                device.wait(reason.clone(), steps);
            }
        }
    }
}

#[cfg(test)]
mod tests;
