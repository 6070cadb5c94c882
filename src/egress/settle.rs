//! What becomes of the messages of a round, once the kernel has said so.

use std::os::fd::BorrowedFd;

use super::{Egress, errno};
use crate::stats::Stats;

impl Egress {
    /// Counts a message that the kernel took.
    pub fn sent(&self, message: usize, stats: &mut Stats) {
        let train = self.trains.get(message);
        stats
            .counters
            .reply(u64::from(train.count), train.len as usize);
    }

    /// Settles a message that the kernel refused with `errno`: a single datagram is counted, a
    /// train is sent datagram by datagram where that can help.
    ///
    /// `EMSGSIZE` says that the segments exceed the path's MTU (a single datagram may be
    /// fragmented, a train may not). `EINVAL` and `EIO` say that trains do not work on this path,
    /// or that the source address is gone: the first datagram, sent singly, tells which.
    pub fn failed(
        &mut self,
        message: usize,
        errno: i32,
        socket: BorrowedFd<'_>,
        stats: &mut Stats,
    ) {
        let train = self.trains.get(message);
        let (flow, segment_len, count) = (train.flow, train.segment_len(), train.count);
        let is_train = count > 1;
        match errno {
            libc::EMSGSIZE if is_train => {
                stats.counters.trains_refused += 1;
                self.refused.remember(&flow, segment_len - 1);
                self.send_singly(message, 0, socket, stats);
            }
            libc::EINVAL | libc::EIO if is_train => {
                match self.send_segment(message, 0, socket, stats) {
                    Err(again) if again == errno => {
                        stats.counters.send_error(errno, u64::from(count) - 1);
                    }
                    first => {
                        stats.counters.trains_refused += 1;
                        if first.is_ok() {
                            self.refused.remember(&flow, 0);
                        }
                        self.send_singly(message, 1, socket, stats);
                    }
                }
            }
            _ => stats.counters.send_error(errno, u64::from(count)),
        }
    }

    fn send_singly(&self, message: usize, first: u32, socket: BorrowedFd<'_>, stats: &mut Stats) {
        for segment in first..self.trains.get(message).count {
            // Each failure is counted where it happens; the next datagram may fare better.
            let _ = self.send_segment(message, segment, socket, stats);
        }
    }

    fn send_segment(
        &self,
        message: usize,
        segment: u32,
        socket: BorrowedFd<'_>,
        stats: &mut Stats,
    ) -> Result<(), i32> {
        let train = self.trains.get(message);
        let start = segment as usize * train.segment_len() as usize;
        let end = (start + train.segment_len() as usize).min(train.len as usize);
        match self.outbox.send_segment(socket, message, start..end) {
            Ok(()) => {
                stats.counters.reply(1, end - start);
                Ok(())
            }
            Err(error) => {
                let errno = errno(&error);
                stats.counters.send_error(errno, 1);
                Err(errno)
            }
        }
    }

    /// Sends the datagrams of a message one by one, in fragments of the route's MTU, and counts
    /// them.
    pub fn send_fragmented(&self, message: usize, stats: &mut Stats) {
        if let Some(socket) = self.routes.fragmenter(self.socket(message)) {
            self.send_singly(message, 0, socket, stats);
        }
    }
}
