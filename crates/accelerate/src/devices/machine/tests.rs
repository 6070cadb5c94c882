//! A host to read, and what is told of it.

mod addresses;
mod switching;

use std::io;

use reflector_netlink::{Address, Family, Link, Route};

use super::super::judge::Refusal;
use super::super::step::Bridge;
use super::*;
use crate::way::{Framing, Way};

/// A host that says what a test has put into it.
#[derive(Default)]
struct Table {
    links: Vec<Link>,
    addresses: Vec<Address>,
    merging: Vec<u32>,
    /// `None` where there are rules besides the usual ones.
    routes: Option<Vec<Route>>,
    is_deaf: bool,
}

impl Host for Table {
    fn links(&mut self) -> io::Result<Vec<Link>> {
        if self.is_deaf {
            return Err(io::Error::from_raw_os_error(libc::ENOBUFS));
        }
        Ok(self.links.clone())
    }

    fn addresses(&mut self) -> io::Result<Vec<Address>> {
        Ok(self.addresses.clone())
    }

    fn routes(&mut self, family: Family) -> io::Result<Option<Vec<Route>>> {
        let is_it = |it: &&Route| it.net.addr().is_ipv4() == (family == Family::Ipv4);
        let routes = self.routes.as_ref();
        Ok(routes.map(|all| all.iter().filter(is_it).cloned().collect()))
    }

    fn merges_lists(&mut self, index: u32) -> io::Result<bool> {
        Ok(self.merging.contains(&index))
    }
}

/// A machine for `names`, and the host that it reads.
struct Bench {
    machine: Machine,
    host: Table,
}

impl Bench {
    /// On a host with `links`, begun; what was to be done for that.
    fn begin(names: &[&str], links: &[Link]) -> (Self, Vec<Step>) {
        let names: Vec<String> = names.iter().map(ToString::to_string).collect();
        let mut bench = Self {
            machine: Machine::new(&names, true),
            host: Table {
                links: links.to_vec(),
                routes: Some(Vec::new()),
                ..Table::default()
            },
        };
        let steps = bench.machine.begin(&mut bench.host);
        (bench, steps)
    }

    /// `link` has become so, as NEWLINK tells.
    fn becomes(&mut self, link: &Link) -> Vec<Step> {
        self.host.links.retain(|it| it.index != link.index);
        self.host.links.push(link.clone());
        self.told(Change::Link(link.clone()))
    }

    /// `link` has gone, as DELLINK tells.
    fn goes(&mut self, link: &Link) -> Vec<Step> {
        self.host.links.retain(|it| it.index != link.index);
        self.told(Change::LinkGone(link.clone()))
    }

    fn told(&mut self, change: Change) -> Vec<Step> {
        let mut steps = self.machine.take(&change, &mut self.host);
        steps.extend(self.machine.look_at_routes(&mut self.host));
        steps
    }
}

const OURS: u32 = 5;
const BRIDGE: u32 = 3;

fn veth(name: &str) -> Link {
    Link {
        index: OURS,
        name: name.into(),
        kind: Some("veth".into()),
        lower: Some(2),
        is_lower_elsewhere: true,
        hardware: 1,
        is_lower_up: true,
        ..Link::default()
    }
}

fn bridge() -> Link {
    Link {
        index: BRIDGE,
        name: "br0".into(),
        kind: Some("bridge".into()),
        hardware: 1,
        is_lower_up: true,
        ..Link::default()
    }
}

fn without_carrier(link: &Link) -> Link {
    Link {
        is_lower_up: false,
        ..link.clone()
    }
}

fn attach(name: &str, index: u32, way: Way) -> Step {
    Step::Attach {
        name: name.into(),
        index,
        way,
        framing: Framing::Ethernet,
        bridge: None,
        hint: None,
    }
}

fn set_way(way: Way) -> Step {
    Step::SetWay { index: OURS, way }
}

fn absent(name: &str) -> Step {
    Step::Wait {
        name: name.into(),
        reason: Reason::Absent,
    }
}

fn refused(name: &str, refusal: Refusal) -> Step {
    Step::Wait {
        name: name.into(),
        reason: Reason::Refused(refusal),
    }
}

const DETACH: Step = Step::Detach { index: OURS };

/// With `v0` attached by peer redirect.
fn attached() -> Bench {
    let (bench, steps) = Bench::begin(&["v0"], &[veth("v0")]);
    let set = Step::SetAddresses(LocalAddresses::default());
    assert_eq!(steps, [set, attach("v0", OURS, Way::Peer)]);
    bench
}
