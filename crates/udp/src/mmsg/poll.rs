//! Waiting for several sockets at once, without allocating.

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};

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
