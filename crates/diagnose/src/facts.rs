//! What was seen and what this host knows: everything that the verdict is made from.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use crate::ask::Plan;
use crate::attempt::{Attempt, Outcome, Refusal, is_same};
use crate::host::{self, Address, Counters, Route, Tables};
use crate::options::Options;
use crate::question::Question;
use reflector_measure::error::Error;
use reflector_measure::target::Target;
use reflector_netlab::conntrack::ConntrackEntry;
use reflector_netlab::packet::{Kind, Packet};
use reflector_netlab::sniffer::Sniffer;

/// What was seen and what this host knows.
#[derive(Clone, Debug)]
pub(crate) struct Facts {
    /// The target as typed.
    pub(crate) target: String,
    /// The address asked.
    pub(crate) asked: SocketAddr,
    /// Other addresses of the target's name, not asked.
    pub(crate) others: Vec<SocketAddr>,
    /// What was asked.
    pub(crate) question: Question,
    /// How long each answer was waited for.
    pub(crate) timeout: Duration,
    /// What became of each question.
    pub(crate) attempts: Vec<Attempt>,
    /// The route to the address asked.
    pub(crate) route: Option<Route>,
    /// The kind of the interface that questions leave by, such as `veth`.
    pub(crate) interface_kind: String,
    /// The addresses of this host.
    pub(crate) addresses: Vec<Address>,
    /// The routes to the other addresses that answers came from.
    pub(crate) routes_to_seen: Vec<(IpAddr, Route)>,
    /// The neighbour on the way that does not say its link-layer address.
    pub(crate) unresolved: Option<IpAddr>,
    /// The reverse path filter of the interface (0 off, 1 strict, 2 loose).
    pub(crate) rp_filter: Option<u64>,
    /// What this host counted meanwhile.
    pub(crate) counted: Counters,
    /// This host's UDP conntrack entries; `None` where they cannot be read.
    pub(crate) tracked: Option<Vec<ConntrackEntry>>,
    /// When all was silent: who was seen answering on the interface, although no socket got it.
    /// `None` where it was not sniffed.
    pub(crate) seen_on_interface: Option<Vec<SocketAddr>>,
}

impl Facts {
    /// The addresses besides the one asked that answers came from, each as often as it came.
    pub(crate) fn wrong_sources(&self) -> impl Iterator<Item = SocketAddr> + '_ {
        let seen = self.attempts.iter().filter_map(|it| match it.outcome {
            Outcome::Answered { from, .. } => Some(from),
            _ => None,
        });
        let sniffed = self.seen_on_interface.iter().flatten().copied();
        let wrong = move |from: &SocketAddr| !is_same(*from, self.asked);
        seen.chain(sniffed).filter(wrong)
    }

    /// Whether an attempt was answered from the address asked.
    pub(crate) fn is_right(&self, attempt: &Attempt) -> bool {
        attempt.is_right(self.asked)
    }

    /// Whether an answer reached the interface, although no socket got it.
    pub(crate) fn is_dropped_here(&self) -> bool {
        let seen = self.seen_on_interface.as_ref();
        seen.is_some_and(|it| !it.is_empty())
    }

    /// The first ICMP error among the attempts.
    pub(crate) fn first_refusal(&self) -> Option<Refusal> {
        self.attempts.iter().find_map(|it| match it.outcome {
            Outcome::Refused(refusal) => Some(refusal),
            _ => None,
        })
    }

    /// The route to `ip`, where it was looked up.
    pub(crate) fn route_to_seen(&self, ip: IpAddr) -> Option<&Route> {
        let found = self.routes_to_seen.iter().find(|(seen, _)| *seen == ip);
        found.map(|(_, route)| route)
    }
}

/// Asks the target, and collects what this host knows of the way.
///
/// # Errors
/// The target does not resolve, or this host cannot send to it.
pub(crate) fn gather(target: &Target, options: &Options) -> Result<Facts, Error> {
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
    let mut seen_on_interface = None;
    if attempts.iter().all(|it| it.outcome == Outcome::Silent) {
        let sniffer = route.as_ref().map(|it| Sniffer::open(it.interface_index));
        if let Some(Ok(sniffer)) = sniffer {
            let again = plan.try_once(options.tries + 1)?;
            let locals: Vec<_> = again.iter().map(|it| it.local).collect();
            seen_on_interface = senders(sniffer, &locals).ok();
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
        seen_on_interface,
    };
    if let Some(tables) = &mut tables {
        facts.add_tables(tables);
    }
    Ok(facts)
}

/// Who sent UDP datagrams to one of `locals` over the interface, past this host's own filters.
fn senders(mut sniffer: Sniffer, locals: &[SocketAddr]) -> io::Result<Vec<SocketAddr>> {
    /// Of up to 1024 frames each: on a busy interface the answer may be missed.
    const READS_MAX: usize = 100;
    let is_answer = |packet: &Packet| {
        let is_udp = matches!(packet.kind, Kind::Udp { .. });
        is_udp && !packet.is_outgoing && locals.contains(&packet.destination)
    };
    let mut senders = Vec::new();
    for _ in 0..READS_MAX {
        let last = sniffer.read(|packet| {
            if is_answer(&packet) {
                senders.push(packet.source);
            }
        })?;
        if last.is_none() {
            break;
        }
    }
    Ok(senders)
}

impl Facts {
    fn add_tables(&mut self, tables: &mut Tables) {
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
