//! A socket's error queue: ICMP errors about datagrams that it sent (ip(7), `IP_RECVERR`).
//!
//! For sockets that ask, not for those that reflect: with the option set, any ICMP error makes the
//! socket's next call fail once, which a forged one could use.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::AsFd;

use crate::addr::{SOCKADDR_IN6_LEN, array, parse_sockaddr};
use crate::cmsg::Cursor;
use crate::message::{self, Buffers};
use crate::sockopt;

/// Bytes of a `sock_extended_err` (linux/errqueue.h).
const EXTENDED_ERR_LEN: usize = 16;
/// Room for one error with the offender's address, and for control messages that the socket asks
/// for besides.
const CONTROL_LEN: usize = 256;

/// Who found the error (`ee_origin`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Origin {
    /// This host, as with a datagram over the MTU.
    Local,
    /// An ICMP message.
    Icmp,
    /// An ICMPv6 message.
    Icmp6,
    /// Something else, such as a timestamp.
    Other(u8),
}

/// One entry of the error queue.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct QueuedError {
    /// The error number that the socket reports for it, such as `ECONNREFUSED`.
    pub errno: i32,
    /// Who found it.
    pub origin: Origin,
    /// Type of the ICMP message.
    pub icmp_type: u8,
    /// Code of the ICMP message.
    pub icmp_code: u8,
    /// For "fragmentation needed", the MTU in bytes.
    pub info: u32,
    /// Where the datagram was sent to.
    pub target: Option<SocketAddr>,
    /// Who sent the ICMP message.
    pub offender: Option<IpAddr>,
}

/// Makes a socket queue the errors of its datagrams.
///
/// # Errors
/// ENOPROTOOPT in a sandbox that has no error queues.
pub fn enable(socket: &impl AsFd, is_v6: bool) -> io::Result<()> {
    if is_v6 {
        sockopt::enable(socket, libc::SOL_IPV6, libc::IPV6_RECVERR)?;
    }
    // An IPv6 socket may have IPv4 peers, and their errors come on the other level.
    match sockopt::enable(socket, libc::SOL_IP, libc::IP_RECVERR) {
        Err(_) if is_v6 => Ok(()),
        result => result,
    }
}

/// The next queued error, without the bytes of the datagram that caused it. `None` where there is
/// none.
///
/// # Errors
/// EINTR, and EINVAL in a sandbox that has no error queues.
pub fn next(socket: &impl AsFd) -> io::Result<Option<QueuedError>> {
    let (mut name, mut control) = ([0; SOCKADDR_IN6_LEN], [0; CONTROL_LEN]);
    let buffers = Buffers {
        name: &mut name,
        payload: &mut [],
        control: &mut control,
    };
    let flags = libc::MSG_ERRQUEUE | libc::MSG_DONTWAIT;
    let received = match message::receive(socket, buffers, flags) {
        Ok(received) => received,
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(None),
        Err(error) => return Err(error),
    };
    let target = parse_sockaddr(&name[..received.name_len]);
    let error = Cursor::new(&control[..received.control_len]).find_map(|(level, kind, value)| {
        let is_error = matches!(
            (level, kind),
            (libc::SOL_IP, libc::IP_RECVERR) | (libc::SOL_IPV6, libc::IPV6_RECVERR)
        );
        is_error.then(|| decode(value, target)).flatten()
    });
    Ok(error)
}

/// A `sock_extended_err`, with the offender's address behind it.
fn decode(value: &[u8], target: Option<SocketAddr>) -> Option<QueuedError> {
    let errno = u32::from_ne_bytes(array(value, 0)?);
    let [origin, icmp_type, icmp_code, _] = array(value, 4)?;
    let info = u32::from_ne_bytes(array(value, 8)?);
    let offender = value.get(EXTENDED_ERR_LEN..).and_then(parse_sockaddr);
    Some(QueuedError {
        errno: errno as i32,
        origin: match origin {
            libc::SO_EE_ORIGIN_LOCAL => Origin::Local,
            libc::SO_EE_ORIGIN_ICMP => Origin::Icmp,
            libc::SO_EE_ORIGIN_ICMP6 => Origin::Icmp6,
            other => Origin::Other(other),
        },
        icmp_type,
        icmp_code,
        info,
        target,
        offender: offender.map(|addr| addr.ip()),
    })
}

#[cfg(test)]
mod tests {
    use std::net::UdpSocket;

    use super::*;

    #[test]
    fn a_refused_datagram_is_found_with_its_target() {
        for host in ["127.0.0.1", "::1"] {
            let socket = UdpSocket::bind((host, 0)).unwrap();
            enable(&socket, socket.local_addr().unwrap().is_ipv6()).unwrap();
            let closed = UdpSocket::bind((host, 0)).unwrap().local_addr().unwrap();
            assert_eq!(next(&socket).unwrap(), None);
            socket.send_to(b"anybody?", closed).unwrap();
            let error = next(&socket).unwrap().unwrap();
            assert_eq!(error.errno, libc::ECONNREFUSED);
            assert_eq!(error.target, Some(closed));
            assert_eq!(error.offender, Some(closed.ip()));
            let expected = if closed.is_ipv4() {
                (Origin::Icmp, 3, 3)
            } else {
                (Origin::Icmp6, 1, 4)
            };
            assert_eq!((error.origin, error.icmp_type, error.icmp_code), expected);
        }
    }
}
