//! A question that was asked once, and what became of it.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use crate::question::Answer;

/// The kind of socket that asks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum SocketKind {
    /// As most clients do: its kernel gives it datagrams from the address asked only.
    Connected,
    /// It sees every answer, and from where.
    Unconnected,
}

impl SocketKind {
    /// The word for it.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Connected => "connected",
            Self::Unconnected => "unconnected",
        }
    }
}

/// What became of a question.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// An answer came.
    Answered {
        /// From whom.
        from: SocketAddr,
        /// The round-trip time.
        after: Duration,
        /// What it is an answer to.
        answer: Answer,
    },
    /// An ICMP error came.
    Refused(Refusal),
    /// This host's kernel did not send it, for this error number.
    Unsent(i32),
    /// Nothing came in time.
    Silent,
}

/// An ICMP error about a question.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Refusal {
    /// Who sent it.
    pub(crate) by: Option<IpAddr>,
    /// Whether it is ICMPv6.
    pub is_v6: bool,
    /// Its type.
    pub(crate) icmp_type: u8,
    /// Its code.
    pub(crate) icmp_code: u8,
}

impl Refusal {
    /// Whether no socket has the port: ICMP type 3 code 3 (RFC 792), ICMPv6 type 1 code 4
    /// (RFC 4443 §3.1).
    pub(crate) fn is_port_unreachable(&self) -> bool {
        (self.icmp_type, self.icmp_code) == if self.is_v6 { (1, 4) } else { (3, 3) }
    }

    /// What the ICMP message says, in words and numbers.
    pub(crate) fn meaning(&self) -> String {
        match self.words() {
            "" => self.numbers(),
            words => format!("{words} ({})", self.numbers()),
        }
    }

    /// What the ICMP message says, in words if there are any for it, else in numbers.
    pub(crate) fn short_meaning(&self) -> String {
        match self.words() {
            "" => self.numbers(),
            words => words.to_owned(),
        }
    }

    fn numbers(&self) -> String {
        let version = if self.is_v6 { "ICMPv6" } else { "ICMP" };
        format!("{version} type {} code {}", self.icmp_type, self.icmp_code)
    }

    fn words(&self) -> &'static str {
        match (self.is_v6, self.icmp_type, self.icmp_code) {
            (false, 3, 3) | (true, 1, 4) => "port unreachable",
            (false, 3, 0 | 6 | 11) | (true, 1, 0) => "network unreachable, there is no route",
            (false, 3, 1 | 7 | 12) | (true, 1, 3) => "host unreachable, it does not respond",
            (false, 3, 2) => "protocol unreachable, it knows no UDP",
            (false, 3, 4) | (true, 2, _) => "the datagram is too long for the path",
            (false, 3, 9 | 10 | 13) | (true, 1, 1) => "administratively prohibited by a firewall",
            (true, 1, 5 | 6) => "rejected by policy",
            (false, 11, _) | (true, 3, _) => "time exceeded, a routing loop perhaps",
            _ => "",
        }
    }
}

/// One question and what became of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Attempt {
    /// The number of the try, from 1; 0 for the flow from the port that the user chose.
    pub(crate) number: u16,
    /// By which kind of socket.
    pub(crate) socket: SocketKind,
    /// From which address, where known, and port.
    pub(crate) local: SocketAddr,
    /// What became of it.
    pub(crate) outcome: Outcome,
}

impl Attempt {
    /// Whether it came from the port that the user chose.
    pub(crate) fn is_chosen(&self) -> bool {
        self.number == 0
    }

    /// Whether it was answered from the address asked.
    pub(crate) fn is_right(&self, asked: SocketAddr) -> bool {
        matches!(self.outcome, Outcome::Answered { from, .. } if is_same(from, asked))
    }
}

impl Outcome {
    /// Whether an answer came, from wherever.
    pub(crate) fn is_answered(&self) -> bool {
        matches!(self, Self::Answered { .. })
    }
}

/// Whether two addresses are the same; the interface of a link-local one counts where both name
/// one.
pub(crate) fn is_same(one: SocketAddr, other: SocketAddr) -> bool {
    let zone = |addr: SocketAddr| match addr {
        SocketAddr::V6(v6) => v6.scope_id(),
        SocketAddr::V4(_) => 0,
    };
    let zones_agree = zone(one) == zone(other) || zone(one) == 0 || zone(other) == 0;
    one.ip() == other.ip() && one.port() == other.port() && zones_agree
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
