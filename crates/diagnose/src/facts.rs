//! What was seen and what this host knows: everything that the verdict is made from.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use crate::ask::{Plan, send_error};
use crate::attempt::{Attempt, Outcome, Refusal, is_same};
use crate::host::{self, Address, Counters, Occupancy, Route, Tables};
use crate::options::Options;
use crate::question::{Answer, Question};
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
    /// Other addresses of the target's name.
    pub(crate) others: Vec<Other>,
    /// What was asked.
    pub(crate) question: Question,
    /// How long each answer was waited for.
    pub(crate) timeout: Duration,
    /// Source ports from which the reflector answers nobody, unless it is told otherwise.
    pub(crate) denied_ports: &'static [u16],
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
    /// How full its connection tracking table was after that; `None` without one.
    pub(crate) occupancy: Option<Occupancy>,
    /// This host's UDP conntrack entries; `None` where they cannot be read.
    pub(crate) tracked: Option<Vec<ConntrackEntry>>,
    /// When all was silent: who was seen answering on the interface, although no socket got it.
    /// `None` where it was not sniffed.
    pub(crate) seen_on_interface: Option<Vec<SocketAddr>>,
}

/// Another address of the target's name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Other {
    /// The address.
    pub(crate) addr: SocketAddr,
    /// Whether it answered from itself; `None` where it was not asked.
    pub(crate) is_right: Option<bool>,
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

    /// Other addresses of the target's name that were not asked.
    pub(crate) fn not_asked(&self) -> impl Iterator<Item = SocketAddr> + '_ {
        let not_asked = self.others.iter().filter(|it| it.is_right.is_none());
        not_asked.map(|it| it.addr)
    }

    /// Those that were asked, and whether they answered from themselves.
    pub(crate) fn also_asked(&self) -> impl Iterator<Item = (SocketAddr, bool)> + '_ {
        self.others
            .iter()
            .filter_map(|it| Some((it.addr, it.is_right?)))
    }

    /// The attempts from the port that the user chose.
    pub(crate) fn chosen(&self) -> impl Iterator<Item = &Attempt> {
        self.attempts.iter().filter(|it| it.is_chosen())
    }

    /// The attempts from fresh ports.
    pub(crate) fn fresh(&self) -> impl Iterator<Item = &Attempt> {
        self.attempts.iter().filter(|it| !it.is_chosen())
    }

    /// Whether the flow from the port that the user chose is never answered rightly, although every
    /// fresh one is.
    pub(crate) fn only_chosen_is_wrong(&self) -> bool {
        self.chosen().next().is_some()
            && !self.chosen().any(|it| self.is_right(it))
            && self.fresh().all(|it| self.is_right(it))
    }

    /// The ports of [`denied_ports`](Self::denied_ports) from which was asked in vain.
    pub(crate) fn denied_and_unanswered(&self) -> impl Iterator<Item = u16> + '_ {
        let silent = self
            .attempts
            .iter()
            .filter(|it| it.outcome == Outcome::Silent);
        let ports = silent.map(|it| it.local.port());
        ports.filter(|port| self.denied_ports.contains(port))
    }

    /// How many attempts got the answer to another socket's question.
    pub(crate) fn mixed_up(&self) -> usize {
        let is_to_another = |it: &&Attempt| {
            matches!(
                it.outcome,
                Outcome::Answered {
                    answer: Answer::ToAnother(_),
                    ..
                }
            )
        };
        self.attempts.iter().filter(is_to_another).count()
    }

    /// The error numbers with which this host refused to send, each as often as it did.
    pub(crate) fn unsent(&self) -> impl Iterator<Item = i32> + '_ {
        self.attempts.iter().filter_map(|it| match it.outcome {
            Outcome::Unsent(errno) => Some(errno),
            _ => None,
        })
    }

    /// Whether this host's connection tracking table was too full for a packet meanwhile.
    pub(crate) fn is_table_full(&self) -> bool {
        // Others may have gone by now.
        let is_full = self.occupancy.is_some_and(|it| it.is_above(95));
        is_full && self.counted.untrackable > 0
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
    let mut found = target.resolve(None)?;
    let asked = found.remove(0);
    let plan_for = |addr| Plan::new(addr, options.question.clone(), options.timeout);
    let plan = plan_for(asked);
    let earlier = Counters::read();
    let mut attempts = ask_all(&plan, asked, options)?;
    if let Some(errno) = never_sent(&attempts) {
        return Err(send_error(asked, errno));
    }
    let mut tables = Tables::open().ok();
    let route = tables.as_mut().and_then(|it| it.route_to(asked).ok());
    let mut seen_on_interface = None;
    let is_quiet = |it: &Attempt| matches!(it.outcome, Outcome::Silent | Outcome::Unsent(_));
    let is_silent = |it: &Attempt| it.outcome == Outcome::Silent;
    if attempts.iter().all(is_quiet) && attempts.iter().any(is_silent) {
        let sniffer = route.as_ref().map(|it| Sniffer::open(it.interface_index));
        if let Some(Ok(sniffer)) = sniffer {
            let again = plan.try_once(options.tries + 1)?;
            let locals: Vec<_> = again.iter().map(|it| it.local).collect();
            seen_on_interface = senders(sniffer, &locals).ok();
            attempts.extend(again);
        }
    }
    let counted = Counters::read().since(earlier);
    let occupancy = Occupancy::read();
    let is_answered = attempts.iter().any(|it| it.outcome.is_answered());
    let others = found.into_iter().map(|addr| {
        let is_right = (!is_answered).then(|| answers_rightly(&plan_for(addr), addr));
        Other { addr, is_right }
    });
    let mut facts = Facts {
        target: target.to_string(),
        asked,
        others: others.collect(),
        question: options.question.clone(),
        timeout: options.timeout,
        denied_ports: options.denied_ports,
        attempts,
        route,
        interface_kind: String::new(),
        addresses: Vec::new(),
        routes_to_seen: Vec::new(),
        unresolved: None,
        rp_filter: None,
        counted,
        occupancy,
        tracked: host::tracked_udp(),
        seen_on_interface,
    };
    if let Some(tables) = &mut tables {
        facts.add_tables(tables);
    }
    Ok(facts)
}

/// Asks from the port that the user chose, then from fresh ones. Where those alone are answered
/// rightly, the chosen one is asked again, as often: once alone may have been lost.
fn ask_all(plan: &Plan, asked: SocketAddr, options: &Options) -> Result<Vec<Attempt>, Error> {
    let mut attempts = Vec::new();
    if let Some(port) = options.source_port {
        attempts.push(plan.ask_from(port)?);
    }
    for number in 1..=options.tries {
        attempts.extend(plan.try_once(number)?);
    }
    if let Some(port) = options.source_port
        && !attempts[0].is_right(asked)
        && attempts[1..].iter().all(|it| it.is_right(asked))
    {
        for _ in 0..options.tries {
            attempts.push(plan.ask_from(port)?);
        }
    }
    Ok(attempts)
}

/// Why nothing was ever sent, where this host has no way to the address asked. That something in
/// this host forbids it (EPERM) is a matter for a diagnosis.
fn never_sent(attempts: &[Attempt]) -> Option<i32> {
    let errno = |it: &Attempt| match it.outcome {
        Outcome::Unsent(errno) if errno != libc::EPERM => Some(errno),
        _ => None,
    };
    let errnos: Option<Vec<_>> = attempts.iter().map(errno).collect();
    errnos?.first().copied()
}

/// Whether `addr`, asked once by each socket, answers from itself.
fn answers_rightly(plan: &Plan, addr: SocketAddr) -> bool {
    let attempts = plan.try_once(1);
    attempts.is_ok_and(|it| it.iter().any(|attempt| attempt.is_right(addr)))
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
