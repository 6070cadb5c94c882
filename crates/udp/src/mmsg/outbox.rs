//! What sendmmsg(2), or the ring, sends.

use std::io;
use std::mem;
use std::ops::Range;
use std::os::fd::BorrowedFd;
use std::ptr;

use super::calls::{Calls, Kernel};
use super::header;
use crate::addr::PeerAddr;
use crate::cmsg::Control;
use crate::memory::Lease;

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
/// Invariant: while `sealed`, no vector grows or shrinks and no lease leaves, so every pointer in
/// `headers` is valid.
pub struct Outbox<C = Kernel> {
    calls: C,
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
        Self::with(Kernel, leases_max, messages_max, pieces_max)
    }
}

impl<C: Calls> Outbox<C> {
    /// The same with `calls` in the kernel's place.
    pub fn with(calls: C, leases_max: usize, messages_max: usize, pieces_max: usize) -> Self {
        Self {
            calls,
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
        let mut header = header::empty();
        header.msg_hdr.msg_iovlen = self.iovecs.len() - before;
        self.headers.push(header);
        let (name, control) = (&mut self.names[message], &mut self.controls[message]);
        *name = PeerAddr::EMPTY;
        control.clear();
        (name, control)
    }

    /// Has `write` fill name and control messages, empty again, of a message that no send is using:
    /// before it is sealed, or when the one that was to send it is over.
    pub fn rewrite(&mut self, message: usize, write: impl FnOnce(&mut PeerAddr, &mut Control)) {
        let (name, control) = (&mut self.names[message], &mut self.controls[message]);
        control.clear();
        write(name, control);
        if self.sealed {
            let header = &mut self.headers[message].msg_hdr;
            (header.msg_control, header.msg_controllen) = (ptr::null_mut(), 0);
            point(header, name, control);
        }
    }

    /// Points the headers at what they are about. Nothing is pushed after this.
    #[inline]
    pub fn seal(&mut self) {
        let mut first = 0;
        let addresses = self.names.iter().zip(&self.controls);
        for (header, (name, control)) in self.headers.iter_mut().zip(addresses) {
            let header = &mut header.msg_hdr;
            point(header, name, control);
            header.msg_iov = self.iovecs[first..].as_ptr().cast_mut();
            first += header.msg_iovlen;
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
        // SAFETY: by the type's invariant each header points at a live name, control buffer and
        // iovecs of the stated sizes, the iovecs into buffers whose leases are in `leases`.
        unsafe { self.calls.sendmmsg(socket, headers) }
    }

    /// Sends bytes `segment` of a sealed message as a datagram of its own: same peer, same source,
    /// no train. The bytes must lie in one piece.
    ///
    /// # Errors
    /// `EAGAIN` for a full send buffer, `EMSGSIZE` for more than a datagram holds, `ENETUNREACH`,
    /// `EINVAL` for a source that has gone, `EPERM` of a filter (sendmsg(2)).
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
        unsafe { self.calls.sendmsg(socket, &header) }
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

/// Points `header` at name and control messages.
#[inline]
fn point(header: &mut libc::msghdr, name: &PeerAddr, control: &Control) {
    let (name, control) = (name.as_bytes(), control.as_bytes());
    header.msg_name = name.as_ptr().cast_mut().cast();
    header.msg_namelen = name.len() as libc::socklen_t;
    if !control.is_empty() {
        header.msg_control = control.as_ptr().cast_mut().cast();
        header.msg_controllen = control.len();
    }
}

#[cfg(test)]
mod tests {
    use std::net::UdpSocket;
    use std::os::fd::AsFd;

    use super::*;

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
