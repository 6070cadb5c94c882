//! What was seen and what this host knows: everything that the verdict is made from.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use crate::Options;
use crate::ask::{Attempt, Outcome, Plan};
use crate::host::{self, Address, Counters, Route, Tables};
use crate::question::Question;
use crate::witness::Witness;
use reflector_measure::error::Error;
use reflector_measure::target::Target;
use reflector_netlab::conntrack::ConntrackEntry;

/// What was seen and what this host knows.
#[derive(Clone, Debug)]
pub struct Facts {
    /// The target as typed.
    pub target: String,
    /// The address asked.
    pub asked: SocketAddr,
    /// Other addresses of the target's name, not asked.
    pub others: Vec<SocketAddr>,
    /// What was asked.
    pub question: Question,
    /// How long each answer was waited for.
    pub timeout: Duration,
    /// What became of each question.
    pub attempts: Vec<Attempt>,
    /// The route to the address asked.
    pub route: Option<Route>,
    /// The kind of the interface that questions leave by, such as `veth`.
    pub interface_kind: String,
    /// The addresses of this host.
    pub addresses: Vec<Address>,
    /// The routes to the other addresses that answers came from.
    pub routes_to_seen: Vec<(IpAddr, Route)>,
    /// The neighbour on the way that does not say its link-layer address.
    pub unresolved: Option<IpAddr>,
    /// The reverse path filter of the interface (0 off, 1 strict, 2 loose).
    pub rp_filter: Option<u64>,
    /// What this host counted meanwhile.
    pub counted: Counters,
    /// This host's UDP conntrack entries; `None` where they cannot be read.
    pub tracked: Option<Vec<ConntrackEntry>>,
    /// When all was silent: who was seen answering on the interface, although no socket got it.
    /// `None` where nobody looked.
    pub witnessed: Option<Vec<SocketAddr>>,
}

impl Facts {
    /// The addresses besides the one asked that answers came from, each as often as it came.
    pub fn wrong_sources(&self) -> impl Iterator<Item = SocketAddr> + '_ {
        let seen = self.attempts.iter().filter_map(|it| match it.outcome {
            Outcome::Answered { from, .. } => Some(from),
            _ => None,
        });
        let witnessed = self.witnessed.iter().flatten().copied();
        let wrong = move |from: &SocketAddr| !is_same(*from, self.asked);
        seen.chain(witnessed).filter(wrong)
    }

    /// The route to `ip`, where it was looked up.
    pub fn route_to_seen(&self, ip: IpAddr) -> Option<&Route> {
        let found = self.routes_to_seen.iter().find(|(seen, _)| *seen == ip);
        found.map(|(_, route)| route)
    }
}

/// Whether two addresses are the same; the interface of a link-local one counts where both name
/// one.
pub fn is_same(one: SocketAddr, other: SocketAddr) -> bool {
    let zone = |addr: SocketAddr| match addr {
        SocketAddr::V6(v6) => v6.scope_id(),
        SocketAddr::V4(_) => 0,
    };
    let zones_agree = zone(one) == zone(other) || zone(one) == 0 || zone(other) == 0;
    one.ip() == other.ip() && one.port() == other.port() && zones_agree
}

/// Asks the target and looks at this host.
///
/// # Errors
/// The target does not resolve, or this host cannot send to it.
pub fn gather(target: &Target, options: &Options) -> Result<Facts, Error> {
    let mut others = target.resolve(None)?;
    let asked = others.remove(0);
    let plan = Plan {
        asked,
        question: options.question.clone(),
        timeout: options.timeout,
    };
    let earlier = Counters::read();
    let mut attempts = Vec::new();
    if let Some(port) = options.source_port {
        attempts.push(plan.ask_from(port)?);
    }
    for number in 1..=options.tries {
        attempts.extend(plan.try_once(number)?);
    }
    let mut tables = Tables::open().ok();
    let route = tables.as_mut().and_then(|it| it.route_to(asked).ok());
    let mut witnessed = None;
    if attempts.iter().all(|it| it.outcome == Outcome::Silent) {
        let witness = route.as_ref().map(|it| Witness::open(it.interface_index));
        if let Some(Ok(witness)) = witness {
            let again = plan.try_once(options.tries + 1)?;
            let locals: Vec<_> = again.iter().map(|it| it.local).collect();
            witnessed = witness.senders(&locals).ok();
            attempts.extend(again);
        }
    }
    let mut facts = Facts {
        target: target.to_string(),
        asked,
        others,
        question: plan.question,
        timeout: plan.timeout,
        attempts,
        route,
        interface_kind: String::new(),
        addresses: Vec::new(),
        routes_to_seen: Vec::new(),
        unresolved: None,
        rp_filter: None,
        counted: Counters::read().since(earlier),
        tracked: host::tracked_udp(),
        witnessed,
    };
    if let Some(tables) = &mut tables {
        facts.look_around(tables);
    }
    Ok(facts)
}

impl Facts {
    fn look_around(&mut self, tables: &mut Tables) {
        self.addresses = tables.addresses().unwrap_or_default();
        let mut seen: Vec<_> = self.wrong_sources().collect();
        seen.sort_unstable();
        seen.dedup_by_key(|it| it.ip());
        for addr in seen {
            let route = tables.route_to(addr).ok();
            self.routes_to_seen
                .extend(route.map(|route| (addr.ip(), route)));
        }
        let Some(route) = &self.route else {
            return;
        };
        let interface = tables
            .interfaces()
            .iter()
            .find(|it| it.index == route.interface_index);
        self.interface_kind = interface.map(|it| it.kind.clone()).unwrap_or_default();
        self.rp_filter = host::rp_filter(&route.interface);
        let neighbour = route.gateway.unwrap_or(self.asked.ip());
        let is_unresolved = !route.is_local && tables.is_unresolved(neighbour).unwrap_or(false);
        self.unresolved = is_unresolved.then_some(neighbour);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_zone_counts_where_both_have_one() {
        let same = |one: &str, other: &str| is_same(one.parse().unwrap(), other.parse().unwrap());
        assert!(same("[fe80::1%2]:7", "[fe80::1]:7") && same("192.0.2.1:7", "192.0.2.1:7"));
        assert!(!same("[fe80::1%2]:7", "[fe80::1%3]:7"));
        assert!(!same("192.0.2.1:7", "192.0.2.1:8") && !same("192.0.2.1:7", "192.0.2.2:7"));
    }
}
