//! Descriptors that whoever started this program has left open for it.

use std::io;
use std::os::fd::{FromRawFd, OwnedFd, RawFd};
use std::sync::{Mutex, PoisonError};

/// Takes the descriptor `fd`, and closes it for programs that this one starts. Once for each.
///
/// # Errors
/// `EBADF` where it is not open, or is none that was there before this program.
pub fn take(fd: RawFd) -> io::Result<OwnedFd> {
    static TAKING: Mutex<()> = Mutex::new(());
    // Between the question and the answer nobody else takes it.
    let _taking = TAKING.lock().unwrap_or_else(PoisonError::into_inner);
    // SAFETY: fcntl(2) with F_GETFD reads and writes no memory of ours; any number will do.
    let flags = unsafe { libc::fcntl(fd, libc::F_GETFD) };
    if flags < 0 {
        return Err(io::Error::last_os_error());
    }
    // Input and output are the standard library's.
    if fd <= libc::STDERR_FILENO || flags & libc::FD_CLOEXEC != 0 {
        return Err(io::Error::from_raw_os_error(libc::EBADF));
    }
    // SAFETY: as above; what is set concerns execve(2) only.
    if unsafe { libc::fcntl(fd, libc::F_SETFD, flags | libc::FD_CLOEXEC) } < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: it is open, and nobody owns it: what this program opens has FD_CLOEXEC from the
    // start, in the standard library, in rustix and here, so one without was there at execve(2);
    // and whoever has taken it before has set FD_CLOEXEC.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

#[cfg(test)]
mod tests {
    use std::net::UdpSocket;
    use std::os::fd::AsRawFd;

    use super::*;

    #[test]
    fn only_what_was_left_is_taken_and_only_once() {
        let own = UdpSocket::bind("127.0.0.1:0").unwrap();
        for fd in [-1, 0, 1, 2, own.as_raw_fd()] {
            assert!(take(fd).is_err(), "{fd}");
        }
        // As what comes over execve(2).
        let left = own.try_clone().unwrap();
        rustix::io::fcntl_setfd(&left, rustix::io::FdFlags::empty()).unwrap();
        let fd = std::os::fd::IntoRawFd::into_raw_fd(left);
        let taken = UdpSocket::from(take(fd).unwrap());
        assert_eq!(taken.local_addr().unwrap(), own.local_addr().unwrap());
        assert!(take(fd).is_err());
    }
}
