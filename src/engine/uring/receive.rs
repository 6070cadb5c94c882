//! How one socket is received from.
//!
//! While it is *idle* it has an armed multishot receive, and the engine sleeps until that brings
//! something. Once much comes this would set off a poll for each datagram, on its sender's CPU and
//! on ours. So a socket that is *busy* has nothing armed; instead each `enter` receives from it
//! without blocking, behind the replies. The first of these that finds nothing makes it idle again.
//! It is what NAPI does with the interrupts of a network card.

use std::io;
use std::mem;

use super::ring::Ring;
use crate::egress;
use crate::engine::fault::Health;
use crate::stats::counters::Counters;

/// So many receives in a row that bring more than one datagram, or train, make a socket busy.
const BUSY: u32 = 2;

/// What is to be queued for a socket before the next `enter`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Plan {
    /// End the armed receive.
    pub disarm: bool,
    /// Arm one.
    pub arm: bool,
    /// Non-blocking receives.
    pub receives: usize,
}

/// The state of one socket's receives.
#[derive(Clone, Debug)]
pub struct Reception {
    is_armed: bool,
    /// Datagrams or trains that have come in this receive, until now, and in the one before.
    count: usize,
    last_count: usize,
    /// Receives in a row that may make it busy.
    row: u32,
    /// Whether one failed in this receive.
    has_failed: bool,
    health: Health,
}

impl Reception {
    /// Idle, with nothing armed.
    pub fn new(health: Health) -> Self {
        Self {
            is_armed: false,
            count: 0,
            last_count: 0,
            row: 0,
            has_failed: false,
            health,
        }
    }

    /// Whether a receive is armed.
    pub fn is_armed(&self) -> bool {
        self.is_armed
    }

    /// Whether much comes.
    pub fn is_busy(&self) -> bool {
        self.row >= BUSY
    }

    /// Datagrams or trains that the last receive brought.
    pub fn last_count(&self) -> usize {
        self.last_count
    }

    /// What to queue, where one non-blocking receive brings `received_max` at most: while busy, so
    /// many that as much as the last time can come, and more, as far as there are `buffers`.
    pub fn plan(&mut self, may_be_busy: bool, buffers: usize, received_max: usize) -> Plan {
        if may_be_busy && self.is_busy() {
            let for_buffers = buffers.div_ceil(received_max);
            return Plan {
                disarm: self.is_armed,
                arm: false,
                receives: for_buffers.min(1 + self.last_count / received_max),
            };
        }
        let arm = !self.is_armed;
        self.is_armed = true;
        Plan {
            arm,
            ..Plan::default()
        }
    }

    /// The armed receive has ended.
    pub fn ended(&mut self) {
        self.is_armed = false;
    }

    /// A receive has brought a datagram or a train.
    pub fn brought(&mut self) {
        self.count += 1;
    }

    /// A receive has failed with `errno`; it is over, and the next one shows.
    ///
    /// # Errors
    /// As [`Health::failed`] says.
    pub fn failed(&mut self, errno: i32, counters: &mut Counters) -> io::Result<()> {
        self.has_failed |= self.health.failed(errno, counters)?;
        Ok(())
    }

    /// A receive has failed with `errno` before `ready` was said. Says whether to arm once more.
    ///
    /// # Errors
    /// As [`Health::failed_to_arm`] says.
    pub fn failed_to_arm(&mut self, errno: i32, counters: &mut Counters) -> io::Result<bool> {
        self.health.failed_to_arm(errno, counters)
    }

    /// Whether one failed in this receive.
    pub fn has_failed(&self) -> bool {
        self.has_failed
    }

    /// Ends a receive.
    pub fn close(&mut self) {
        // A single datagram keeps a socket busy, but does not make it so.
        let least = if self.is_busy() { 1 } else { 2 };
        self.row = if self.count < least {
            0
        } else {
            self.row.saturating_add(1)
        };
        self.last_count = mem::take(&mut self.count);
        if !mem::take(&mut self.has_failed) {
            self.health.worked();
        }
    }
}

/// Submissions of one round: the sends; for each socket its disarming and a receive; further
/// receives, of which each answers for a full one in the last round, that is for as many buffers;
/// the wake. When all is cancelled, nothing else is queued.
pub fn entries_max<R: Ring>(buffers: usize, sockets: usize) -> usize {
    egress::messages_max(buffers) + 2 * sockets + buffers / R::RECEIVED_MAX + 1
}

#[cfg(test)]
mod tests {
    use super::*;

    fn idle() -> Reception {
        Reception::new(Health::new("127.0.0.1:9007".parse().unwrap()))
    }

    /// One receive that brings `count`; what was queued for it.
    fn receive(reception: &mut Reception, count: usize) -> Plan {
        let plan = reception.plan(true, 64, 32);
        if plan.disarm {
            reception.ended();
        }
        (0..count).for_each(|_| reception.brought());
        reception.close();
        plan
    }

    const ARM: Plan = Plan {
        disarm: false,
        arm: true,
        receives: 0,
    };
    const NOTHING: Plan = Plan {
        disarm: false,
        arm: false,
        receives: 0,
    };

    fn busy(disarm: bool, receives: usize) -> Plan {
        Plan {
            disarm,
            arm: false,
            receives,
        }
    }

    #[test]
    fn an_idle_socket_is_armed_once() {
        let mut reception = idle();
        assert_eq!(receive(&mut reception, 0), ARM);
        for _ in 0..5 {
            assert_eq!(receive(&mut reception, 1), NOTHING);
        }
        reception.ended();
        assert_eq!(receive(&mut reception, 1), ARM);
    }

    #[test]
    fn two_receives_of_more_than_one_make_it_busy_and_one_of_none_idle_again() {
        let mut reception = idle();
        assert_eq!(receive(&mut reception, 2), ARM);
        assert_eq!(receive(&mut reception, 2), NOTHING);
        assert_eq!(receive(&mut reception, 40), busy(true, 1));
        assert_eq!(receive(&mut reception, 1), busy(false, 2));
        assert_eq!(receive(&mut reception, 0), busy(false, 1));
        assert_eq!(receive(&mut reception, 2), ARM);
        assert_eq!(receive(&mut reception, 1), NOTHING, "the row was broken");
        assert_eq!(receive(&mut reception, 2), NOTHING);
        assert_eq!(receive(&mut reception, 2), NOTHING);
    }

    #[test]
    fn there_are_no_more_receives_than_buffers_for_them() {
        let mut reception = idle();
        (0..2).for_each(|_| _ = receive(&mut reception, 64));
        assert_eq!(reception.plan(true, 64, 32), busy(true, 2));
        assert_eq!(reception.plan(true, 3, 32), busy(true, 1));
        assert_eq!(reception.plan(true, 0, 32), busy(true, 0));
    }

    #[test]
    fn where_an_empty_receive_costs_a_buffer_it_stays_armed() {
        let mut reception = idle();
        (0..2).for_each(|_| _ = receive(&mut reception, 64));
        assert!(reception.is_busy());
        assert_eq!(reception.plan(false, 64, 32), NOTHING);
    }
}
