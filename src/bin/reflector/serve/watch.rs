//! Follows the interfaces that the server is bound to, and the MTUs of routes, as the kernel tells
//! of them.

use std::collections::BTreeMap;
use std::io;
use std::thread;

use ipnet::Ipv4Net;
use reflector::server::Handle;
use reflector_measure::error::Error;
use reflector_netlink::{Change, Changes, Netlink, Topic};

/// Interfaces by name, each with the number that it had when it was last seen; without one while
/// it is not there.
struct Watch {
    server: Handle,
    netlink: Netlink,
    interfaces: BTreeMap<String, Option<u32>>,
    route_mtus: Vec<(Ipv4Net, u32)>,
}

/// Follows `interfaces` on a thread of its own, and has `server` bind to those anew that come back
/// under their name; tells it the MTUs of routes. Where the kernel tells nothing, nothing is
/// followed.
///
/// # Errors
/// `EAGAIN` where there may be no more threads.
pub fn follow(server: Handle, interfaces: Vec<String>) -> Result<(), Error> {
    // In this order: what changes while the numbers are read is told as well.
    let opened = Changes::subscribe(&[Topic::Links, Topic::Ipv4Routes])
        .and_then(|changes| Ok((changes, Netlink::open()?)));
    let (mut changes, netlink) = match opened {
        Ok(opened) => opened,
        Err(error) => {
            tracing::warn!(
                "cannot follow interfaces and routes: {error}; one that --device names is not \
                 listened on again when it comes back, and the MTU of a route is not respected"
            );
            return Ok(());
        }
    };
    let mut watch = Watch {
        server,
        netlink,
        interfaces: interfaces.into_iter().map(|name| (name, None)).collect(),
        route_mtus: Vec::new(),
    };
    watch.read_routes();
    for name in Vec::from_iter(watch.interfaces.keys().cloned()) {
        let index = watch.index(&name);
        watch.interfaces.insert(name, index);
    }
    let run = move || {
        while let Ok(told) = changes.wait() {
            told.iter().for_each(|change| watch.take(change));
        }
    };
    let thread = thread::Builder::new().name("watch".to_owned());
    let cannot = |e: io::Error| Error::system("cannot follow interfaces", &e);
    thread.spawn(run).map(drop).map_err(cannot)
}

impl Watch {
    fn take(&mut self, change: &Change) {
        match change {
            Change::Link(link) => self.is_there(&link.name, link.index),
            Change::LinkGone(link) => self.has_gone(&link.name, link.index),
            Change::Missed => self.look_at_all(),
            // Replies leave from the address that was asked, whichever there are.
            Change::Address | Change::Route => {}
            Change::Ipv4Route { net, mtu } => {
                // A router has many routes that change, and none of them concerns us.
                if mtu.is_some() || self.route_mtus.iter().any(|(known, _)| known == net) {
                    self.read_routes();
                }
            }
        }
    }

    fn is_there(&mut self, name: &str, index: u32) {
        if let Some(known) = self.interfaces.get_mut(name)
            && known.replace(index) != Some(index)
        {
            self.server.rebind(name);
        }
    }

    fn has_gone(&mut self, name: &str, index: u32) {
        // By its number, since it may have been renamed before.
        let is_it = |known: &Option<u32>| *known == Some(index);
        let Some((bound, known)) = self.interfaces.iter_mut().find(|(_, known)| is_it(known))
        else {
            return;
        };
        *known = None;
        let renamed = if bound == name {
            String::new()
        } else {
            format!(", now {name},")
        };
        tracing::warn!(
            "the interface {bound}{renamed} has gone: nothing is received by it until it is back"
        );
    }

    fn read_routes(&mut self) {
        let route_mtus = match self.netlink.ipv4_route_mtus() {
            Ok(route_mtus) => route_mtus,
            Err(error) => return tracing::warn!("cannot read the MTUs of routes: {error}"),
        };
        if self.route_mtus != route_mtus {
            self.server.set_route_mtus(route_mtus.iter().copied());
            self.route_mtus = route_mtus;
        }
    }

    fn look_at_all(&mut self) {
        self.read_routes();
        for name in Vec::from_iter(self.interfaces.keys().cloned()) {
            match self.index(&name) {
                Some(index) => self.is_there(&name, index),
                None => _ = self.interfaces.insert(name, None),
            }
        }
    }

    fn index(&mut self, name: &str) -> Option<u32> {
        self.netlink.link(name).ok().map(|link| link.header.index)
    }
}
