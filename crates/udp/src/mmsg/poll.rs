//! Waiting for several sockets at once, without allocating.

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};

use super::calls::Calls;

/// Which descriptors of a [`Poll`] set are readable.
pub struct Poll<C> {
    calls: C,
    fds: Vec<libc::pollfd>,
}

impl<C: Calls> Poll<C> {
    /// A set of descriptors, waited for by `calls`. They must stay open as long as it is used; one
    /// that is closed shows as readable.
    pub fn new<'a>(calls: C, fds: impl Iterator<Item = BorrowedFd<'a>>) -> Self {
        let entry = |fd: BorrowedFd<'_>| libc::pollfd {
            fd: fd.as_raw_fd(),
            events: libc::POLLIN,
            revents: 0,
        };
        Self {
            calls,
            fds: fds.map(entry).collect(),
        }
    }

    /// Waits until one of them is readable, or a signal arrives.
    ///
    /// # Errors
    /// What poll(2) says, except `EINTR`.
    pub fn wait(&mut self) -> io::Result<()> {
        match self.calls.poll(&mut self.fds) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => Ok(()),
            result => result,
        }
    }

    /// Whether the entry at `index` was readable (or in error) at the last [`Poll::wait`].
    pub fn is_ready(&self, index: usize) -> bool {
        self.fds[index].revents != 0
    }
}
