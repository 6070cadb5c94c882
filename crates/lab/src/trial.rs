//! One server, asked once: what was seen of it, and the verdict.

use std::io;
use std::net::{SocketAddr, UdpSocket};
use std::time::Duration;

use crate::case::Case;
use crate::judge;
use crate::process_group::Household;
use crate::server::Contestant;
use reflector_measure::clock;
use reflector_measure::error::Error;
use reflector_netlab::capture::{Capture, Packet};
use reflector_netlab::observe::{ConntrackEntry, conntrack};
use reflector_netlab::topology::DockerHost;

/// The question of all trials.
#[derive(Clone, Debug)]
pub struct Question {
    /// The port that is asked.
    pub port: u16,
    /// What is sent.
    pub payload: Vec<u8>,
    /// How long the client waits for an answer.
    pub timeout: Duration,
}

/// What came of asking one server.
#[derive(Clone, Debug)]
pub struct Trial {
    /// Where the server was told to listen.
    pub listen: SocketAddr,
    /// Where the user's server does listen; empty where it is not known to differ.
    pub bound: Vec<SocketAddr>,
    /// The engine that moved its datagrams, where it says.
    pub engine: Option<String>,
    /// What was seen; `None` where it was not asked.
    pub record: Option<Record>,
    /// The verdict.
    pub verdict: Verdict,
    /// The verdict in a sentence or two.
    pub reason: String,
}

/// What was seen while one server was asked.
#[derive(Clone, Debug)]
pub struct Record {
    /// The packets of the conversation on the host's interfaces, by time.
    pub packets: Vec<Seen>,
    /// The host's connection tracking table of UDP, or why it is not known.
    pub conntrack: Result<Vec<ConntrackEntry>, String>,
    /// What the client got.
    pub client: Heard,
}

impl Record {
    /// The source of the first answer, right or wrong; `None` without any.
    pub fn answered_from(&self) -> Option<SocketAddr> {
        let is_answer = |seen: &&Seen| matches!(seen.role, Role::Answer | Role::WrongSource);
        self.packets
            .iter()
            .find(is_answer)
            .map(|seen| seen.packet.source)
    }
}

/// A packet, and what it means here.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Seen {
    /// The interface that saw it.
    pub interface: &'static str,
    /// Since the first packet of the conversation.
    pub since_first: Duration,
    /// The packet.
    pub packet: Packet,
    /// Its part in the conversation.
    pub role: Role,
}

/// The part that a packet plays.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// To the address asked.
    Question,
    /// From there to who asked.
    Answer,
    /// To who asked, from elsewhere.
    WrongSource,
    /// An ICMP error about one of these.
    Refusal,
}

/// What the client's connected socket got.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Heard {
    /// An answer.
    Answer {
        /// Bytes of it.
        payload_len: usize,
        /// From before the send to after the receive.
        rtt: Duration,
    },
    /// ICMP port unreachable.
    Refusal,
    /// Nothing, for so long.
    Nothing(Duration),
}

/// What is to be thought of a server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It answered from the address asked.
    Right,
    /// It answered from another address.
    WrongSource,
    /// No answer reached the client, nor left from a wrong source.
    Unanswered,
    /// There was no server to ask.
    Failed,
    /// The case does not apply to it.
    Skipped,
}

impl Verdict {
    /// Its name in JSON.
    pub fn name(self) -> &'static str {
        match self {
            Verdict::Right => "right",
            Verdict::WrongSource => "wrong_source",
            Verdict::Unanswered => "unanswered",
            Verdict::Failed => "failed",
            Verdict::Skipped => "skipped",
        }
    }
}

/// The trial of `contestant` in `case`, in the fresh namespaces of `picture`.
///
/// # Errors
/// The lab itself could not ask or record; what the server does wrong is in the verdict.
pub fn hold(
    case: Case,
    picture: &DockerHost,
    contestant: &Contestant,
    question: &Question,
    household: &Household,
) -> Result<Trial, Error> {
    let listen = SocketAddr::new(case.bind(), question.port);
    let asked = SocketAddr::new(case.asked(), question.port);
    let namespace = case.server_namespace(picture);
    let unasked = |verdict, reason| Trial {
        listen,
        bound: Vec::new(),
        engine: None,
        record: None,
        verdict,
        reason,
    };
    // On one thread in the server's namespace from its start to its end: see `household`.
    namespace.run(|| {
        let mut server = match contestant.start(namespace, listen, household) {
            Ok(server) => server,
            Err(reason) => return Ok(unasked(Verdict::Failed, reason)),
        };
        let bound = server.bound().to_vec();
        if let Some(reason) = server.lacks_family_of(asked) {
            let trial = unasked(Verdict::Skipped, reason);
            return Ok(Trial { bound, ..trial });
        }
        let record = record(case, picture, asked, question).map_err(|said| {
            Error::system(format!("cannot show the case {}", case.name()), &said)
        })?;
        let (verdict, reason) = judge::verdict(case, asked, &record, &mut server);
        let mut trial = Trial {
            bound,
            engine: server.engine().map(str::to_owned),
            record: Some(record),
            ..unasked(verdict, reason)
        };
        if let Err(reason) = server.stop() {
            trial.verdict = Verdict::Failed;
            trial.reason = reason;
        }
        Ok(trial)
    })
}

fn record(
    case: Case,
    picture: &DockerHost,
    asked: SocketAddr,
    question: &Question,
) -> io::Result<Record> {
    let captures = case
        .interfaces()
        .iter()
        .map(|interface| Ok((*interface, Capture::start(&picture.host, interface)?)))
        .collect::<io::Result<Vec<_>>>()?;
    let client = ask(case, picture, asked, question)?;
    let mut packets = Vec::new();
    for (interface, capture) in captures {
        let seen = capture.stop()?;
        packets.extend(seen.into_iter().map(|packet| (interface, packet)));
    }
    packets.sort_by_key(|(_, packet)| packet.at);
    let table = conntrack(&picture.host).map(|mut entries| {
        entries.retain(|entry| entry.protocol == "udp");
        // The question first; the kernel's order is that of a hash table.
        entries.sort_by_key(|entry| entry.original.destination != asked);
        entries
    });
    Ok(Record {
        packets: judge::conversation(asked, packets),
        conntrack: table.map_err(|error| no_conntrack(&error)),
        client,
    })
}

fn no_conntrack(error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::NotFound => {
            "not listed by this kernel (nf_conntrack not loaded, or no CONFIG_NF_CONNTRACK_PROCFS)"
                .to_owned()
        }
        _ => error.to_string(),
    }
}

/// What a connected socket in the container hears of `asked`.
fn ask(
    case: Case,
    picture: &DockerHost,
    asked: SocketAddr,
    question: &Question,
) -> io::Result<Heard> {
    let socket = picture.container.run(|| UdpSocket::bind(case.client()))?;
    socket.set_read_timeout(Some(question.timeout))?;
    socket.connect(asked)?;
    let start = clock::monotonic();
    socket.send(&question.payload)?;
    let mut buffer = vec![0; usize::from(u16::MAX)];
    match socket.recv(&mut buffer) {
        Ok(payload_len) => Ok(Heard::Answer {
            payload_len,
            rtt: clock::monotonic() - start,
        }),
        Err(error) => match error.kind() {
            io::ErrorKind::ConnectionRefused => Ok(Heard::Refusal),
            io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut => {
                Ok(Heard::Nothing(question.timeout))
            }
            _ => Err(error),
        },
    }
}
