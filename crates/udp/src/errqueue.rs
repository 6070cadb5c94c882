//! A socket's error queue: ICMP errors about datagrams that it sent (ip(7), `IP_RECVERR`), and the
//! times at which the kernel handed datagrams to the device (`SO_TIMESTAMPING`).
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
    /// No error but a stamp: when the kernel handed a datagram to the device, nanoseconds of
    /// `CLOCK_REALTIME`.
    pub stamp_ns: Option<u64>,
}

/// Stamps of datagrams that leave are not to come with those that arrive (SOF_TIMESTAMPING_OPT_RX_
/// FILTER, linux/net_tstamp.h, since Linux 6.12).
const OPT_RX_FILTER: u32 = 1 << 17;

/// Prepares a socket for messages that [ask](crate::cmsg::Control::push_stamp) to be stamped; the
/// stamps come in the error queue, without the datagram.
///
/// # Errors
/// EINVAL before Linux 6.12.
pub fn enable_stamps(socket: &impl AsFd) -> io::Result<()> {
    let flags = libc::SOF_TIMESTAMPING_SOFTWARE | libc::SOF_TIMESTAMPING_OPT_TSONLY | OPT_RX_FILTER;
    sockopt::set_int(
        socket,
        libc::SOL_SOCKET,
        libc::SO_TIMESTAMPING,
        flags as i32,
    )
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
    let (mut error, mut stamp_ns) = (None, None);
    for (level, kind, value) in Cursor::new(&control[..received.control_len]) {
        match (level, kind) {
            (libc::SOL_IP, libc::IP_RECVERR) | (libc::SOL_IPV6, libc::IPV6_RECVERR) => {
                error = decode(value, target);
            }
            (libc::SOL_SOCKET, libc::SCM_TIMESTAMPING) => stamp_ns = decode_stamp(value),
            _ => {}
        }
    }
    Ok(error.map(|error| QueuedError {
        // Of an error it is that of the ICMP message.
        stamp_ns: stamp_ns.filter(|_| error.origin == STAMP),
        ..error
    }))
}

/// The origin of a stamp (SO_EE_ORIGIN_TIMESTAMPING).
const STAMP: Origin = Origin::Other(libc::SO_EE_ORIGIN_TIMESTAMPING);

/// The first time of a `scm_timestamping`, which is the software's.
fn decode_stamp(value: &[u8]) -> Option<u64> {
    let seconds = i64::from_ne_bytes(array(value, 0)?);
    let nanoseconds = i64::from_ne_bytes(array(value, 8)?);
    let total = seconds
        .checked_mul(1_000_000_000)?
        .checked_add(nanoseconds)?;
    u64::try_from(total).ok()
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
        stamp_ns: None,
    })
}

#[cfg(test)]
mod tests {
    use std::net::UdpSocket;

    use super::*;
    use crate::addr::PeerAddr;
    use crate::memory::Lease;
    use crate::mmsg::{Outbox, Piece};

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

    #[test]
    fn a_message_that_asks_for_it_is_stamped_and_no_other() {
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        let peer = UdpSocket::bind("127.0.0.1:0").unwrap();
        if enable_stamps(&socket).is_err() {
            println!("SKIPPED: this kernel is older than Linux 6.12");
            return;
        }
        let mut outbox = Outbox::new(2, 2, 2);
        for lease in Lease::carve(2, 8, 64).unwrap() {
            outbox.adopt(lease);
        }
        for lease in 0..2 {
            let piece = Piece {
                lease,
                start: 0,
                len: 8,
            };
            let (name, control) = outbox.push([piece].into_iter());
            *name = PeerAddr::new(peer.local_addr().unwrap());
            if lease == 1 {
                control.push_stamp();
            }
        }
        outbox.seal();
        assert_eq!(outbox.send(socket.as_fd(), 0..2).unwrap(), 2);
        let entry = next(&socket).unwrap().expect("loopback is passed at once");
        assert_eq!((entry.origin, entry.errno), (STAMP, libc::ENOMSG));
        assert!(entry.stamp_ns.is_some());
        assert_eq!(next(&socket).unwrap(), None);
        // What arrives is stamped by those who ask for that, and as ever.
        assert_eq!(peer.recv(&mut [0; 8]).unwrap(), 8);
    }
}
