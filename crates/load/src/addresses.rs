//! Which address of the target is asked, and from which one of ours.

use std::io;
use std::net::{IpAddr, SocketAddr, SocketAddrV6, UdpSocket};
use std::thread;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};

use crate::options::Source;
use crate::wire::{HEADER_LEN, Probe};
use reflector_measure::clock;
use reflector_measure::dad::{self, Unusable};
use reflector_measure::error::Error;
use reflector_measure::host_port::interface_index;
use reflector_measure::target::{Target, wildcard};

/// How long the addresses of a name are waited for, all together, until one answers.
const ANSWER_MAX: Duration = Duration::from_secs(1);
/// How long an address that the resolver prefers is waited for once another one has answered.
const PREFERRED_MAX: Duration = Duration::from_millis(50);

/// The address that is asked.
#[derive(Debug)]
pub(crate) struct Resolved {
    /// The first that answers, or the first, where none does.
    pub(crate) target: SocketAddr,
    /// All others that were asked, where none answers.
    pub(crate) silent: Vec<SocketAddr>,
}

/// The address of `target` that is asked, from `source` if that is given: of those that a route
/// leads to the only one, or the first that answers a probe.
pub(crate) fn resolve(target: &Target, source: Option<&Source>) -> Result<Resolved, Error> {
    let mut refused = None;
    let mut reached: Vec<(SocketAddr, UdpSocket)> = Vec::new();
    for addr in target.resolve(source.map(|it| it.ip))? {
        match reach(addr, source) {
            _ if reached.iter().any(|(known, _)| *known == addr) => {}
            Ok(socket) => reached.push((addr, socket)),
            Err(error) => refused = refused.or(Some(error)),
        }
    }
    let answering = match reached.len() {
        0 => return Err(refused.expect("a target has at least one address")),
        1 => Some(0),
        _ => first_to_answer(&reached),
    };
    let mut addrs: Vec<_> = reached.into_iter().map(|(addr, _)| addr).collect();
    let target = addrs.remove(answering.unwrap_or(0));
    let silent = if answering.is_none() {
        addrs
    } else {
        Vec::new()
    };
    Ok(Resolved { target, silent })
}

/// The first of `reached` that answers a probe, with whatever. Those before it in the list are
/// given a little more time than it took.
fn first_to_answer(reached: &[(SocketAddr, UdpSocket)]) -> Option<usize> {
    let probe = Probe {
        session: fastrand::u32(..),
        flow: 0,
        sequence: 0,
        scheduled_ns: 0,
        sent_ns: 0,
    };
    let mut datagram = [0; HEADER_LEN];
    probe.emit(&mut datagram);
    for (_, socket) in reached {
        // One that cannot be asked does not answer.
        let _ = socket.send(&datagram);
    }
    let mut open: Vec<_> = reached.iter().map(|(_, socket)| Some(socket)).collect();
    let mut answering = None;
    let mut until = clock::monotonic() + ANSWER_MAX;
    loop {
        // Only what the resolver prefers to the one that has answered is of interest.
        let end = answering.unwrap_or(open.len());
        let waiting: Vec<usize> = (0..end).filter(|&index| open[index].is_some()).collect();
        let left = until.saturating_duration_since(clock::monotonic());
        if waiting.is_empty() || left.is_zero() {
            return answering;
        }
        let mut polled: Vec<_> = waiting
            .iter()
            .filter_map(|&index| open[index])
            .map(|socket| PollFd::new(socket, PollFlags::IN))
            .collect();
        let timeout = Timespec {
            tv_sec: left.as_secs() as _,
            tv_nsec: left.subsec_nanos().into(),
        };
        if poll(&mut polled, Some(&timeout)).is_err() {
            continue;
        }
        let ready: Vec<bool> = polled.iter().map(|it| !it.revents().is_empty()).collect();
        for (index, _) in waiting
            .into_iter()
            .zip(ready)
            .filter(|&(_, is_ready)| is_ready)
        {
            let socket = open[index].take().expect("it was waited for");
            // An error is an ICMP message: nobody is there.
            if socket.recv(&mut datagram).is_ok() && answering.is_none_or(|it| index < it) {
                answering = Some(index);
                until = until.min(soon());
            }
        }
    }
}

fn soon() -> Instant {
    clock::monotonic() + PREFERRED_MAX
}

/// The address and port to bind, where `source` is asked for or not. A link-local one has the
/// interface that it names, or the target's.
pub(crate) fn source(source: Option<&Source>, target: SocketAddr) -> Result<SocketAddr, Error> {
    let Some(Source { ip, interface }) = source else {
        return Ok(SocketAddr::new(wildcard(target.ip()), 0));
    };
    let IpAddr::V6(v6) = *ip else {
        return Ok(SocketAddr::new(*ip, 0));
    };
    let targets = match target {
        SocketAddr::V6(target) => target.scope_id(),
        SocketAddr::V4(_) => 0,
    };
    let attempted = || {
        format!(
            "cannot send from {}",
            source.map_or(String::new(), Source::name)
        )
    };
    let scope = match interface {
        Some(name) => interface_index(name).map_err(|e| {
            Error::system(attempted(), &e).try_this("`ip link` lists the interfaces of this host")
        })?,
        None if v6.is_unicast_link_local() => targets,
        None => 0,
    };
    if v6.is_unicast_link_local() && scope == 0 {
        return Err(Error::usage(
            attempted(),
            "a link-local address needs its interface, as in fe80::1%eth0",
        ));
    }
    if targets != 0 && scope != 0 && scope != targets {
        let why = format!("{target} is on another interface");
        return Err(Error::usage(attempted(), why));
    }
    Ok(SocketAddrV6::new(v6, 0, 0, scope).into())
}

/// Asks the routing table whether `target` can be sent to, and returns a socket that is connected
/// to it. Nothing is sent.
fn reach(target: SocketAddr, bind: Option<&Source>) -> Result<UdpSocket, Error> {
    let ip = target.ip();
    let from = source(bind, target)?;
    if let SocketAddr::V6(from) = from {
        dad::waited_for(*from.ip(), from.scope_id(), thread::sleep);
    }
    let socket = UdpSocket::bind(from).map_err(|e| cannot_bind(from.ip(), &e))?;
    socket.connect(target).map_err(|e| {
        let error = Error::system(format!("cannot reach {target}"), &e);
        match e.raw_os_error() {
            Some(libc::ENETUNREACH | libc::EHOSTUNREACH) => error.try_this(format!(
                "no route leads there: `ip route get {ip}` says more"
            )),
            Some(libc::EACCES) => error.try_this("it is a broadcast address; ask a host"),
            Some(libc::EINVAL) if target.is_ipv6() => error
                .try_this("a link-local address needs its interface, as in [fe80::1%eth0]:9007"),
            _ => error,
        }
    })?;
    Ok(socket)
}

/// Why `ip` cannot be sent from.
pub(crate) fn cannot_bind(ip: IpAddr, e: &io::Error) -> Error {
    let error = Error::system(format!("cannot send from {ip}"), e);
    match e.raw_os_error() {
        Some(libc::EADDRNOTAVAIL) => {
            let unusable = match ip {
                IpAddr::V4(_) => None,
                IpAddr::V6(ip) => dad::unusable(ip, 0),
            };
            error.try_this(unusable.map_or(
                "this host does not have the address: `ip addr` lists those it has",
                Unusable::remedy,
            ))
        }
        _ => error,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn targets_are_found_by_address_and_by_name() {
        for target in ["127.0.0.1:7", "localhost:7", "[::ffff:127.0.0.1]:7"] {
            let bind = Source::from([127, 0, 0, 1]);
            let found = resolve(&target.parse().unwrap(), Some(&bind)).unwrap();
            assert_eq!(found.target, "127.0.0.1:7".parse().unwrap(), "{target}");
        }
    }

    #[test]
    fn a_foreign_address_cannot_be_sent_from() {
        for (bind, said) in [
            ("::1", "has no IPv6 address"),
            ("192.0.2.1", "cannot send from 192.0.2.1"),
        ] {
            let target = "127.0.0.1:7".parse().unwrap();
            let error = resolve(&target, Some(&bind.parse().unwrap())).unwrap_err();
            assert!(error.to_string().contains(said), "{error}");
        }
    }

    #[test]
    fn a_link_local_source_has_the_interface_it_names_or_the_targets() {
        let lo = interface_index("lo").unwrap();
        let target: SocketAddr = SocketAddrV6::new("fe80::1".parse().unwrap(), 7, 0, lo).into();
        for text in ["fe80::2", "fe80::2%lo", "fe80::2%1"] {
            let found = source(Some(&text.parse().unwrap()), target).unwrap();
            let expected = SocketAddrV6::new("fe80::2".parse().unwrap(), 0, 0, lo);
            assert_eq!(found, expected.into(), "{text}");
        }
        let elsewhere = "[2001:db8::1]:7".parse().unwrap();
        for (text, target, said) in [
            ("fe80::2", elsewhere, "needs its interface"),
            ("fe80::2%no-such", target, "ip link"),
            ("fe80::2%4711", target, "on another interface"),
        ] {
            let error = source(Some(&text.parse().unwrap()), target).unwrap_err();
            assert!(error.to_string().contains(said), "{error}");
        }
        for text in ["192.0.2.1%lo", "fe80::2%", "host", "[::1]"] {
            assert!(text.parse::<Source>().is_err(), "{text}");
        }
    }

    #[test]
    fn the_first_address_that_answers_is_asked() {
        let open = || UdpSocket::bind("127.0.0.1:0").unwrap();
        let (silent, answering, also) = (open(), open(), open());
        let client = |server: &UdpSocket| {
            let socket = open();
            socket.connect(server.local_addr().unwrap()).unwrap();
            (server.local_addr().unwrap(), socket)
        };
        let reached = [&silent, &answering, &also].map(client);
        for (server, (_, client)) in [&answering, &also].into_iter().zip(&reached[1..]) {
            let to = client.local_addr().unwrap();
            server.send_to(b"an answer", to).unwrap();
        }
        assert_eq!(first_to_answer(&reached), Some(1));
        drop(silent);
        // Nobody listens at one, and the other answers nothing.
        assert_eq!(first_to_answer(&reached), None);
    }
}
