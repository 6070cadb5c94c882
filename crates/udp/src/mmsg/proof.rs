//! Whether this process may make the calls that datagrams are moved by.

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};
use std::ptr;

use super::header;

/// Makes each call that moves datagrams once, by `socket`, in a way that moves none: a seccomp
/// filter looks at the number of a call before the kernel looks at the rest.
///
/// # Errors
/// The name of the first call that is refused and what the kernel said: `EPERM` or `ENOSYS` of a
/// filter, as a rule.
pub fn prove(socket: BorrowedFd<'_>) -> Result<(), (&'static str, io::Error)> {
    let fd = socket.as_raw_fd();
    let flags = libc::MSG_DONTWAIT;
    // Emulators of another CPU (QEMU's) refuse an address that is none even of no messages.
    let mut header = header::empty();
    // SAFETY: no message is named, so nothing is read or written; a null timeout is allowed.
    let received = unsafe { libc::recvmmsg(fd, &mut header, 0, flags, ptr::null_mut()) };
    outcome("recvmmsg", received.into())?;
    // SAFETY: no message is named, so nothing is read.
    let sent = unsafe { libc::sendmmsg(fd, &mut header, 0, flags) };
    outcome("sendmmsg", sent.into())?;
    // SAFETY: the kernel copies a header in and refuses an address that is none (EFAULT).
    let sent = unsafe { libc::sendmsg(fd, ptr::null(), flags) };
    match outcome("sendmsg", sent as i64) {
        Err((_, error)) if error.raw_os_error() == Some(libc::EFAULT) => Ok(()),
        outcome => outcome,
    }
}

fn outcome(call: &'static str, returned: i64) -> Result<(), (&'static str, io::Error)> {
    if returned < 0 {
        Err((call, io::Error::last_os_error()))
    } else {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::net::UdpSocket;
    use std::os::fd::AsFd;

    use super::*;

    #[test]
    fn what_is_allowed_is_proven_and_nothing_is_moved() {
        let peer = UdpSocket::bind("127.0.0.1:0").unwrap();
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        peer.send_to(b"kept", socket.local_addr().unwrap()).unwrap();
        prove(socket.as_fd()).unwrap();
        assert_eq!(socket.recv(&mut [0; 8]).unwrap(), 4);
    }
}
