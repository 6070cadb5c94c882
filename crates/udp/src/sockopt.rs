//! Socket options that the `socket2` crate does not have.

use std::io;
use std::os::fd::{AsFd, AsRawFd};

use socket2::{SockFilter, SockRef};

/// Index of the memory of unread datagrams in `SO_MEMINFO`'s array, `SK_MEMINFO_RMEM_ALLOC`.
const SK_MEMINFO_RMEM_ALLOC: usize = 0;
/// Index of the drop counter in `SO_MEMINFO`'s array, `SK_MEMINFO_DROPS` of linux/sock_diag.h.
const SK_MEMINFO_DROPS: usize = 8;
/// Length of that array, `SK_MEMINFO_VARS`.
const SK_MEMINFO_VARS: usize = 9;

/// Sets an option whose value is an `int`.
///
/// # Errors
/// `ENOPROTOOPT` on a kernel without it, `EINVAL` for the value, `EPERM` (setsockopt(2)).
pub fn set_int(socket: &impl AsFd, level: i32, option: i32, value: i32) -> io::Result<()> {
    // SAFETY: setsockopt(2) reads `size_of::<c_int>()` bytes from `value`, which lives through the
    // call and has exactly that length; the descriptor is open, since it is borrowed.
    let status = unsafe {
        libc::setsockopt(
            socket.as_fd().as_raw_fd(),
            level,
            option,
            (&raw const value).cast(),
            size_of::<libc::c_int>() as libc::socklen_t,
        )
    };
    if status == 0 {
        Ok(())
    } else {
        Err(io::Error::last_os_error())
    }
}

/// Switches an option on.
///
/// # Errors
/// `ENOPROTOOPT` on a kernel without it, `EPERM` (setsockopt(2)).
pub fn enable(socket: &impl AsFd, level: i32, option: i32) -> io::Result<()> {
    set_int(socket, level, option, 1)
}

/// Datagrams and trains, each of which counts once, that the kernel dropped at this socket since it
/// was made, from `SO_MEMINFO` (socket(7); a 32-bit counter that wraps).
///
/// # Errors
/// `ENOPROTOOPT` before Linux 4.12.
pub fn drops(socket: &impl AsFd) -> io::Result<u32> {
    meminfo(socket).map(|vars| vars[SK_MEMINFO_DROPS])
}

/// Bytes that unread datagrams take in this socket, as the kernel counts them, from `SO_MEMINFO`.
///
/// # Errors
/// `ENOPROTOOPT` before Linux 4.12.
pub fn queued_bytes(socket: &impl AsFd) -> io::Result<u32> {
    meminfo(socket).map(|vars| vars[SK_MEMINFO_RMEM_ALLOC])
}

fn meminfo(socket: &impl AsFd) -> io::Result<[u32; SK_MEMINFO_VARS]> {
    let mut vars = [0u32; SK_MEMINFO_VARS];
    let mut len = size_of_val(&vars) as libc::socklen_t;
    // SAFETY: getsockopt(2) writes at most `len` bytes to `vars`, whose size `len` is, and the new
    // length to `len`; both live through the call.
    let status = unsafe {
        libc::getsockopt(
            socket.as_fd().as_raw_fd(),
            libc::SOL_SOCKET,
            libc::SO_MEMINFO,
            vars.as_mut_ptr().cast(),
            &raw mut len,
        )
    };
    if status == 0 {
        Ok(vars)
    } else {
        Err(io::Error::last_os_error())
    }
}

/// The user at the other end of a connected Unix socket, when it connected or began to listen
/// (`SO_PEERCRED`, unix(7)).
///
/// # Errors
/// `EINVAL` where the socket is no such one.
pub fn peer_uid(socket: &impl AsFd) -> io::Result<u32> {
    // Of the process it is 0 where that is in another PID namespace, so no type will do that
    // excludes it.
    let mut peer = libc::ucred {
        pid: 0,
        uid: libc::uid_t::MAX,
        gid: libc::gid_t::MAX,
    };
    let mut len = size_of_val(&peer) as libc::socklen_t;
    // SAFETY: getsockopt(2) writes at most `len` bytes to `peer`, whose size `len` is and for which
    // all bytes are values, and the new length to `len`; both live through the call.
    let status = unsafe {
        libc::getsockopt(
            socket.as_fd().as_raw_fd(),
            libc::SOL_SOCKET,
            libc::SO_PEERCRED,
            (&raw mut peer).cast(),
            &raw mut len,
        )
    };
    match (status, peer.uid) {
        (0, libc::uid_t::MAX) => Err(io::Error::from_raw_os_error(libc::EINVAL)),
        (0, uid) => Ok(uid),
        _ => Err(io::Error::last_os_error()),
    }
}

/// Refuses every new datagram at this socket; what is queued stays. A classic BPF program of one
/// instruction, "accept 0 bytes" (socket(7), `SO_ATTACH_FILTER`).
///
/// # Errors
/// `ENOMEM` beyond net.core.optmem_max; `EPERM` where the filters of the socket are locked.
pub fn reject_new(socket: &impl AsFd) -> io::Result<()> {
    const RETURN_CONSTANT: u16 = (libc::BPF_RET | libc::BPF_K) as u16;
    SockRef::from(socket).attach_filter(&[SockFilter::new(RETURN_CONSTANT, 0, 0, 0)])
}

#[cfg(test)]
mod tests {
    use std::net::UdpSocket;
    use std::os::unix::net::UnixStream;

    use super::*;

    #[test]
    fn the_user_at_the_other_end_is_told_and_none_where_there_is_no_end() {
        let (one, _other) = UnixStream::pair().unwrap();
        let own = rustix::process::geteuid().as_raw();
        assert_eq!(peer_uid(&one).unwrap(), own);
        let udp = UdpSocket::bind("127.0.0.1:0").unwrap();
        assert!(peer_uid(&udp).is_err());
    }
}
