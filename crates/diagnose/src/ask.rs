//! Asking once: one datagram from one socket.

use std::collections::BTreeMap;
use std::hash::{BuildHasher, Hasher, RandomState};
use std::io;
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::sync::atomic::{AtomicU16, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use crate::attempt::{Attempt, Outcome, Refusal, SocketKind};
use crate::question::{Answer, Question};
use reflector_measure::clock;
use reflector_measure::error::Error;
use reflector_measure::target::wildcard;
use reflector_udp::errqueue::{self, Origin, QueuedError};

/// Whom to ask what, and how long to wait.
#[derive(Debug)]
pub(crate) struct Plan {
    /// Whom.
    asked: SocketAddr,
    /// What.
    question: Question,
    /// How long to wait for each answer.
    timeout: Duration,
    /// The number that questions are told apart by starts here.
    first: u64,
    /// How many have been asked.
    count: AtomicU16,
    /// From which port each was asked, by its number.
    ports: Mutex<BTreeMap<u16, u16>>,
}

impl Plan {
    /// A plan of which nothing has been done yet.
    pub(crate) fn new(asked: SocketAddr, question: Question, timeout: Duration) -> Self {
        Self {
            asked,
            question,
            timeout,
            // A random number: the standard library seeds its hashers with one.
            first: RandomState::new().build_hasher().finish(),
            count: AtomicU16::new(0),
            ports: Mutex::default(),
        }
    }

    /// Asks by both kinds of socket at the same time, from fresh ports.
    ///
    /// # Errors
    /// EMFILE where there is no descriptor left, EAGAIN where there may be no more threads.
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

    /// Asks by an unconnected socket from `port`; the attempt's number is 0.
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
        let serial = self.count.fetch_add(1, Ordering::Relaxed);
        let mut local = socket
            .local_addr()
            .map_err(|error| Error::system(format!("cannot ask {asked}"), &error))?;
        self.ports().insert(serial, local.port());
        // Connecting a socket of its own tells the source address without fixing the asking one.
        if let Ok(source) = source_of(asked) {
            local.set_ip(source);
        }
        let payload = self.question.payload(self.first, serial);
        let connected = match kind {
            SocketKind::Connected => socket.connect(asked),
            SocketKind::Unconnected => Ok(()),
        };
        let sent = clock::monotonic();
        let result = connected.and_then(|()| match kind {
            SocketKind::Connected => socket.send(&payload),
            SocketKind::Unconnected => socket.send_to(&payload, asked),
        });
        let outcome = match result {
            Ok(_) => self.wait(&socket, serial, port != 0, sent)?,
            Err(error) => Outcome::Unsent(error.raw_os_error().unwrap_or(0)),
        };
        Ok(Attempt {
            number,
            socket: kind,
            local,
            outcome,
        })
    }

    fn ports(&self) -> MutexGuard<'_, BTreeMap<u16, u16>> {
        self.ports.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether an answer to another question than `serial` is one that this port was asked from
    /// before, and that comes late: in this run, or maybe in an earlier one, where the user chose
    /// the port.
    fn is_late(&self, answer: Answer, serial: u16, is_chosen: bool) -> bool {
        match answer {
            Answer::ToAnother(Some(other)) => {
                let ports = self.ports();
                ports.get(&other) == ports.get(&serial)
            }
            Answer::ToAnother(None) => is_chosen,
            Answer::Expected | Answer::Other => false,
        }
    }

    /// Waits for what becomes of question `serial`, which has been `sent`, from a port that the
    /// user chose or not.
    fn wait(
        &self,
        socket: &UdpSocket,
        serial: u16,
        is_chosen: bool,
        sent: Instant,
    ) -> Result<Outcome, Error> {
        let asked = self.asked;
        let outcome = loop {
            let waited = clock::monotonic().duration_since(sent);
            let Some(left) = self.timeout.checked_sub(waited).filter(|it| !it.is_zero()) else {
                break Outcome::Silent;
            };
            let received = receive(socket, left).map_err(|error| {
                Error::system(format!("cannot receive an answer of {asked}"), &error)
            })?;
            let after = clock::monotonic().duration_since(sent);
            match received {
                Received::Datagram { bytes, from } => {
                    let count = self.count.load(Ordering::Relaxed);
                    let answer = self.question.answer(self.first, serial, count, &bytes);
                    if self.is_late(answer, serial, is_chosen) {
                        continue;
                    }
                    if answer != Answer::Other || is_related(from, asked) {
                        break Outcome::Answered {
                            from,
                            after,
                            answer,
                        };
                    }
                }
                Received::Refused(refusal) => break Outcome::Refused(refusal),
                Received::Nothing => {}
            }
        };
        Ok(outcome)
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

/// What it means that nothing can be sent to `asked` for error number `errno`.
pub(crate) fn send_error(asked: SocketAddr, errno: i32) -> Error {
    let error = io::Error::from_raw_os_error(errno);
    let cannot = Error::system(format!("cannot send to {asked}"), &error);
    match errno {
        libc::ENETUNREACH | libc::EHOSTUNREACH => cannot.try_this(format!(
            "this host has no route to it: `ip route get {}` says the same",
            asked.ip()
        )),
        libc::EACCES => cannot.try_this(
            "a broadcast address cannot answer: ask one of the host's own; or a \
                             route forbids it: see `ip route`",
        ),
        libc::EMSGSIZE => cannot.try_this("ask with fewer bytes"),
        _ => cannot,
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use super::*;

    fn plan(asked: SocketAddr) -> Plan {
        Plan::new(asked, Question::Echo, Duration::from_millis(100))
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

    #[test]
    fn an_answer_that_comes_late_is_none_to_the_next_question_of_its_port() {
        let server = UdpSocket::bind("127.0.0.1:0").unwrap();
        let plan = plan(server.local_addr().unwrap());
        let port = UdpSocket::bind("127.0.0.1:0")
            .unwrap()
            .local_addr()
            .unwrap()
            .port();
        assert_eq!(plan.ask_from(port).unwrap().outcome, Outcome::Silent);
        let answers = thread::spawn(move || {
            // The first has waited in the queue.
            for _ in 0..2 {
                let mut bytes = [0; 64];
                let (len, from) = server.recv_from(&mut bytes).unwrap();
                server.send_to(&bytes[..len], from).unwrap();
            }
        });
        let patient = Plan {
            timeout: Duration::from_secs(20),
            ..plan
        };
        let outcome = patient.ask_from(port).unwrap().outcome;
        let is_right = matches!(
            outcome,
            Outcome::Answered {
                answer: Answer::Expected,
                ..
            }
        );
        assert!(is_right, "{outcome:?}");
        answers.join().unwrap();
    }
}
