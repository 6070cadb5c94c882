//! What becomes of a receive that failed: one classification for both engines.
//!
//! The errors of a datagram that was sent are no receive errors; an ICMP message does not fail a
//! receive here, since the sockets are not connected and have no IP_RECVERR (ip(7)).

use std::io;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use crate::clock;
use crate::stats::counters::Counters;
use reflector_measure::errno;

/// How long a socket may fail without a receive that works before its worker gives up: a socket
/// without a reader would swallow its share of the peers.
const FAILING_MAX: Duration = Duration::from_secs(1);
/// Failures that are further apart are not one row: a socket that fails for good fails at once when
/// it is received from again.
const ROW_GAP_MAX: Duration = Duration::from_millis(100);
/// Times that a socket may fail before it is armed: what is over is told once, and a socket may
/// have been told two.
const ARMINGS_MAX: u32 = 3;
/// How long an engine waits after a failure, so that a row of them does not take a whole core.
pub const PAUSE: Duration = Duration::from_millis(1);

/// What a failed receive concerns. Counted, whatever it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Scope {
    /// One datagram, or a condition of the network that is reported once and is thereby over.
    Datagram,
    /// This socket, perhaps for a while only. Fatal if it lasts.
    Socket,
    /// All that the worker does: it has no such socket, or no such memory. Fatal.
    Worker,
}

/// What `errno` concerns; nothing where there was nothing to receive, or no buffer, or the receive
/// was cancelled or interrupted: it is tried again.
fn scope(errno: i32) -> Option<Scope> {
    let scope = match errno {
        libc::EAGAIN | libc::EINTR | libc::ENOBUFS | libc::ECANCELED => return None,
        // ECONNABORTED is that of a socket that `ss --kill` has destroyed, told once.
        libc::ECONNABORTED
        | libc::ECONNREFUSED
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
    };
    Some(scope)
}

/// The scope of a receive's `errno`, which is counted; none where it means nothing.
fn counted(errno: i32, counters: &mut Counters) -> Option<Scope> {
    let scope = scope(errno)?;
    counters.receive_error(errno);
    Some(scope)
}

/// How receiving at one socket has been going.
#[derive(Clone, Debug)]
pub struct Health {
    addr: SocketAddr,
    /// When the first and the last of a row of failures were.
    row: Option<(Instant, Instant)>,
    /// Failures before the first receive that worked.
    armings: u32,
}

impl Health {
    /// Of the socket at `addr`, which has not failed.
    pub fn new(addr: SocketAddr) -> Self {
        Self {
            addr,
            row: None,
            armings: 0,
        }
    }

    /// A receive worked, or found nothing.
    pub fn worked(&mut self) {
        self.row = None;
    }

    /// A receive failed with `errno`, which is counted where it means anything. Says whether it
    /// does.
    ///
    /// # Errors
    /// The worker is of no use any more: the error is fatal, or the socket has failed for too long.
    pub fn failed(&mut self, errno: i32, counters: &mut Counters) -> io::Result<bool> {
        let Some(scope) = counted(errno, counters) else {
            return Ok(false);
        };
        match scope {
            Scope::Datagram => Ok(true),
            Scope::Worker => Err(self.error(errno, "cannot be received from")),
            Scope::Socket if self.has_failed_for_long(clock::monotonic()) => {
                let what = format!("has not been received from for {FAILING_MAX:?}");
                Err(self.error(errno, &what))
            }
            Scope::Socket => Ok(true),
        }
    }

    /// Whether a failure `now` is the end of a long row of them.
    fn has_failed_for_long(&mut self, now: Instant) -> bool {
        let first = match self.row {
            Some((first, last)) if now.duration_since(last) <= ROW_GAP_MAX => first,
            _ => now,
        };
        self.row = Some((first, now));
        now.duration_since(first) >= FAILING_MAX
    }

    /// A receive failed with `errno` before the first one worked; it is counted where it means
    /// anything. Says whether to try once more, since what failed is over.
    ///
    /// # Errors
    /// The socket is not proven to receive, so it must not be served.
    pub fn failed_to_arm(&mut self, errno: i32, counters: &mut Counters) -> io::Result<bool> {
        let Some(scope) = counted(errno, counters) else {
            return Ok(false);
        };
        self.armings += 1;
        if scope == Scope::Datagram && self.armings < ARMINGS_MAX {
            return Ok(true);
        }
        Err(self.error(errno, "cannot be received from"))
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

    fn health() -> Health {
        Health::new("127.0.0.1:9007".parse().unwrap())
    }

    fn errors(counters: &Counters) -> Vec<(i32, u64)> {
        counters.receive_errors().collect()
    }

    #[test]
    fn what_means_nothing_is_not_counted() {
        let mut counters = Counters::default();
        for errno in [libc::EAGAIN, libc::EINTR, libc::ENOBUFS, libc::ECANCELED] {
            assert!(!health().failed(errno, &mut counters).unwrap());
        }
        assert_eq!(errors(&counters), []);
    }

    #[test]
    fn a_datagram_s_error_is_counted_however_often_it_comes() {
        let (mut counters, mut health) = (Counters::default(), health());
        for _ in 0..1000 {
            assert!(health.failed(libc::EHOSTUNREACH, &mut counters).unwrap());
        }
        assert_eq!(errors(&counters), [(libc::EHOSTUNREACH, 1000)]);
    }

    #[test]
    fn a_row_of_failures_ends_the_socket_and_single_ones_do_not() {
        let ms = Duration::from_millis;
        let start = clock::monotonic();
        let mut health = health();
        let mut fails_at = |time| health.has_failed_for_long(start + time);
        // Each is the first of its row.
        for seconds in 0..10 {
            assert!(!fails_at(ms(1000 * seconds)));
        }
        for time in 10_000..11_000 {
            assert!(!fails_at(ms(time)), "{time}");
        }
        assert!(fails_at(ms(11_000)));
        health.worked();
        assert!(!health.has_failed_for_long(start + ms(11_001)));
    }

    #[test]
    fn what_is_given_up_says_what_the_kernel_said() {
        let error = health().error(libc::EACCES, "cannot be received from");
        assert_eq!(
            error.to_string(),
            "the socket at 127.0.0.1:9007 cannot be received from: Permission denied (os error 13) \
             (EACCES)"
        );
    }

    #[test]
    fn a_socket_s_failure_is_counted_and_gone_on_with() {
        let (mut counters, mut health) = (Counters::default(), health());
        assert!(health.failed(libc::ENOMEM, &mut counters).unwrap());
        assert_eq!(errors(&counters), [(libc::ENOMEM, 1)]);
    }

    #[test]
    fn a_lost_descriptor_is_fatal_at_once_and_counted() {
        let (mut counters, mut health) = (Counters::default(), health());
        assert!(health.failed(libc::EBADF, &mut counters).is_err());
        assert_eq!(errors(&counters), [(libc::EBADF, 1)]);
    }

    #[test]
    fn a_socket_is_armed_in_silence_or_after_an_error_that_is_over() {
        let mut counters = Counters::default();
        let mut armed = health();
        assert!(!armed.failed_to_arm(libc::EAGAIN, &mut counters).unwrap());
        for errno in [libc::ECONNABORTED, libc::ECONNREFUSED] {
            assert!(armed.failed_to_arm(errno, &mut counters).unwrap());
        }
        for errno in [libc::ENOMEM, libc::EACCES, libc::EBADF] {
            assert!(health().failed_to_arm(errno, &mut counters).is_err());
        }
        assert_eq!(counters.receive_errors().count(), 5);
    }

    #[test]
    fn a_socket_that_fails_each_time_is_not_armed() {
        let (mut counters, mut health) = (Counters::default(), health());
        let mut arm = || health.failed_to_arm(libc::ENETUNREACH, &mut counters);
        assert!(arm().unwrap() && arm().unwrap());
        assert!(arm().is_err());
        assert_eq!(errors(&counters), [(libc::ENETUNREACH, 3)]);
    }
}
