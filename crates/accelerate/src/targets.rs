//! The addresses and ports that are answered at.

use std::collections::BTreeSet;
use std::net::{IpAddr, SocketAddr};

use crate::layout::{Target, target};

/// An address of this host.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Local {
    /// The address.
    pub addr: IpAddr,
    /// The number of the interface that has it.
    pub ifindex: u32,
}

/// What is answered of `listeners`, on a host with the addresses `locals`: a listener of no
/// particular address listens on all of its family.
pub fn targets(listeners: &[SocketAddr], locals: &[Local]) -> BTreeSet<Target> {
    let mut targets = BTreeSet::new();
    for local in locals {
        for listener in listeners {
            let is_any = listener.ip().is_unspecified();
            let is_family = listener.is_ipv4() == local.addr.is_ipv4();
            let is_it = listener.ip() == local.addr && is_on(listener, local.ifindex);
            if (is_any && is_family) || is_it {
                let addr = SocketAddr::new(local.addr, listener.port());
                targets.insert(target(addr, scope(local)));
            }
        }
    }
    targets
}

/// Whether a listener of a link-local address means that of this interface.
fn is_on(listener: &SocketAddr, ifindex: u32) -> bool {
    match listener {
        SocketAddr::V4(_) => true,
        SocketAddr::V6(addr) => addr.scope_id() == 0 || addr.scope_id() == ifindex,
    }
}

/// The interface of an address that other interfaces may have as well, or where it means nothing.
fn scope(local: &Local) -> u32 {
    let is_scoped = match local.addr {
        IpAddr::V4(addr) => addr.is_loopback(),
        IpAddr::V6(addr) => addr.is_loopback() || addr.is_unicast_link_local(),
    };
    if is_scoped { local.ifindex } else { 0 }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(listeners: &[&str]) -> BTreeSet<Target> {
        let listeners: Vec<_> = listeners.iter().map(|it| it.parse().unwrap()).collect();
        let locals = [
            ("10.0.0.1", 2),
            ("127.0.0.1", 1),
            ("fe80::1", 2),
            ("fd00::1", 2),
        ];
        let local = |(addr, ifindex): (&str, u32)| Local {
            addr: addr.parse().unwrap(),
            ifindex,
        };
        targets(&listeners, &locals.map(local))
    }

    fn each(addrs: &[(&str, u32)]) -> BTreeSet<Target> {
        let addrs = addrs.iter();
        addrs
            .map(|(addr, ifindex)| target(addr.parse().unwrap(), *ifindex))
            .collect()
    }

    #[test]
    fn a_wildcard_is_every_address_of_its_family() {
        assert_eq!(
            of(&["0.0.0.0:7"]),
            each(&[("10.0.0.1:7", 0), ("127.0.0.1:7", 1)])
        );
        assert_eq!(
            of(&["[::]:7"]),
            each(&[("[fe80::1]:7", 2), ("[fd00::1]:7", 0)])
        );
    }

    #[test]
    fn one_address_is_answered_at_only_while_it_is_local() {
        assert_eq!(
            of(&["10.0.0.1:7", "10.0.0.9:7"]),
            each(&[("10.0.0.1:7", 0)])
        );
    }
}
