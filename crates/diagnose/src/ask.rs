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

/// How long sockets are read after both have their answers. One to another's question is sent with
/// the answers or right after them, by a server as far away.
const GRACE: Duration = Duration::from_millis(20);

/// Datagrams read from a socket meanwhile, at most: whoever floods it is not read to the end.
const READS_MAX: usize = 64;

/// A question that was asked, and the socket that it was asked by.
struct Asked {
    attempt: Attempt,
    socket: UdpSocket,
    serial: u16,
    sent: Instant,
}

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

    /// How long to wait for an answer.
    pub(crate) fn timeout(&self) -> Duration {
        self.timeout
    }

    /// What is asked.
    pub(crate) fn question(&self) -> &Question {
        &self.question
    }

    /// Numbers for `count` more questions; the first of them.
    pub(crate) fn serials(&self, count: u16) -> u16 {
        self.count.fetch_add(count, Ordering::Relaxed)
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
            let mut both = [connected?, unconnected?];
            self.read_on(&mut both)?;
            Ok(both.map(|it| it.attempt))
        })
    }

    /// Asks by an unconnected socket from `port`; the attempt's number is 0.
    ///
    /// # Errors
    /// EADDRINUSE where the port is taken, EACCES where it is below 1024; else as
    /// [`try_once`](Self::try_once).
    pub(crate) fn ask_from(&self, port: u16) -> Result<Attempt, Error> {
        let asked = self.ask(0, SocketKind::Unconnected, port)?;
        Ok(asked.attempt)
    }

    fn ask(&self, number: u16, kind: SocketKind, port: u16) -> Result<Asked, Error> {
        let (socket, local) = self.open(port)?;
        let serial = self.serials(1);
        self.ports().insert(serial, local.port());
        let connected = self.connect(&socket, kind);
        let sent = clock::monotonic();
        let result = connected.and_then(|()| self.send(&socket, kind, serial));
        let outcome = match result {
            Ok(()) => self.wait(&socket, serial, port != 0, sent)?,
            Err(error) => Outcome::Unsent(error.raw_os_error().unwrap_or(0)),
        };
        Ok(Asked {
            attempt: Attempt {
                number,
                socket: kind,
                local,
                outcome,
            },
            socket,
            serial,
            sent,
        })
    }

    /// A socket at `port`, and where it is.
    pub(crate) fn open(&self, port: u16) -> Result<(UdpSocket, SocketAddr), Error> {
        let asked = self.asked;
        let socket = open(asked, port)?;
        let mut local = socket
            .local_addr()
            .map_err(|error| Error::system(format!("cannot ask {asked}"), &error))?;
        // Connecting a socket of its own tells the source address without fixing the asking one.
        if let Ok(source) = source_of(asked) {
            local.set_ip(source);
        }
        Ok((socket, local))
    }

    /// Connects `socket`, if it is of that kind.
    pub(crate) fn connect(&self, socket: &UdpSocket, kind: SocketKind) -> io::Result<()> {
        match kind {
            SocketKind::Connected => socket.connect(self.asked),
            SocketKind::Unconnected => Ok(()),
        }
    }

    /// Sends question `serial`.
    pub(crate) fn send(&self, socket: &UdpSocket, kind: SocketKind, serial: u16) -> io::Result<()> {
        let payload = self.question.payload(self.first, serial);
        match kind {
            SocketKind::Connected => socket.send(&payload),
            SocketKind::Unconnected => socket.send_to(&payload, self.asked),
        }?;
        Ok(())
    }

    /// Reads what comes to sockets after their own answers, for [`GRACE`] from now: an answer to
    /// another's question is one that they must not get, and so it is what became of theirs.
    ///
    /// # Errors
    /// As those of [`try_once`](Self::try_once).
    fn read_on(&self, sockets: &mut [Asked]) -> Result<(), Error> {
        let started = clock::monotonic();
        let answered = |it: &&mut Asked| it.attempt.outcome.is_answered();
        for asked in sockets.iter_mut().filter(answered) {
            for _ in 0..READS_MAX {
                let passed = clock::monotonic().duration_since(started);
                // What is there already is read in any case.
                let left = GRACE.saturating_sub(passed).max(Duration::from_millis(1));
                let received = self.receive(&asked.socket, left)?;
                if let Received::Datagram { bytes, from } = received {
                    let answer = self.answer(asked.serial, &bytes);
                    let is_to_another = matches!(answer, Answer::ToAnother(_));
                    if is_to_another && !self.is_late(answer, asked.serial, false) {
                        let after = clock::monotonic().duration_since(asked.sent);
                        asked.attempt.outcome = Outcome::Answered {
                            from,
                            after,
                            answer,
                        };
                        break;
                    }
                } else if passed >= GRACE {
                    break;
                }
            }
        }
        Ok(())
    }

    /// What `bytes` are an answer to, for the socket that asked question `serial`.
    pub(crate) fn answer(&self, serial: u16, bytes: &[u8]) -> Answer {
        let count = self.count.load(Ordering::Relaxed);
        self.question.answer(self.first, serial, count, bytes)
    }

    /// What `socket` is given within `timeout`.
    pub(crate) fn receive(&self, socket: &UdpSocket, timeout: Duration) -> Result<Received, Error> {
        receive(socket, timeout).map_err(|error| {
            Error::system(
                format!("cannot receive an answer of {}", self.asked),
                &error,
            )
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
            let received = self.receive(socket, left)?;
            let after = clock::monotonic().duration_since(sent);
            match received {
                Received::Datagram { bytes, from } => {
                    let answer = self.answer(serial, &bytes);
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

/// What a socket was given.
pub(crate) enum Received {
    /// A datagram.
    Datagram {
        /// Its bytes.
        bytes: Vec<u8>,
        /// Who sent it.
        from: SocketAddr,
    },
    /// An ICMP error.
    Refused(Refusal),
    /// Nothing in time.
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

/// What an entry of the error queue is, if ICMP said it.
pub(crate) fn refusal(queued: &QueuedError) -> Option<Refusal> {
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
mod tests;
