//! What the server says in its log: of its settings, and once each of what is not answered.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;

use crate::config::{Config, SEND_BUFFER_SMALL};
use crate::datagram::DropReason;
use crate::engine::Kind;
use crate::engine::probe::Blocker;
use crate::socket::{self, Lack, SocketPair};
use crate::stats::report::Totals;

/// Says what a user may want to know of the settings, and of what the sockets of a worker, `pairs`,
/// were granted, before anything is served.
pub fn settings(config: &Config, pairs: &[SocketPair]) {
    let socket = &pairs[0].receiver;
    for note in &config.notes {
        tracing::warn!("{note}");
    }
    if let Some(blocker) = &config.engine_blocker {
        engine_blocker(blocker);
    }
    if config.engine.kind == Kind::Uring && !config.engine.busy_receive {
        tracing::debug!(
            "on this kernel a receive that finds nothing costs a buffer: receives stay armed \
             when sockets are busy"
        );
    }
    let mut named = BTreeSet::new();
    for Lack { refused, without } in pairs.iter().flat_map(|pair| pair.receiver.lacks()) {
        if named.insert(refused.option) {
            let (option, error) = (refused.option, &refused.error);
            tracing::warn!("the kernel refuses the socket option {option} ({error}): {without}");
        }
    }
    let asked = &config.socket;
    let sent = socket.send_buffer_len();
    let receive = shortage(asked.receive_buffer_len, socket.receive_buffer_len());
    let send = shortage(asked.send_buffer_len, sent);
    if let Some(granted) = receive {
        tracing::warn!(
            "the receive buffer has {granted}: the kernel drops what a burst brings beyond it; \
             raise net.core.rmem_max, or run with CAP_NET_ADMIN"
        );
    }
    if let Some(granted) = send {
        tracing::warn!(
            "the send buffer has {granted}: replies beyond it are lost (EAGAIN); raise \
             net.core.wmem_max, or run with CAP_NET_ADMIN"
        );
    } else if sent < SEND_BUFFER_SMALL {
        tracing::warn!(
            "the send buffer is {sent} bytes, a few trains: replies beyond it are lost (EAGAIN); \
             raise --sndbuf"
        );
    }
    let memory = config.memory();
    tracing::debug!(
        "memory budget: {} KiB = {} KiB + {} workers of {} KiB ({} buffers each), socket \
         buffers not counted",
        memory.total() / 1024,
        memory.base / 1024,
        memory.workers,
        memory.worker / 1024,
        config.engine.buffers
    );
}

/// How much less than `asked` the kernel granted, which `counted` says: twice the bytes, to have
/// room for its own book-keeping (socket(7)).
fn shortage(asked: Option<usize>, counted: usize) -> Option<String> {
    let (asked, granted) = (asked?, counted / 2);
    (granted < asked).then(|| format!("{} of {} KiB", granted / 1024, asked.div_ceil(1024)))
}

/// Says that the counters are `count` datagrams apart, though no worker has died with any in its
/// buffers.
pub fn unaccounted(count: i64) {
    tracing::error!(
        "the counters do not add up: {count} datagrams were received, and neither answered nor \
         counted as lost. This is a fault of this program; please report it"
    );
}

/// Warns of what the summary lacks: the counters of `workers` that have not ended.
pub fn uncounted(workers: &[usize]) {
    for worker in workers {
        tracing::warn!(
            "the summary lacks what worker {worker} has counted since the last report: it has not \
             ended"
        );
    }
}

/// Says why the engine is not io_uring.
pub fn engine_blocker(blocker: &Blocker) {
    tracing::warn!(
        "io_uring is not available: {}; serving with recvmmsg and sendmmsg; {}",
        blocker.what,
        blocker.remedy
    );
}

/// What has been said, since each thing is said once.
#[derive(Debug, Default)]
pub struct Log {
    reasons: RefCell<Vec<DropReason>>,
    drops: RefCell<Vec<String>>,
    errors: RefCell<Vec<String>>,
    /// Indices of interfaces.
    routeless: RefCell<Vec<u32>>,
}

impl Log {
    /// Warns of a peer that the guard refuses, once for each reason. `is_own_port` tells on which
    /// ports the server listens.
    pub fn refused(&self, peer: SocketAddr, reason: DropReason, is_own_port: impl Fn(u16) -> bool) {
        if let Some(why) = is_new(&self.reasons, &reason)
            .then(|| why(peer, reason, is_own_port))
            .flatten()
        {
            tracing::warn!("a datagram from {peer} is not answered (this is said once): {why}");
        }
    }

    /// Warns that no route leads to `peer` by the interface with the index `interface`, which
    /// replies to it leave by; once for each interface.
    pub fn no_route(&self, peer: SocketAddr, interface: u32) {
        if is_new(&self.routeless, &interface) {
            let name = socket::interface_name(interface).unwrap_or_default();
            tracing::warn!(
                "no route leads back to {peer} by the interface {name}, by which it asks (this is \
                 said once): the kernel takes it for a neighbour there, and a reply is lost unless \
                 it is one; add a route (`ip route add {}/32 … dev {name}`), or use \
                 --reply-interface any",
                peer.ip()
            );
        }
    }

    /// Warns of what `totals` count for the first time.
    pub fn totals(&self, totals: &Totals) {
        self.send_errors(&totals.send_errors);
        self.drops(&totals.dropped);
    }

    /// Warns of what is dropped before its peer is looked at, once for each of the reasons in
    /// `dropped`.
    fn drops(&self, dropped: &BTreeMap<&'static str, u64>) {
        for reason in DropReason::ALL {
            let name = reason.name();
            let has_some = dropped.get(name).is_some_and(|&count| count > 0);
            if let Some(why) = lack(*reason).filter(|_| has_some)
                && is_new(&self.drops, &name.to_owned())
            {
                tracing::warn!("datagrams are dropped as {name} (this is said once): {why}");
            }
        }
    }

    /// Warns of replies that the kernel refuses to send, once for each of the `errors` that
    /// somebody can do something about.
    fn send_errors(&self, errors: &BTreeMap<String, u64>) {
        for name in errors.keys() {
            if let Some(remedy) = remedy(name).filter(|_| is_new(&self.errors, name)) {
                tracing::warn!(
                    "the kernel refuses replies with {name} (this is said once): {remedy}"
                );
            }
        }
    }
}

/// Whether `what` has not been said, which it is now.
fn is_new<T: Clone + PartialEq>(said: &RefCell<Vec<T>>, what: &T) -> bool {
    let mut said = said.borrow_mut();
    let is_new = !said.contains(what);
    if is_new {
        said.push(what.clone());
    }
    is_new
}

/// What to do about the send error `name`.
fn remedy(name: &str) -> Option<&'static str> {
    match name {
        "EPERM" => Some(
            "look at this host's firewall (`nft list ruleset`), and whether its table of \
             connections is full (`sysctl net.netfilter.nf_conntrack_count \
             net.netfilter.nf_conntrack_max`)",
        ),
        "EACCES" => Some(
            "look for a route or a security module that prohibits it (`ip route`, the audit log)",
        ),
        "ENETUNREACH" | "EHOSTUNREACH" => Some(
            "look whether there is a route back to the peer (`ip route get`), and the address \
             asked is still there (`ip address`)",
        ),
        "EINVAL" => Some(
            "look whether the address asked is still there, and may be a source (`ip address`)",
        ),
        "EAGAIN" | "ENOBUFS" => Some(
            "look for peers that do not resolve (`ip neighbour`) and for a full device queue \
             (`tc -s qdisc`), or raise --sndbuf",
        ),
        _ => None,
    }
}

/// Why datagrams are dropped for `reason`, with the remedy, where it is a rule or a lack that is
/// seen before any peer is.
fn lack(reason: DropReason) -> Option<&'static str> {
    match reason {
        DropReason::NoPktinfo => Some(
            "the kernel does not say which address was asked, so that any reply could come from a \
             wrong one; listen on each address itself, instead of on 0.0.0.0 or [::]",
        ),
        DropReason::NotUnicast => Some(
            "they were sent to a broadcast or multicast address, and no reply can come from that; \
             ask an address of this host",
        ),
        DropReason::TooLong => Some(
            "the kernel received more datagrams as one train than it should; --gro off receives \
             them one by one",
        ),
        _ => None,
    }
}

/// Why a datagram of `peer` is refused for `reason`, with the remedy; `None` where whoever set up
/// the server wanted just that. `is_own_port` tells on which ports the server listens.
fn why(peer: SocketAddr, reason: DropReason, is_own_port: impl Fn(u16) -> bool) -> Option<String> {
    let (ip, port) = (peer.ip(), peer.port());
    match reason {
        DropReason::NotAllowed => Some(format!(
            "the address lists refuse it; --allow private,{ip} or --allow any answers it"
        )),
        DropReason::SourceAddress => Some(format!(
            "no reply can reach {ip}; whoever sent it needs an address of its own"
        )),
        DropReason::RateLimited => Some(format!(
            "{ip}, or a network that it is in, sends more than --rate-limit says"
        )),
        DropReason::SourcePort if port == 0 => {
            Some("no reply can reach port 0; it has to come from a port".to_owned())
        }
        DropReason::SourcePort if is_own_port(port) => Some(format!(
            "it comes from port {port}, which is this reflector's own, and two reflectors would \
             answer each other for ever; send from another port"
        )),
        DropReason::SourcePort => Some(format!(
            "its port {port} is that of a service, and --deny-port lists it; a --deny-port \
             without it, or --deny-port none, answers it"
        )),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_missing_of_a_buffer_is_said() {
        let asked = Some(8 << 20);
        assert_eq!(shortage(asked, 16 << 20), None);
        assert_eq!(shortage(asked, 425_984).as_deref(), Some("208 of 8192 KiB"));
        // The kernel's least is more than what is asked for.
        assert_eq!(shortage(Some(1), 2304), None);
        assert_eq!(shortage(None, 425_984), None);
    }

    fn said(peer: &str, reason: DropReason) -> String {
        why(peer.parse().unwrap(), reason, |port| port == 9007).unwrap_or_default()
    }

    #[test]
    fn what_the_guard_refuses_has_a_remedy() {
        for (peer, reason, expected) in [
            (
                "203.0.113.9:40",
                DropReason::NotAllowed,
                "--allow private,203.0.113.9 or",
            ),
            (
                "[2001:db8::1]:40",
                DropReason::NotAllowed,
                "--allow private,2001:db8::1 or",
            ),
            (
                "224.0.0.1:40",
                DropReason::SourceAddress,
                "an address of its own",
            ),
            ("10.0.0.1:0", DropReason::SourcePort, "port 0"),
            ("10.0.0.1:9007", DropReason::SourcePort, "another port"),
            ("10.0.0.1:1900", DropReason::SourcePort, "--deny-port none"),
        ] {
            let said = said(peer, reason);
            assert!(said.contains(expected), "{peer}: {said}");
        }
    }

    #[test]
    fn what_is_dropped_before_its_peer_is_known_has_a_remedy() {
        for (reason, expected) in [
            (DropReason::NoPktinfo, "listen on each address itself"),
            (DropReason::NotUnicast, "ask an address of this host"),
            (DropReason::TooLong, "--gro off"),
        ] {
            assert!(lack(reason).unwrap().contains(expected), "{reason:?}");
        }
        // The first of each is told with its peer.
        assert_eq!(lack(DropReason::SourcePort), None);
    }

    #[test]
    fn each_thing_is_said_once() {
        let said = RefCell::default();
        assert!(is_new(&said, &DropReason::SourcePort));
        assert!(is_new(&said, &DropReason::NotAllowed));
        assert!(!is_new(&said, &DropReason::SourcePort));
    }

    #[test]
    fn what_was_wanted_needs_no_remedy() {
        assert_eq!(said("10.0.0.1:40", DropReason::HopLimit), "");
    }
}
