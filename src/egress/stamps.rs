//! When replies were handed to the device, of a sample: the kernel stamps them as they leave.

use std::os::fd::BorrowedFd;

use crate::stats::Stats;
use reflector_measure::clock;
use reflector_udp::errqueue;

/// Of how many messages one is stamped, since to read a stamp takes system calls.
const EVERY: usize = 64;
/// How long a stamp is waited for, in nanoseconds; then no more are asked for, since not every
/// device stamps.
const WAIT_NS_MAX: u64 = 1_000_000_000;

/// The sample, of which one stamp at a time is waited for, so that a stamp is its own.
#[derive(Debug)]
pub struct Stamps {
    is_on: bool,
    /// Messages until the next one that is to be stamped.
    left: usize,
    /// When the first datagram of this round was received that is replied to.
    first_ns: Option<u64>,
    open: Option<Open>,
    /// Whether that message is one of this round.
    is_new: bool,
}

/// A message whose stamp is waited for.
#[derive(Clone, Copy, Debug)]
struct Open {
    /// The index of its socket.
    socket: usize,
    /// When its first datagram was received.
    received_ns: u64,
    /// When it was made, which is before it left.
    made_ns: u64,
}

impl Stamps {
    /// A sample, or none unless `is_on`.
    pub fn new(is_on: bool) -> Self {
        Self {
            is_on,
            left: 0,
            first_ns: None,
            open: None,
            is_new: false,
        }
    }

    /// A reply of this round is to a datagram that was received at `received_ns`
    /// (`CLOCK_REALTIME`).
    #[inline]
    pub fn see(&mut self, received_ns: u64) {
        if self.first_ns.is_none() {
            self.first_ns = Some(received_ns);
        }
    }

    /// Whether the first of this round's `count` messages, which leaves by `socket`, is to be
    /// stamped.
    #[inline]
    pub fn begin(&mut self, count: usize, socket: impl FnOnce() -> usize) -> bool {
        self.is_on && self.is_due(count, socket)
    }

    fn is_due(&mut self, count: usize, socket: impl FnOnce() -> usize) -> bool {
        self.is_new = false;
        let first_ns = self.first_ns.take();
        self.left = self.left.saturating_sub(count);
        if let Some(open) = self.open {
            let now_ns = clock::realtime_ns();
            self.is_on = now_ns.saturating_sub(open.made_ns) < WAIT_NS_MAX;
            return false;
        }
        let (0, Some(received_ns)) = (self.left, first_ns) else {
            return false;
        };
        self.left = EVERY;
        self.open = Some(Open {
            socket: socket(),
            received_ns,
            made_ns: clock::realtime_ns(),
        });
        self.is_new = true;
        true
    }

    /// `message` of this round leaves no stamp, which is waited for no longer.
    pub fn forget(&mut self, message: usize) {
        if message == 0 && self.is_new {
            self.open = None;
        }
    }

    /// The socket at which a stamp is waited for.
    #[inline]
    pub fn open(&self) -> Option<usize> {
        self.open.map(|open| open.socket)
    }

    /// Takes the stamp from the error queue of its `socket`, if it has come, and records how long
    /// the datagram was here.
    pub fn take(&mut self, socket: BorrowedFd<'_>, stats: &mut Stats) {
        while let (Some(open), Ok(Some(entry))) = (self.open, errqueue::next(&socket)) {
            // Older ones are those of a train that was refused, and sent one by one.
            let stamp_ns = entry.stamp_ns.filter(|&stamp_ns| stamp_ns >= open.made_ns);
            if let Some(stamp_ns) = stamp_ns {
                self.open = None;
                match stamp_ns.checked_sub(open.received_ns) {
                    Some(residence_ns) => stats.latency.record(residence_ns, 1),
                    None => stats.latency.clock_stepped += 1,
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stamp_that_cannot_come_does_not_end_the_sample() {
        let mut stamps = Stamps::new(true);
        let mut round = |is_lost: bool| {
            stamps.see(1);
            let is_stamped = stamps.begin(EVERY, || 0);
            // Only the first message of a round is stamped.
            stamps.forget(1);
            if is_lost {
                stamps.forget(0);
            }
            is_stamped
        };
        assert!(round(true));
        assert!(round(false), "the lost one is not waited for");
        assert!(!round(true), "one at a time");
        assert!(
            stamps.open().is_some(),
            "that of an earlier round may still come"
        );
    }
}
