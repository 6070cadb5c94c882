//! What becomes of a receive that failed: one classification for both engines.
//!
//! The errors of a datagram that was sent are no receive errors; an ICMP message does not fail a
//! receive here, since the sockets are not connected and have no IP_RECVERR (ip(7)).

use std::io;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use crate::stats::Stats;
use reflector_measure::{clock, errno};

/// How long a socket may fail without a receive that works before its worker gives up: a socket
/// without a reader would swallow its share of the peers.
const FAILING_MAX: Duration = Duration::from_secs(1);

/// What a failed receive concerns.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Scope {
    /// Nothing: there was nothing to receive, or no buffer, or it was cancelled or interrupted.
    /// Tried again, not counted.
    Again,
    /// One datagram, or a condition of the network that is reported once and is thereby over.
    /// Counted.
    Datagram,
    /// This socket, perhaps for a while only. Counted, and fatal if it lasts.
    Socket,
    /// All that the worker does: it has no such socket, or no such memory. Counted, and fatal.
    Worker,
}

fn scope(errno: i32) -> Scope {
    match errno {
        libc::EAGAIN | libc::EINTR | libc::ENOBUFS | libc::ECANCELED => Scope::Again,
        libc::ECONNREFUSED
        | libc::ECONNRESET
        | libc::EHOSTDOWN
        | libc::EHOSTUNREACH
        | libc::EMSGSIZE
        | libc::ENETRESET
        | libc::ENETUNREACH
        | libc::ENOPROTOOPT
        | libc::EPROTO => Scope::Datagram,
        libc::EBADF
        | libc::EFAULT
        | libc::EINVAL
        | libc::ENOSYS
        | libc::ENOTSOCK
        | libc::EOPNOTSUPP => Scope::Worker,
        // ENOMEM, ENETDOWN, EACCES and EPERM of a security module, and whatever a newer kernel
        // says.
        _ => Scope::Socket,
    }
}

/// How receiving at one socket has been going.
#[derive(Clone, Debug)]
pub struct Health {
    addr: SocketAddr,
    /// Since when every receive has failed.
    failing_since: Option<Instant>,
    failing_max: Duration,
}

impl Health {
    /// Of the socket at `addr`, which has not failed.
    pub fn new(addr: SocketAddr) -> Self {
        Self {
            addr,
            failing_since: None,
            failing_max: FAILING_MAX,
        }
    }

    /// A receive worked, or found nothing.
    pub fn worked(&mut self) {
        self.failing_since = None;
    }

    /// A receive failed with `errno`, which is counted where it means anything. Says whether it
    /// does.
    ///
    /// # Errors
    /// The worker is of no use any more: the error is fatal, or the socket has failed for too long.
    pub fn failed(&mut self, errno: i32, stats: &mut Stats) -> io::Result<bool> {
        let scope = scope(errno);
        if scope == Scope::Again {
            return Ok(false);
        }
        stats.counters.receive_error(errno);
        match scope {
            Scope::Again | Scope::Datagram => Ok(true),
            Scope::Worker => Err(self.error(errno, "cannot be received from")),
            Scope::Socket => {
                let now = clock::monotonic();
                let since = *self.failing_since.get_or_insert(now);
                if now.duration_since(since) < self.failing_max {
                    return Ok(true);
                }
                let what = format!("has not been received from for {:?}", self.failing_max);
                Err(self.error(errno, &what))
            }
        }
    }

    /// A receive failed with `errno` before the first one worked.
    ///
    /// # Errors
    /// Whatever means anything: a socket is proven to receive, or not served.
    pub fn failed_to_arm(&self, errno: i32) -> io::Result<()> {
        match scope(errno) {
            Scope::Again | Scope::Datagram => Ok(()),
            Scope::Socket | Scope::Worker => Err(self.error(errno, "cannot be received from")),
        }
    }

    fn error(&self, errno: i32, what: &str) -> io::Error {
        let said = io::Error::from_raw_os_error(errno);
        let name = errno::name(errno);
        let text = format!("the socket at {} {what}: {said} ({name})", self.addr);
        io::Error::new(said.kind(), text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn health(failing_max: Duration) -> Health {
        Health {
            failing_max,
            ..Health::new("127.0.0.1:9007".parse().unwrap())
        }
    }

    fn errors(stats: &Stats) -> Vec<(i32, u64)> {
        stats.counters.receive_errors().collect()
    }

    #[test]
    fn what_means_nothing_is_not_counted() {
        let mut stats = Stats::new();
        for errno in [libc::EAGAIN, libc::EINTR, libc::ENOBUFS, libc::ECANCELED] {
            assert!(!health(Duration::ZERO).failed(errno, &mut stats).unwrap());
        }
        assert_eq!(errors(&stats), []);
    }

    #[test]
    fn a_datagram_s_error_is_counted_however_often_it_comes() {
        let (mut stats, mut health) = (Stats::new(), health(Duration::ZERO));
        for _ in 0..1000 {
            assert!(health.failed(libc::EHOSTUNREACH, &mut stats).unwrap());
        }
        assert_eq!(errors(&stats), [(libc::EHOSTUNREACH, 1000)]);
    }

    #[test]
    fn a_socket_may_fail_for_a_while_and_is_given_up_after_that() {
        let mut stats = Stats::new();
        let mut patient = health(Duration::MAX);
        for _ in 0..1000 {
            assert!(patient.failed(libc::ENOMEM, &mut stats).unwrap());
        }
        let error = health(Duration::ZERO).failed(libc::EACCES, &mut stats);
        assert_eq!(
            error.unwrap_err().to_string(),
            "the socket at 127.0.0.1:9007 has not been received from for 0ns: Permission denied \
             (os error 13) (EACCES)"
        );
        assert_eq!(errors(&stats), [(libc::ENOMEM, 1000), (libc::EACCES, 1)]);
    }

    #[test]
    fn a_receive_that_works_starts_the_time_anew() {
        let (mut stats, mut health) = (Stats::new(), health(Duration::MAX));
        health.failed(libc::ENOMEM, &mut stats).unwrap();
        assert!(health.failing_since.is_some());
        health.worked();
        assert!(health.failing_since.is_none());
    }

    #[test]
    fn a_lost_descriptor_is_fatal_at_once_and_counted() {
        let (mut stats, mut health) = (Stats::new(), health(Duration::MAX));
        assert!(health.failed(libc::EBADF, &mut stats).is_err());
        assert_eq!(errors(&stats), [(libc::EBADF, 1)]);
    }

    #[test]
    fn nothing_but_silence_lets_a_socket_pass_for_armed() {
        let health = health(Duration::MAX);
        assert!(health.failed_to_arm(libc::EAGAIN).is_ok());
        for errno in [libc::ENOMEM, libc::EACCES, libc::EBADF] {
            assert!(health.failed_to_arm(errno).is_err());
        }
    }
}
