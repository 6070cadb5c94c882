//! What recvmmsg(2) fills.

use std::io;
use std::os::fd::BorrowedFd;
use std::ptr;

use super::calls::{Calls, Kernel};
use super::header;
use crate::addr::SOCKADDR_IN6_LEN;
use crate::cmsg::RECEIVE_CONTROL_LEN;
use crate::memory::Lease;

const EMPTY_IOVEC: libc::iovec = libc::iovec {
    iov_base: ptr::null_mut(),
    iov_len: 0,
};

/// A control buffer aligned for the kernel's `cmsghdr`s.
#[derive(Clone)]
#[repr(C, align(8))]
struct ReceiveControl([u8; RECEIVE_CONTROL_LEN]);

/// What recvmmsg(2) said about one datagram.
#[derive(Debug)]
pub struct Incoming<'a> {
    /// The peer's `sockaddr`.
    pub name: &'a [u8],
    /// The control messages.
    pub control: &'a [u8],
    /// `MSG_TRUNC`, `MSG_CTRUNC` and others.
    pub flags: i32,
}

/// Free buffers, and the headers through which recvmmsg(2) fills them.
///
/// The free buffers are a stack, so that the one used last, still in the cache, is the next to be
/// filled. Header `capacity - 1 - depth` belongs to the buffer at `depth`; it is prepared when the
/// buffer comes back, and so only buffers that were used cost anything.
pub struct Inbox<C = Kernel> {
    calls: C,
    free: Vec<Lease>,
    headers: Vec<libc::mmsghdr>,
    iovecs: Vec<libc::iovec>,
    names: Vec<[u8; SOCKADDR_IN6_LEN]>,
    controls: Vec<ReceiveControl>,
}

impl Inbox {
    /// An inbox that receives into `leases`, and has room for `capacity` buffers.
    pub fn new(leases: Vec<Lease>, capacity: usize) -> Self {
        Self::with(Kernel, leases, capacity)
    }
}

impl<C: Calls> Inbox<C> {
    /// The same with `calls` in the kernel's place.
    pub fn with(calls: C, leases: Vec<Lease>, capacity: usize) -> Self {
        let mut inbox = Self {
            calls,
            free: Vec::with_capacity(capacity),
            headers: (0..capacity).map(|_| header::empty()).collect(),
            iovecs: vec![EMPTY_IOVEC; capacity],
            names: vec![[0; SOCKADDR_IN6_LEN]; capacity],
            controls: vec![ReceiveControl([0; RECEIVE_CONTROL_LEN]); capacity],
        };
        leases.into_iter().for_each(|lease| inbox.recycle(lease));
        inbox
    }

    /// Gives a buffer back.
    ///
    /// # Panics
    /// If it is one more than the inbox has room for.
    #[inline]
    pub fn recycle(&mut self, lease: Lease) {
        let index = self.headers.len() - 1 - self.free.len();
        self.prepare(index, &lease);
        self.free.push(lease);
    }

    /// Points the header at `index` at the room for what it is to receive, `lease` above all.
    #[inline]
    fn prepare(&mut self, index: usize, lease: &Lease) {
        self.iovecs[index] = libc::iovec {
            iov_base: lease.as_buffer_ptr().cast(),
            iov_len: lease.capacity() as usize,
        };
        let header = &mut self.headers[index].msg_hdr;
        header.msg_name = self.names[index].as_mut_ptr().cast();
        header.msg_namelen = SOCKADDR_IN6_LEN as libc::socklen_t;
        header.msg_iov = &raw mut self.iovecs[index];
        header.msg_iovlen = 1;
        header.msg_control = self.controls[index].0.as_mut_ptr().cast();
        header.msg_controllen = RECEIVE_CONTROL_LEN;
        header.msg_flags = 0;
    }

    /// Buffers that can be received into.
    #[inline]
    pub fn free_count(&self) -> usize {
        self.free.len()
    }

    /// Receives what the socket has, without waiting, as far as there are free buffers. That many
    /// calls of [`Inbox::take`] follow.
    ///
    /// # Errors
    /// What recvmmsg(2) says; `WouldBlock` where there is nothing.
    #[inline]
    pub fn receive(&mut self, socket: BorrowedFd<'_>) -> io::Result<usize> {
        self.call(socket, usize::MAX, libc::MSG_DONTWAIT)
    }

    /// Asks whether `socket` can be received from, by the same call; nothing is taken out, and
    /// nothing is waited for. There must be a free buffer.
    ///
    /// # Errors
    /// What recvmmsg(2) says; `WouldBlock` where it can, and there is nothing.
    pub fn peek(&mut self, socket: BorrowedFd<'_>) -> io::Result<()> {
        let peeked = self.call(socket, 1, libc::MSG_DONTWAIT | libc::MSG_PEEK);
        // The header was written to, and is the first that the next call uses.
        if let Some(lease) = self.free.pop() {
            self.recycle(lease);
        }
        peeked.map(drop)
    }

    /// Receives `count_max` datagrams at most into the free buffers.
    #[inline]
    fn call(
        &mut self,
        socket: BorrowedFd<'_>,
        count_max: usize,
        flags: libc::c_int,
    ) -> io::Result<usize> {
        let first = self.headers.len() - self.free.len();
        let headers = &mut self.headers[first..];
        let count = headers.len().min(count_max);
        // SAFETY: `recycle` pointed each header at a name, an iovec and a control buffer of the
        // stated sizes in vectors that are never resized, and the iovec at the whole of a buffer
        // whose lease is in `free`, hence ours alone and alive through the call.
        unsafe { (self.calls).recvmmsg(socket, &mut headers[..count], flags) }
    }

    /// The next received datagram, in the order of arrival, with its window set to the payload.
    ///
    /// # Panics
    /// If no buffer is left: more calls than datagrams.
    #[inline]
    pub fn take(&mut self) -> (Lease, Incoming<'_>) {
        let index = self.headers.len() - self.free.len();
        let mut lease = self
            .free
            .pop()
            .expect("one take for each received datagram");
        let message = &self.headers[index];
        lease.set_window(0..message.msg_len.min(lease.capacity()));
        let header = &message.msg_hdr;
        let name_len = (header.msg_namelen as usize).min(SOCKADDR_IN6_LEN);
        let control_len = header.msg_controllen.min(RECEIVE_CONTROL_LEN);
        let incoming = Incoming {
            name: &self.names[index][..name_len],
            control: &self.controls[index].0[..control_len],
            flags: header.msg_flags,
        };
        (lease, incoming)
    }
}

#[cfg(test)]
mod tests {
    use std::net::UdpSocket;
    use std::os::fd::AsFd;

    use super::*;

    #[test]
    fn datagrams_come_in_order_and_the_last_used_buffer_is_used_next() {
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        let peer = UdpSocket::bind("127.0.0.1:0").unwrap();
        peer.connect(socket.local_addr().unwrap()).unwrap();
        let mut inbox = Inbox::new(Lease::carve(4, 64, 64).unwrap(), 4);
        for round in 0..3u8 {
            peer.send(&[round, 0]).unwrap();
            peer.send(&[round, 1]).unwrap();
            assert_eq!(inbox.receive(socket.as_fd()).unwrap(), 2);
            let (first, _) = inbox.take();
            let (second, incoming) = inbox.take();
            assert_eq!(
                (&first[..], &second[..]),
                (&[round, 0][..], &[round, 1][..])
            );
            assert_eq!(incoming.name.len(), 16);
            assert_eq!(
                [first.id(), second.id()],
                if round % 2 == 0 { [3, 2] } else { [2, 3] }
            );
            inbox.recycle(first);
            inbox.recycle(second);
        }
        assert!(
            inbox
                .receive(socket.as_fd())
                .is_err_and(|e| e.kind() == io::ErrorKind::WouldBlock)
        );
    }
}
