//! What becomes of the messages of a round, once the kernel has said so.

use std::io;
use std::ops::Range;
use std::os::fd::BorrowedFd;
use std::sync::Arc;

use super::address::address;
use super::detour::Detour;
use super::{Detours, Egress, errno, has_no_room};
use crate::datagram::DropReason;
use crate::stats::counters::Counters;
use reflector_udp::mmsg::Calls;

impl<C: Calls> Egress<C> {
    /// Counts a message that the kernel took, which left by the socket of `counters`.
    #[inline]
    pub fn sent(&self, message: usize, counters: &mut Counters) {
        let train = self.trains.get(message);
        counters.reply(u64::from(train.count), train.len as usize);
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
        counters: &mut Counters,
    ) {
        let train = self.trains.get(message);
        let (flow, segment_len, count) = (train.flow, train.segment_len(), train.count);
        let is_train = count > 1;
        match errno {
            libc::EMSGSIZE if is_train => {
                counters.trains_refused += 1;
                self.refused.remember(&flow, segment_len - 1);
                self.send_singly(message, 0, socket, counters);
            }
            libc::EINVAL | libc::EIO if is_train => {
                match self.send_segment(message, 0, socket, counters) {
                    Err(again) if again == errno => {
                        self.stamps.forget(message);
                        counters.send_error(errno, u64::from(count) - 1);
                    }
                    first => {
                        counters.trains_refused += 1;
                        if first.is_ok() {
                            self.refused.remember(&flow, 0);
                        }
                        self.send_singly(message, 1, socket, counters);
                    }
                }
            }
            libc::EAGAIN | libc::ENOBUFS => self.send_by_detour(message, errno, counters),
            _ => {
                self.stamps.forget(message);
                counters.send_error(errno, u64::from(count));
            }
        }
    }

    /// Sends a message for which its socket has no room in another way, if there is one.
    #[cold]
    fn send_by_detour(&mut self, message: usize, errno: i32, counters: &mut Counters) {
        counters.sends_without_room += 1;
        self.stamps.forget(message);
        let detours = Arc::clone(&self.detours);
        let count = u64::from(self.trains.get(message).count);
        match self.detour(message, &detours) {
            Detour::By(socket) => match self.outbox.send(socket, message..message + 1) {
                Ok(_) => self.sent(message, counters),
                Err(error) if has_no_room(&error) => {
                    counters.sends_without_room += 1;
                    counters.send_error(self::errno(&error), count);
                }
                Err(error) => self.failed(message, self::errno(&error), socket, counters),
            },
            Detour::Unresolved => counters.drop(DropReason::Unresolved, count),
            Detour::None => counters.send_error(errno, count),
        }
    }

    /// The other way for a message, which names its source: the socket there has another address.
    fn detour<'a>(&mut self, message: usize, detours: &'a Detours) -> Detour<'a> {
        let train = self.trains.get(message);
        (self.outbox).rewrite(message, |name, control| {
            address(true, train, name, control, false);
        });
        self.said.detour(&train.flow, detours)
    }

    /// Sends the datagrams of a message one by one, in fragments of the route's MTU, and counts
    /// them.
    pub fn send_fragmented(&self, message: usize, counters: &mut Counters) {
        let Some(socket) = self.routes.fragmenter(self.socket(message)) else {
            return;
        };
        for segment in 0..self.trains.get(message).count {
            let bytes = self.segment(message, segment);
            let sent = self.outbox.send_segment(socket, message, bytes.clone());
            // A failure is counted there; the next datagram may fare better.
            let _ = count(sent, bytes.len(), counters);
        }
    }

    fn send_singly(
        &mut self,
        message: usize,
        first: u32,
        socket: BorrowedFd<'_>,
        counters: &mut Counters,
    ) {
        for segment in first..self.trains.get(message).count {
            // Each failure is counted where it happens; the next datagram may fare better.
            let _ = self.send_segment(message, segment, socket, counters);
        }
    }

    fn send_segment(
        &mut self,
        message: usize,
        segment: u32,
        socket: BorrowedFd<'_>,
        counters: &mut Counters,
    ) -> Result<(), i32> {
        let bytes = self.segment(message, segment);
        let mut sent = self.outbox.send_segment(socket, message, bytes.clone());
        if let Err(error) = &sent
            && has_no_room(error)
        {
            let detours = Arc::clone(&self.detours);
            match self.detour(message, &detours) {
                Detour::By(socket) => {
                    counters.sends_without_room += 1;
                    sent = self.outbox.send_segment(socket, message, bytes.clone());
                }
                Detour::Unresolved => {
                    counters.sends_without_room += 1;
                    counters.drop(DropReason::Unresolved, 1);
                    return Err(errno(error));
                }
                Detour::None => {}
            }
        }
        count(sent, bytes.len(), counters)
    }

    /// The bytes of a message that are one of its datagrams.
    fn segment(&self, message: usize, segment: u32) -> Range<usize> {
        let train = self.trains.get(message);
        let start = segment as usize * train.segment_len() as usize;
        start..(start + train.segment_len() as usize).min(train.len as usize)
    }
}

/// Counts a datagram of `len` bytes that was sent by itself, or why it was not.
fn count(sent: io::Result<()>, len: usize, counters: &mut Counters) -> Result<(), i32> {
    match sent {
        Ok(()) => {
            counters.reply(1, len);
            Ok(())
        }
        Err(error) => {
            let errno = errno(&error);
            counters.sends_without_room += u64::from(has_no_room(&error));
            counters.send_error(errno, 1);
            Err(errno)
        }
    }
}
