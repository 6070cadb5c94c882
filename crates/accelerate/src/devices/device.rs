//! One device: what it is, and what that makes necessary.

use std::collections::BTreeSet;
use std::io;
use std::mem;

use reflector_netlink::Link;

use super::host::Host;
use super::judge::{Facts, hint, judge};
use super::step::{Bridge, Reason, Step};
use crate::way::{Framing, Way};

/// A device that is to be accelerated, there or not.
#[derive(Debug)]
pub(super) struct Device {
    /// The name that was asked for; one that is attached may have another by now.
    name: String,
    state: State,
    /// Itself, and the devices that its frames come by, as far as they are here.
    below: BTreeSet<u32>,
    /// What it is a port of, as it was said last.
    bridge: Option<Bridge>,
}

#[derive(Debug)]
enum State {
    Attached {
        index: u32,
        /// The name it has.
        called: String,
        way: Way,
        framing: Framing,
    },
    /// Let go, since more may have become of it than was told; it is attached to again if a device
    /// of that number has that name.
    Uncertain { index: u32, called: String },
    /// `None` before the host has been asked.
    Waiting(Option<Reason>),
}

impl Device {
    pub(super) fn new(name: &str) -> Self {
        Self {
            name: name.to_owned(),
            state: State::Waiting(None),
            below: BTreeSet::new(),
            bridge: None,
        }
    }

    /// The number of the device that is attached.
    pub(super) fn attached(&self) -> Option<u32> {
        match self.state {
            State::Attached { index, .. } => Some(index),
            _ => None,
        }
    }

    /// Lets go, in order to attach anew.
    pub(super) fn doubt(&mut self, steps: &mut Vec<Step>) {
        if let State::Attached { index, called, .. } = &mut self.state {
            let (index, called) = (*index, mem::take(called));
            steps.push(Step::Detach { index });
            self.state = State::Uncertain { index, called };
        }
    }

    /// Whether what becomes of `link` may change what is done here.
    pub(super) fn is_concerned(&self, link: &Link) -> bool {
        let below = |index: Option<u32>| index.is_some_and(|it| self.below.contains(&it));
        // While it is waited for too: what it was refused for may be on it or below it.
        let is_near = below(Some(link.index))
            || below(link.master)
            || below(link.lower) && !link.is_lower_elsewhere;
        let is_above = self.bridge.is_some_and(|it| it.index == link.index);
        is_near || is_above || self.attached().is_none() && link.name == self.name
    }

    /// Does what `links` say.
    pub(super) fn judge(
        &mut self,
        links: &[Link],
        peer_is_scrubbed: bool,
        taken: &mut BTreeSet<u32>,
        host: &mut impl Host,
        steps: &mut Vec<Step>,
    ) {
        // One that is attached under the name that it had before is not attached twice.
        let mut free = links.iter().filter(|it| !taken.contains(&it.index));
        let found = match &self.state {
            State::Attached { index, .. } => links.iter().find(|it| it.index == *index),
            State::Uncertain { index, called } => free
                .clone()
                .find(|it| it.index == *index && it.name == *called)
                .or_else(|| free.find(|it| it.name == self.name)),
            State::Waiting(_) => free.find(|it| it.name == self.name),
        };
        let Some(link) = found else {
            self.below.clear();
            return self.wait(Reason::Absent, steps);
        };
        self.below = below(link, links);
        let gro_list = match gro_list(&self.below, links, host) {
            Ok(gro_list) => gro_list,
            Err(error) => {
                let said = format!(
                    "cannot read whether {} has rx-gro-list on: {error}",
                    link.name
                );
                return self.wait(Reason::Failed(said), steps);
            }
        };
        let facts = Facts {
            peer_is_scrubbed,
            upper: upper(link, links),
            gro_list,
        };
        let (way, framing) = match judge(link, &facts) {
            Ok(verdict) => verdict,
            Err(refusal) => return self.wait(Reason::Refused(refusal), steps),
        };
        let index = link.index;
        if let State::Attached {
            called,
            way: before,
            framing: same,
            ..
        } = &mut self.state
        {
            if *same == framing {
                called.clone_from(&link.name);
                if *before != way {
                    *before = way;
                    steps.push(Step::SetWay { index, way });
                }
                let bridge = bridge(link, links);
                if self.bridge != bridge {
                    self.bridge = bridge;
                    steps.push(Step::SetBridge { index, bridge });
                }
                return;
            }
            steps.push(Step::Detach { index });
        }
        taken.insert(index);
        self.state = State::Attached {
            index,
            called: link.name.clone(),
            way,
            framing,
        };
        let master = links.iter().find(|it| Some(it.index) == link.master);
        self.bridge = bridge(link, links);
        steps.push(Step::Attach {
            name: link.name.clone(),
            index,
            way,
            framing,
            bridge: self.bridge,
            hint: hint(link, master.map(|it| it.name.as_str())),
        });
    }

    /// Lets go of what is attached, and waits; says so unless it has done so before.
    pub(super) fn wait(&mut self, reason: Reason, steps: &mut Vec<Step>) {
        let known = match &self.state {
            State::Attached { index, .. } => {
                steps.push(Step::Detach { index: *index });
                false
            }
            State::Uncertain { .. } => false,
            State::Waiting(known) => known.as_ref() == Some(&reason),
        };
        if !known {
            let name = self.name.clone();
            let reason = reason.clone();
            steps.push(Step::Wait { name, reason });
        }
        self.state = State::Waiting(Some(reason));
    }
}

/// What `link` is a port of.
fn bridge(link: &Link, links: &[Link]) -> Option<Bridge> {
    let master = links.iter().find(|it| Some(it.index) == link.master)?;
    (link.port_kind.as_deref() == Some("bridge")).then_some(Bridge {
        index: master.index,
        mac: master.mac,
    })
}

/// A device that takes some of the frames that come in by `link`, and lies on it here.
fn upper(link: &Link, links: &[Link]) -> Option<String> {
    const KINDS: [&str; 4] = ["macvlan", "macvtap", "ipvlan", "ipvtap"];
    let lies_on_it = |it: &&Link| {
        it.lower == Some(link.index)
            && !it.is_lower_elsewhere
            && it.kind.as_deref().is_some_and(|kind| KINDS.contains(&kind))
    };
    links.iter().find(lies_on_it).map(|it| it.name.clone())
}

/// The devices by which frames come to `link`, itself included: ports of a bridge, what it lies on.
fn below(link: &Link, links: &[Link]) -> BTreeSet<u32> {
    let mut found = BTreeSet::from([link.index]);
    let mut next = vec![link.clone()];
    while let Some(upper) = next.pop() {
        let lies_on = |it: &Link| {
            // The other end of a veth is beside it, not below.
            upper.lower == Some(it.index)
                && !upper.is_lower_elsewhere
                && upper.kind.as_deref() != Some("veth")
        };
        let is_port = |it: &Link| it.master == Some(upper.index);
        for lower in links.iter().filter(|it| is_port(it) || lies_on(it)) {
            if found.insert(lower.index) {
                next.push(lower.clone());
            }
        }
    }
    found
}

/// The name of one of the devices that merges datagrams into lists.
fn gro_list(
    below: &BTreeSet<u32>,
    links: &[Link],
    host: &mut impl Host,
) -> io::Result<Option<String>> {
    for link in links.iter().filter(|it| below.contains(&it.index)) {
        match host.merges_lists(link.index) {
            Ok(true) => return Ok(Some(link.name.clone())),
            Ok(false) => {}
            // It has gone meanwhile, which will be told.
            Err(error) if error.raw_os_error() == Some(libc::ENODEV) => {}
            Err(error) => return Err(error),
        }
    }
    Ok(None)
}
