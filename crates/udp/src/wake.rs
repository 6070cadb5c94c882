//! Waking a worker that sleeps in the kernel.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::Duration;

use rustix::event::{EventfdFlags, PollFd, PollFlags, Timespec, eventfd, poll};
use rustix::io::Errno;

/// An eventfd(2): readable from [`Wake::wake`] until [`Wake::clear`].
#[derive(Debug)]
pub struct Wake(OwnedFd);

impl Wake {
    /// A new one, not readable.
    ///
    /// # Errors
    /// `EMFILE`, `ENFILE`, `ENOMEM` (eventfd(2)).
    pub fn open() -> io::Result<Self> {
        let flags = EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK;
        Ok(Self(eventfd(0, flags)?))
    }

    /// Wakes whoever waits for it. From any thread.
    pub fn wake(&self) {
        // Its only failure is a full counter (EAGAIN), which is readable, which is all that is
        // wanted.
        let _ = rustix::io::write(&self.0, &1u64.to_ne_bytes());
    }

    /// Waits until it is readable, for `timeout` at most; `None` waits for good. Says whether it
    /// is, or a signal has come. It stays readable.
    pub fn wait(&self, timeout: Option<Duration>) -> bool {
        let mut fds = [PollFd::new(&self.0, PollFlags::IN)];
        // A time beyond the clock's range never comes.
        let timeout = timeout.and_then(|timeout| Timespec::try_from(timeout).ok());
        match poll(&mut fds, timeout.as_ref()) {
            Ok(count) => count > 0,
            Err(Errno::INTR) => true,
            Err(errno) => unreachable!("poll of one descriptor that is ours: {errno}"),
        }
    }

    /// Makes it unreadable again.
    pub fn clear(&self) {
        // EAGAIN means that it was clear already.
        let _ = rustix::io::read(&self.0, &mut [0; 8]);
    }
}

impl AsFd for Wake {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}
