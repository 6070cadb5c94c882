//! One message received with everything that comes with it: recvmsg(2) into slices.
//!
//! For sockets that ask and for packet sockets; the batches of a reflector have their own way
//! ([`crate::mmsg`]).

use std::io;
use std::mem;
use std::os::fd::{AsFd, AsRawFd};

/// Where the parts of a message go.
pub(crate) struct Buffers<'a> {
    /// The sender's socket address; for the error queue the one that was sent to.
    pub(crate) name: &'a mut [u8],
    /// The message itself.
    pub(crate) payload: &'a mut [u8],
    /// Control messages, to be read with [`crate::cmsg`].
    pub(crate) control: &'a mut [u8],
}

/// How much of each buffer was filled.
pub(crate) struct Received {
    /// Bytes of the message: with `MSG_TRUNC` among the flags, also those that did not fit.
    pub(crate) len: usize,
    /// Bytes of the name, at most as many as there was room for.
    pub(crate) name_len: usize,
    /// Bytes of control messages.
    pub(crate) control_len: usize,
}

/// Receives one message into `buffers`; `flags` as in recvmsg(2).
///
/// # Errors
/// EAGAIN where there is none and the call may not wait, EINTR, and the socket's pending error
/// such as ECONNREFUSED or ENETDOWN.
pub(crate) fn receive(
    socket: &impl AsFd,
    buffers: Buffers<'_>,
    flags: libc::c_int,
) -> io::Result<Received> {
    let Buffers {
        name,
        payload,
        control,
    } = buffers;
    let mut iovec = libc::iovec {
        iov_base: payload.as_mut_ptr().cast(),
        iov_len: payload.len(),
    };
    // SAFETY: a `msghdr` is integers and pointers, for which all-zero is a value. Each pointer that
    // is then put into it leads to a slice or to the local `iovec`, all of them borrowed mutably
    // until the end of this function, and stands next to its true length (one iovec), which is all
    // that recvmsg(2) writes to. A `u8` may hold any byte that it writes. The descriptor is open,
    // since it is borrowed.
    let (len, header) = unsafe {
        let mut header: libc::msghdr = mem::zeroed();
        header.msg_name = name.as_mut_ptr().cast();
        header.msg_namelen = name.len() as libc::socklen_t;
        header.msg_iov = &raw mut iovec;
        header.msg_iovlen = 1;
        header.msg_control = control.as_mut_ptr().cast();
        header.msg_controllen = control.len() as _;
        let len = libc::recvmsg(socket.as_fd().as_raw_fd(), &raw mut header, flags);
        (len, header)
    };
    // A `size_t` here, a `socklen_t` in musl.
    let control_len: usize = header.msg_controllen as _;
    Ok(Received {
        len: usize::try_from(len).map_err(|_| io::Error::last_os_error())?,
        // The kernel gives the length that the name has, not what it wrote.
        name_len: (header.msg_namelen as usize).min(name.len()),
        control_len: control_len.min(control.len()),
    })
}
