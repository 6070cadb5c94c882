//! The system calls that move datagrams.

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};
use std::ptr;

use crate::usage::Usage;

/// Who carries out the calls: the kernel, or what a test has in its place.
///
/// A type parameter with one value of no size, so that a program pays nothing for it.
pub trait Calls: Clone {
    /// Receives into `headers` as recvmmsg(2) does, without a timeout; returns how many were
    /// filled.
    ///
    /// # Safety
    /// Each header points at a name, a control buffer and iovecs of the stated sizes, and these at
    /// memory that nobody else reads or writes until the call returns.
    ///
    /// # Errors
    /// `EAGAIN` where there is nothing; `ENOMEM`, `EBADF` (recvmmsg(2)).
    unsafe fn recvmmsg(
        &self,
        socket: BorrowedFd<'_>,
        headers: &mut [libc::mmsghdr],
        flags: libc::c_int,
    ) -> io::Result<usize>;

    /// Sends `headers` in order as sendmmsg(2) does, without waiting; returns how many went before
    /// the first that failed.
    ///
    /// # Safety
    /// Each header points at a name, a control buffer and iovecs of the stated sizes, and these at
    /// memory that nobody writes until the call returns.
    ///
    /// # Errors
    /// What sendmmsg(2) says about the first message, when not even that one went.
    unsafe fn sendmmsg(
        &self,
        socket: BorrowedFd<'_>,
        headers: &mut [libc::mmsghdr],
    ) -> io::Result<usize>;

    /// Sends one message as sendmsg(2) does, without waiting.
    ///
    /// # Safety
    /// As for [`sendmmsg`](Self::sendmmsg).
    ///
    /// # Errors
    /// Those of [`Outbox::send_segment`](super::Outbox::send_segment).
    unsafe fn sendmsg(&self, socket: BorrowedFd<'_>, header: &libc::msghdr) -> io::Result<()>;

    /// Waits until one of `fds` is as asked for, as poll(2) does without a timeout.
    ///
    /// # Errors
    /// `EINTR` for a signal, `ENOMEM` (poll(2)).
    fn poll(&self, fds: &mut [libc::pollfd]) -> io::Result<()>;

    /// What the calling thread has used.
    ///
    /// # Errors
    /// Those of [`Usage::of_thread`].
    fn usage(&self) -> io::Result<Usage>;
}

/// The kernel itself.
#[derive(Clone, Copy, Debug, Default)]
pub struct Kernel;

impl Calls for Kernel {
    #[inline]
    unsafe fn recvmmsg(
        &self,
        socket: BorrowedFd<'_>,
        headers: &mut [libc::mmsghdr],
        flags: libc::c_int,
    ) -> io::Result<usize> {
        // SAFETY: `headers` are as many as the length says; what they point to is what the caller
        // promises. A null timeout is allowed.
        let count = unsafe {
            libc::recvmmsg(
                socket.as_raw_fd(),
                headers.as_mut_ptr(),
                headers.len() as libc::c_uint,
                flags,
                ptr::null_mut(),
            )
        };
        usize::try_from(count).map_err(|_| io::Error::last_os_error())
    }

    #[inline]
    unsafe fn sendmmsg(
        &self,
        socket: BorrowedFd<'_>,
        headers: &mut [libc::mmsghdr],
    ) -> io::Result<usize> {
        // SAFETY: `headers` are as many as the length says; what they point to is what the caller
        // promises. sendmmsg(2) writes to `msg_len` only.
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

    #[inline]
    unsafe fn sendmsg(&self, socket: BorrowedFd<'_>, header: &libc::msghdr) -> io::Result<()> {
        // SAFETY: what the header points to is what the caller promises.
        let sent = unsafe { libc::sendmsg(socket.as_raw_fd(), header, libc::MSG_DONTWAIT) };
        if sent < 0 {
            Err(io::Error::last_os_error())
        } else {
            Ok(())
        }
    }

    fn poll(&self, fds: &mut [libc::pollfd]) -> io::Result<()> {
        // SAFETY: poll(2) reads and writes as many entries as the length says, and there are so
        // many.
        let count = unsafe { libc::poll(fds.as_mut_ptr(), fds.len() as libc::nfds_t, -1) };
        if count < 0 {
            Err(io::Error::last_os_error())
        } else {
            Ok(())
        }
    }
    fn usage(&self) -> io::Result<Usage> {
        Usage::of_thread()
    }
}
