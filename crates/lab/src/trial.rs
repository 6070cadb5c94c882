//! What came of asking one server once: what was seen of it, and the verdict.

use std::net::SocketAddr;
use std::time::Duration;

use reflector_netlab::observe::ConntrackEntry;
use reflector_netlab::packet::Packet;

/// The question of all trials.
#[derive(Clone, Debug)]
pub(crate) struct Question {
    /// The port that is asked.
    pub(crate) port: u16,
    /// What is sent.
    pub(crate) payload: Vec<u8>,
    /// How long the client waits for an answer.
    pub(crate) timeout: Duration,
}

/// What came of asking one server.
#[derive(Clone, Debug)]
pub(crate) struct Trial {
    /// Where the server was told to listen.
    pub(crate) listen: SocketAddr,
    /// Where the user's server does listen; empty where it is not known to differ.
    pub(crate) bound: Vec<SocketAddr>,
    /// The engine that moved its datagrams, where it says.
    pub(crate) engine: Option<String>,
    /// What was seen; `None` where it was not asked.
    pub(crate) record: Option<Record>,
    /// The verdict.
    pub(crate) verdict: Verdict,
    /// The verdict in a sentence or two.
    pub(crate) reason: String,
}

/// What was seen while one server was asked.
#[derive(Clone, Debug)]
pub(crate) struct Record {
    /// The packets of the conversation on the host's interfaces, by time.
    pub(crate) packets: Vec<Seen>,
    /// The host's connection tracking table of UDP, or why it is not known.
    pub(crate) conntrack: Result<Vec<ConntrackEntry>, String>,
    /// What the client got.
    pub(crate) client: Heard,
}

impl Record {
    /// The source of the first answer, right or wrong; `None` without any.
    pub(crate) fn answered_from(&self) -> Option<SocketAddr> {
        let is_answer = |seen: &&Seen| matches!(seen.role, Role::Answer | Role::WrongSource);
        self.packets
            .iter()
            .find(is_answer)
            .map(|seen| seen.packet.source)
    }
}

/// A packet, and what it means here.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Seen {
    /// The interface that saw it.
    pub(crate) interface: &'static str,
    /// Since the first packet of the conversation.
    pub(crate) since_first: Duration,
    /// The packet.
    pub(crate) packet: Packet,
    /// Its part in the conversation.
    pub(crate) role: Role,
}

/// The part that a packet plays.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Role {
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
pub(crate) enum Heard {
    /// An answer.
    Answer {
        /// Bytes of it.
        payload_len: usize,
        /// From before the send to after the receive.
        rtt: Duration,
    },
    /// ICMP port unreachable.
    Refusal,
    /// Nothing, in all of this time.
    Nothing(Duration),
}

/// Verdict on a server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
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
    pub(crate) fn name(self) -> &'static str {
        match self {
            Verdict::Right => "right",
            Verdict::WrongSource => "wrong_source",
            Verdict::Unanswered => "unanswered",
            Verdict::Failed => "failed",
            Verdict::Skipped => "skipped",
        }
    }
}
