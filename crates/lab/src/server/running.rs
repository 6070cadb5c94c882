//! A server that runs, of whatever kind: where it listens, and how it ends.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use crate::output_tail::OutputTail;
use crate::process_group::ChildServer;
use reflector_netlab::naive::NaiveServer;

/// A server that listens. Ended when dropped.
#[derive(Debug)]
pub(crate) enum Server {
    /// On a thread of ours.
    Naive {
        /// Stops when dropped.
        _server: NaiveServer,
    },
    /// The user's.
    Yours {
        /// Its process.
        child: ChildServer,
        /// What it wrote last.
        tail: OutputTail,
        /// Its UDP sockets on the port.
        bound: Vec<SocketAddr>,
    },
    /// This program.
    Reflector {
        /// Its process.
        child: ChildServer,
        /// What it wrote to stderr last.
        tail: OutputTail,
        /// The engine that it runs on.
        engine: String,
    },
}

/// How long a server may take until it listens.
pub(crate) const START_TIMEOUT: Duration = Duration::from_secs(5);

/// How long `reflector` may take to end by SIGTERM, and the user's server.
const STOP_TIMEOUT: Duration = Duration::from_secs(5);
const STOP_TIMEOUT_YOURS: Duration = Duration::from_millis(500);

impl Server {
    /// The engine that moves its datagrams, where it says.
    pub(crate) fn engine(&self) -> Option<&str> {
        match self {
            Server::Reflector { engine, .. } => Some(engine),
            Server::Naive { .. } | Server::Yours { .. } => None,
        }
    }

    /// Its UDP sockets on the port, as far as they are not known beforehand.
    pub(crate) fn bound(&self) -> &[SocketAddr] {
        match self {
            Server::Yours { bound, .. } => bound,
            Server::Naive { .. } | Server::Reflector { .. } => &[],
        }
    }

    /// Why it has no socket that a question to `asked` could reach by its family; `None` if it may
    /// have.
    pub(crate) fn lacks_family_of(&self, asked: SocketAddr) -> Option<String> {
        let bound = self.bound();
        if bound.is_empty() || bound.iter().any(|socket| is_of_family(socket, asked)) {
            return None;
        }
        let family = if asked.is_ipv4() { "IPv4" } else { "IPv6" };
        let all = list(bound);
        Some(format!("It serves no {family}: it is bound to {all} only."))
    }

    /// The same for an IPv4 question that was refused: then its `[::]` is not for IPv4.
    pub(crate) fn is_ipv6_only(&self, asked: SocketAddr) -> Option<String> {
        let is_ipv6 = |socket: &SocketAddr| match socket {
            SocketAddr::V4(_) => false,
            SocketAddr::V6(v6) => v6.ip().to_ipv4_mapped().is_none(),
        };
        let bound = self.bound();
        if bound.is_empty() || asked.is_ipv6() || !bound.iter().all(is_ipv6) {
            return None;
        }
        let all = list(bound);
        Some(format!(
            "It serves no IPv4: {all} is for IPv6 only (IPV6_V6ONLY)."
        ))
    }

    /// Ends it. `reflector` must end well; the user's server may end as it likes.
    ///
    /// # Errors
    /// A sentence that says how it ended.
    pub(crate) fn stop(self) -> Result<(), String> {
        let cannot = |error: io::Error| format!("cannot stop the server: {error}");
        match self {
            Server::Naive { .. } => Ok(()),
            Server::Yours { mut child, .. } => {
                child.stop(STOP_TIMEOUT_YOURS).map(drop).map_err(cannot)
            }
            Server::Reflector {
                mut child, tail, ..
            } => match child.stop(STOP_TIMEOUT).map_err(cannot)? {
                status if status.success() => Ok(()),
                status => Err(format!("It ended with {status}{}.", saying(&tail))),
            },
        }
    }

    /// The end of what it wrote, as the end of a sentence.
    pub(crate) fn saying(&self) -> String {
        match self {
            Server::Naive { .. } => String::new(),
            Server::Yours { tail, .. } | Server::Reflector { tail, .. } => saying(tail),
        }
    }

    /// How it has ended, if it has, though nobody asked it to.
    pub(crate) fn sudden_end(&mut self) -> Option<String> {
        let (Server::Yours { child, tail, .. } | Server::Reflector { child, tail, .. }) = self
        else {
            return None;
        };
        match child.ended() {
            Ok(None) => None,
            Ok(Some(status)) => Some(format!("It ended with {status}{}.", saying(tail))),
            Err(error) => Some(format!("What became of it is not known: {error}.")),
        }
    }
}

/// Whether a question to `asked` could reach `socket` by its family.
pub(crate) fn is_of_family(socket: &SocketAddr, asked: SocketAddr) -> bool {
    match socket {
        SocketAddr::V4(_) => asked.is_ipv4(),
        // A wildcard may be dual-stack.
        SocketAddr::V6(v6) if v6.ip().is_unspecified() => true,
        SocketAddr::V6(v6) => v6.ip().to_ipv4_mapped().is_some() == asked.is_ipv4(),
    }
}

/// The addresses in words.
pub(crate) fn list(sockets: &[SocketAddr]) -> String {
    let names: Vec<String> = sockets.iter().map(SocketAddr::to_string).collect();
    names.join(", ")
}

/// The tail of what a server wrote, as the end of a sentence.
pub(crate) fn saying(tail: &OutputTail) -> String {
    match tail.text() {
        text if text.is_empty() => String::new(),
        text => format!(", saying: {}", text.trim_end_matches('.')),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_socket_is_of_a_family() {
        let serves = |socket: &str, asked: &str| {
            is_of_family(&socket.parse().unwrap(), asked.parse().unwrap())
        };
        assert!(serves("0.0.0.0:1", "10.0.0.1:1") && !serves("0.0.0.0:1", "[fd00::1]:1"));
        assert!(serves("[::]:1", "10.0.0.1:1") && serves("[::]:1", "[fd00::1]:1"));
        assert!(serves("[::ffff:10.0.0.1]:1", "10.0.0.1:1"));
        assert!(!serves("[fd00::1]:1", "10.0.0.1:1"));
    }
}
