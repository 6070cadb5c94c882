//! Message headers for recvmmsg(2), sendmmsg(2) and sendmsg(2), and for the ring's SENDMSG.
//!
//! [`Inbox`] and [`Outbox`] own what their headers point to, buffers included, so that what is
//! handed to the kernel is alive and unaliased by construction. Both are allocated once.

use std::io;
use std::mem;
use std::ops::Range;
use std::os::fd::{AsRawFd, BorrowedFd};
use std::ptr;

use crate::addr::{PeerAddr, SOCKADDR_IN6_LEN};
use crate::cmsg::{Control, RECEIVE_CONTROL_LEN};
use crate::memory::Lease;

/// An all-zero header: null pointers, zero lengths.
fn empty_header() -> libc::mmsghdr {
    // SAFETY: `mmsghdr` is a C struct of integers and pointers, for which all-zero is a value.
    unsafe { mem::zeroed() }
}

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
/// buffer comes home, and so only buffers that were used cost anything.
pub struct Inbox {
    free: Vec<Lease>,
    headers: Vec<libc::mmsghdr>,
    iovecs: Vec<libc::iovec>,
    names: Vec<[u8; SOCKADDR_IN6_LEN]>,
    controls: Vec<ReceiveControl>,
}

impl Inbox {
    /// An inbox that receives into `leases`, and has room for `capacity` buffers.
    pub fn new(leases: Vec<Lease>, capacity: usize) -> Self {
        let mut inbox = Self {
            free: Vec::with_capacity(capacity),
            headers: (0..capacity).map(|_| empty_header()).collect(),
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
        // SAFETY: `headers` are at least as many as the length says. `recycle` pointed each at a name, an
        // iovec and a control buffer of the stated sizes in vectors that are never resized, and
        // the iovec at the whole of a buffer whose lease is in `free`, hence ours alone and alive
        // through the call. A null timeout is allowed.
        let count = unsafe {
            libc::recvmmsg(
                socket.as_raw_fd(),
                headers.as_mut_ptr(),
                headers.len().min(count_max) as libc::c_uint,
                flags,
                ptr::null_mut(),
            )
        };
        usize::try_from(count).map_err(|_| io::Error::last_os_error())
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

/// Where a piece of a message lies: a range of the payload of one adopted buffer.
#[derive(Clone, Copy, Debug)]
pub struct Piece {
    /// Index of an adopted buffer.
    pub lease: u32,
    /// First byte, counted from the start of the payload.
    pub start: u32,
    /// Bytes; 0 for an empty datagram.
    pub len: u32,
}

/// Messages to be sent, with the buffers they are gathered from.
///
/// Life of a batch: [`adopt`](Self::adopt) buffers, [`push`](Self::push) messages,
/// [`seal`](Self::seal), hand the headers to the kernel, and when every send is over
/// [`clear`](Self::clear) and [`release`](Self::release).
///
/// Invariant: while `sealed`, no vector is changed and no lease leaves, so every pointer in
/// `headers` is valid.
pub struct Outbox {
    leases: Vec<Lease>,
    headers: Vec<libc::mmsghdr>,
    names: Vec<PeerAddr>,
    controls: Vec<Control>,
    iovecs: Vec<libc::iovec>,
    sealed: bool,
}

impl Outbox {
    /// An outbox with room for so many buffers, messages and pieces of messages.
    pub fn new(leases_max: usize, messages_max: usize, pieces_max: usize) -> Self {
        Self {
            leases: Vec::with_capacity(leases_max),
            headers: Vec::with_capacity(messages_max),
            names: vec![PeerAddr::EMPTY; messages_max],
            controls: vec![Control::EMPTY; messages_max],
            iovecs: Vec::with_capacity(pieces_max),
            sealed: false,
        }
    }

    /// Takes a buffer in and says under which index.
    #[inline]
    pub fn adopt(&mut self, lease: Lease) -> u32 {
        self.leases.push(lease);
        self.leases.len() as u32 - 1
    }

    /// Takes all of `leases` in, under the indices that they have there; nothing if there are none.
    ///
    /// # Panics
    /// If there are some, and the outbox has some already.
    #[inline]
    pub fn adopt_all(&mut self, leases: &mut Vec<Lease>) {
        if !leases.is_empty() {
            assert!(self.leases.is_empty(), "the buffers of one batch at a time");
            mem::swap(&mut self.leases, leases);
        }
    }

    /// Number of messages.
    #[inline]
    pub fn len(&self) -> usize {
        self.headers.len()
    }

    /// Number of buffers that are still in it.
    #[inline]
    pub fn lease_count(&self) -> usize {
        self.leases.len()
    }

    /// Whether there is no message.
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.headers.is_empty()
    }

    /// Appends a message gathered from `pieces`; to whom and with which control messages is for the
    /// caller to write into what is returned, which are empty.
    ///
    /// # Panics
    /// If the outbox is sealed or full, or a piece lies outside its payload.
    #[inline]
    pub fn push(&mut self, pieces: impl Iterator<Item = Piece>) -> (&mut PeerAddr, &mut Control) {
        let message = self.headers.len();
        assert!(
            !self.sealed && message < self.headers.capacity(),
            "room for a message"
        );
        let before = self.iovecs.len();
        for piece in pieces {
            let payload = &self.leases[piece.lease as usize];
            let payload = &payload[piece.start as usize..][..piece.len as usize];
            assert!(
                self.iovecs.len() < self.iovecs.capacity(),
                "room for a piece"
            );
            self.iovecs.push(libc::iovec {
                iov_base: payload.as_ptr().cast_mut().cast(),
                iov_len: payload.len(),
            });
        }
        let mut header = empty_header();
        header.msg_hdr.msg_iovlen = self.iovecs.len() - before;
        self.headers.push(header);
        let (name, control) = (&mut self.names[message], &mut self.controls[message]);
        *name = PeerAddr::EMPTY;
        control.clear();
        (name, control)
    }

    /// Points the headers at what they are about. Nothing is pushed after this.
    #[inline]
    pub fn seal(&mut self) {
        let mut first = 0;
        let addresses = self.names.iter().zip(&self.controls);
        for (header, (name, control)) in self.headers.iter_mut().zip(addresses) {
            let header = &mut header.msg_hdr;
            let (name, control) = (name.as_bytes(), control.as_bytes());
            header.msg_name = name.as_ptr().cast_mut().cast();
            header.msg_namelen = name.len() as libc::socklen_t;
            header.msg_iov = self.iovecs[first..].as_ptr().cast_mut();
            first += header.msg_iovlen;
            if !control.is_empty() {
                header.msg_control = control.as_ptr().cast_mut().cast();
                header.msg_controllen = control.len();
            }
        }
        self.sealed = true;
    }

    /// The header of a sealed message, valid until [`Outbox::clear`].
    #[inline]
    pub fn header(&self, message: usize) -> *const libc::msghdr {
        assert!(self.sealed, "only a sealed header points anywhere");
        &raw const self.headers[message].msg_hdr
    }

    /// Sends `messages` in order with sendmmsg(2), without waiting; returns how many went before
    /// the first that failed.
    ///
    /// # Errors
    /// What sendmmsg(2) says about the first message, when not even that one went.
    #[inline]
    pub fn send(&mut self, socket: BorrowedFd<'_>, messages: Range<usize>) -> io::Result<usize> {
        assert!(self.sealed, "only a sealed header points anywhere");
        let headers = &mut self.headers[messages];
        // SAFETY: `headers` are as many as the length says, and by the type's invariant each
        // points at a live name, control buffer and iovecs of the stated sizes, the iovecs into
        // buffers whose leases are in `leases`. sendmmsg(2) writes to `msg_len` only.
        let count = unsafe {
            libc::sendmmsg(
                socket.as_raw_fd(),
                headers.as_mut_ptr(),
                headers.len() as libc::c_uint,
                libc::MSG_DONTWAIT,
            )
        };
        usize::try_from(count).map_err(|_| io::Error::last_os_error())
    }

    /// Sends bytes `segment` of a sealed message as a datagram of its own: same peer, same source,
    /// no train. The bytes must lie in one piece.
    ///
    /// # Errors
    /// What sendmsg(2) says.
    pub fn send_segment(
        &self,
        socket: BorrowedFd<'_>,
        message: usize,
        segment: Range<usize>,
    ) -> io::Result<()> {
        assert!(self.sealed, "only a sealed header points anywhere");
        let mut iovec = self.segment_iovec(message, segment);
        let mut header = self.headers[message].msg_hdr;
        header.msg_iov = &raw mut iovec;
        header.msg_iovlen = 1;
        header.msg_controllen = self.controls[message].single_len();
        if header.msg_controllen == 0 {
            header.msg_control = ptr::null_mut();
        }
        // SAFETY: `header` is a copy of a sealed one, so its name and control buffer are alive, and
        // the shorter control length ends at a message's end; the iovec covers bytes of a buffer
        // whose lease is in `leases`, by `segment_iovec`.
        let sent =
            unsafe { libc::sendmsg(socket.as_raw_fd(), &raw const header, libc::MSG_DONTWAIT) };
        if sent < 0 {
            Err(io::Error::last_os_error())
        } else {
            Ok(())
        }
    }

    /// The part of a message's iovecs that is `segment`, which lies inside one of them.
    fn segment_iovec(&self, message: usize, segment: Range<usize>) -> libc::iovec {
        let first: usize = self.headers[..message]
            .iter()
            .map(|it| it.msg_hdr.msg_iovlen)
            .sum();
        let count = self.headers[message].msg_hdr.msg_iovlen;
        let mut offset = 0;
        for iovec in &self.iovecs[first..first + count] {
            if segment.start >= offset && segment.end <= offset + iovec.iov_len {
                let base = iovec
                    .iov_base
                    .cast::<u8>()
                    .wrapping_add(segment.start - offset);
                return libc::iovec {
                    iov_base: base.cast(),
                    iov_len: segment.len(),
                };
            }
            offset += iovec.iov_len;
        }
        panic!("segment {segment:?} lies in no single piece of message {message}");
    }

    /// Forgets the messages, whose sends are all over, and keeps the buffers.
    #[inline]
    pub fn clear(&mut self) {
        self.sealed = false;
        self.headers.clear();
        self.iovecs.clear();
    }

    /// Gives back one adopted buffer, until there is none.
    ///
    /// # Panics
    /// If messages that may point to it have not been cleared.
    #[inline]
    pub fn release(&mut self) -> Option<Lease> {
        assert!(
            self.headers.is_empty(),
            "messages are cleared before their buffers leave"
        );
        self.leases.pop()
    }
}

/// Which descriptors of a [`Poll`] set are readable.
pub struct Poll {
    fds: Vec<libc::pollfd>,
}

impl Poll {
    /// A set of descriptors. They must stay open as long as it is used; one that is closed shows
    /// as readable.
    pub fn new<'a>(fds: impl Iterator<Item = BorrowedFd<'a>>) -> Self {
        let entry = |fd: BorrowedFd<'_>| libc::pollfd {
            fd: fd.as_raw_fd(),
            events: libc::POLLIN,
            revents: 0,
        };
        Self {
            fds: fds.map(entry).collect(),
        }
    }

    /// Waits until one of them is readable, or a signal arrives.
    ///
    /// # Errors
    /// What poll(2) says, except `EINTR`.
    pub fn wait(&mut self) -> io::Result<()> {
        // SAFETY: poll(2) reads and writes as many entries as the length says, and there are so
        // many.
        let count =
            unsafe { libc::poll(self.fds.as_mut_ptr(), self.fds.len() as libc::nfds_t, -1) };
        if count >= 0 {
            return Ok(());
        }
        let error = io::Error::last_os_error();
        if error.kind() == io::ErrorKind::Interrupted {
            Ok(())
        } else {
            Err(error)
        }
    }

    /// Whether the entry at `index` was readable (or in error) at the last [`Poll::wait`].
    pub fn is_ready(&self, index: usize) -> bool {
        self.fds[index].revents != 0
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

    #[test]
    fn a_message_is_gathered_and_each_segment_can_be_sent_alone() {
        let peer = UdpSocket::bind("127.0.0.1:0").unwrap();
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        let mut outbox = Outbox::new(2, 1, 2);
        for lease in Lease::carve(2, 8, 64).unwrap() {
            outbox.adopt(lease);
        }
        let pieces = [
            Piece {
                lease: 0,
                start: 0,
                len: 8,
            },
            Piece {
                lease: 1,
                start: 4,
                len: 4,
            },
        ];
        let (name, _) = outbox.push(pieces.into_iter());
        *name = PeerAddr::new(peer.local_addr().unwrap());
        outbox.seal();
        assert_eq!(outbox.send(socket.as_fd(), 0..1).unwrap(), 1);
        for segment in [0..4, 4..8, 8..12] {
            outbox.send_segment(socket.as_fd(), 0, segment).unwrap();
        }
        let mut bytes = [0; 64];
        let lens: Vec<_> = (0..4).map(|_| peer.recv(&mut bytes).unwrap()).collect();
        assert_eq!(lens, [12, 4, 4, 4]);
    }
}
