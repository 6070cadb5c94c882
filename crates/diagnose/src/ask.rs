//! Asking once: one datagram from one socket.

use std::io;
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::thread;
use std::time::Duration;

use crate::attempt::{Attempt, Outcome, Refusal, SocketKind};
use crate::question::Question;
use reflector_measure::clock;
use reflector_measure::error::Error;
use reflector_measure::target::wildcard;
use reflector_udp::errqueue::{self, Origin, QueuedError};

/// Whom to ask what, and how long to wait.
#[derive(Clone, Debug)]
pub(crate) struct Plan {
    /// Whom.
    pub(crate) asked: SocketAddr,
    /// What.
    pub(crate) question: Question,
    /// How long to wait for each answer.
    pub(crate) timeout: Duration,
}

impl Plan {
    /// Asks by both kinds of socket at the same time, from fresh ports.
    ///
    /// # Errors
    /// EMFILE where there is no descriptor left, EAGAIN where there may be no more threads;
    /// ENETUNREACH, EHOSTUNREACH, EPERM, EACCES or EMSGSIZE where this host refuses to send.
    pub(crate) fn try_once(&self, number: u16) -> Result<[Attempt; 2], Error> {
        thread::scope(|scope| {
            let connected = thread::Builder::new()
                .name("connected".to_owned())
                .spawn_scoped(scope, || self.ask(number, SocketKind::Connected, 0));
            let connected = connected
                .map_err(|error| Error::system("cannot ask by two sockets at a time", &error))?;
            let unconnected = self.ask(number, SocketKind::Unconnected, 0);
            let connected = connected.join().expect("asking does not panic");
            Ok([connected?, unconnected?])
        })
    }

    /// Asks by an unconnected socket from `port`.
    ///
    /// # Errors
    /// EADDRINUSE where the port is taken, EACCES where it is below 1024; else as
    /// [`try_once`](Self::try_once).
    pub(crate) fn ask_from(&self, port: u16) -> Result<Attempt, Error> {
        self.ask(0, SocketKind::Unconnected, port)
    }

    fn ask(&self, number: u16, kind: SocketKind, port: u16) -> Result<Attempt, Error> {
        let asked = self.asked;
        let socket = open(asked, port)?;
        let cannot_send = |error: io::Error| send_error(asked, &error);
        let payload = self.question.payload();
        // Connecting a socket of its own tells the source address without fixing the asking one.
        let local = source_of(asked)
            .or_else(|_| socket.local_addr().map(|addr| addr.ip()))
            .map_err(cannot_send)?;
        let local_port = socket.local_addr().map_err(cannot_send)?.port();
        if kind == SocketKind::Connected {
            socket.connect(asked).map_err(cannot_send)?;
        }
        let sent = clock::monotonic();
        match kind {
            SocketKind::Connected => socket.send(&payload),
            SocketKind::Unconnected => socket.send_to(&payload, asked),
        }
        .map_err(cannot_send)?;
        let outcome = loop {
            let waited = clock::monotonic().duration_since(sent);
            let Some(left) = self.timeout.checked_sub(waited).filter(|it| !it.is_zero()) else {
                break Outcome::Silent;
            };
            let received = receive(&socket, left).map_err(|error| {
                Error::system(format!("cannot receive an answer of {asked}"), &error)
            })?;
            let after = clock::monotonic().duration_since(sent);
            match received {
                Received::Datagram { bytes, from } => {
                    let is_expected = self.question.is_answered_by(&payload, &bytes);
                    if is_expected || is_related(from, asked) {
                        break Outcome::Answered {
                            from,
                            after,
                            is_expected,
                        };
                    }
                }
                Received::Refused(refusal) => break Outcome::Refused(refusal),
                Received::Nothing => {}
            }
        };
        Ok(Attempt {
            number,
            socket: kind,
            local: SocketAddr::new(local, local_port),
            outcome,
        })
    }
}

/// Whether a datagram that is not the expected answer may still be one.
fn is_related(from: SocketAddr, asked: SocketAddr) -> bool {
    from.ip() == asked.ip() || from.port() == asked.port()
}

enum Received {
    Datagram { bytes: Vec<u8>, from: SocketAddr },
    Refused(Refusal),
    Nothing,
}

fn receive(socket: &UdpSocket, timeout: Duration) -> io::Result<Received> {
    socket.set_read_timeout(Some(timeout))?;
    let mut bytes = vec![0; usize::from(u16::MAX)];
    match socket.recv_from(&mut bytes) {
        Ok((len, from)) => {
            bytes.truncate(len);
            Ok(Received::Datagram { bytes, from })
        }
        Err(error) => match errqueue::next(socket)? {
            Some(queued) => Ok(refusal(&queued).map_or(Received::Nothing, Received::Refused)),
            None if error.kind() == io::ErrorKind::WouldBlock => Ok(Received::Nothing),
            None if error.kind() == io::ErrorKind::Interrupted => Ok(Received::Nothing),
            None => Err(error),
        },
    }
}

fn refusal(queued: &QueuedError) -> Option<Refusal> {
    let is_v6 = match queued.origin {
        Origin::Icmp => false,
        Origin::Icmp6 => true,
        Origin::Local | Origin::Other(_) => return None,
    };
    Some(Refusal {
        by: queued.offender,
        is_v6,
        icmp_type: queued.icmp_type,
        icmp_code: queued.icmp_code,
    })
}

fn open(asked: SocketAddr, port: u16) -> Result<UdpSocket, Error> {
    let local = SocketAddr::new(wildcard(asked.ip()), port);
    let cannot = |error: io::Error| {
        let cannot = Error::system(format!("cannot ask from {local}"), &error);
        match error.raw_os_error() {
            Some(libc::EADDRINUSE) => cannot.try_this(format!(
                "stop the client that has the port (`ss -unp 'sport = {port}'` shows it)"
            )),
            Some(libc::EACCES) => cannot.try_this("a port below 1024 needs CAP_NET_BIND_SERVICE"),
            Some(libc::EAFNOSUPPORT) => cannot.try_this("this host has no IPv6; ask over IPv4"),
            _ => cannot,
        }
    };
    let socket = UdpSocket::bind(local).map_err(cannot)?;
    errqueue::enable(&socket, asked.is_ipv6()).map_err(cannot)?;
    Ok(socket)
}

/// The source address that this host takes towards `asked`.
fn source_of(asked: SocketAddr) -> io::Result<IpAddr> {
    let socket = UdpSocket::bind((wildcard(asked.ip()), 0))?;
    socket.connect(asked)?;
    Ok(socket.local_addr()?.ip())
}

fn send_error(asked: SocketAddr, error: &io::Error) -> Error {
    let cannot = Error::system(format!("cannot send to {asked}"), error);
    match error.raw_os_error() {
        Some(libc::ENETUNREACH | libc::EHOSTUNREACH) => cannot.try_this(format!(
            "this host has no route to it: `ip route get {}` says the same",
            asked.ip()
        )),
        Some(libc::EPERM) => cannot.try_this(
            "this host's own firewall drops what it sends: look at the output chains of \
             `nft list ruleset`",
        ),
        Some(libc::EACCES) => {
            cannot.try_this("a broadcast address cannot answer; ask one of the host's own")
        }
        Some(libc::EMSGSIZE) => cannot.try_this("ask with fewer bytes"),
        _ => cannot,
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use super::*;

    fn plan(asked: SocketAddr) -> Plan {
        Plan {
            asked,
            question: Question::Echo,
            timeout: Duration::from_millis(100),
        }
    }

    #[test]
    fn a_closed_port_refuses_and_an_idle_one_is_silent() {
        for host in ["127.0.0.1", "::1"] {
            let idle = UdpSocket::bind((host, 0)).unwrap();
            let addr = idle.local_addr().unwrap();
            for attempt in plan(addr).try_once(1).unwrap() {
                assert_eq!(attempt.outcome, Outcome::Silent);
                assert_eq!(attempt.local.ip(), addr.ip());
            }
            drop(idle);
            for attempt in plan(addr).try_once(1).unwrap() {
                let Outcome::Refused(refusal) = attempt.outcome else {
                    panic!("{attempt:?}")
                };
                assert_eq!(refusal.by, Some(addr.ip()));
                assert_eq!(refusal.is_v6, addr.is_ipv6());
            }
        }
    }

    #[test]
    fn a_port_that_is_taken_is_said() {
        let taken = UdpSocket::bind("0.0.0.0:0").unwrap();
        let addr = taken.local_addr().unwrap();
        let asked = SocketAddr::from((Ipv4Addr::LOCALHOST, addr.port()));
        let error = plan(asked).ask_from(addr.port()).unwrap_err().to_string();
        assert!(error.contains("ss -unp"), "{error}");
    }
}
