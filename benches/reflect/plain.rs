//! The yardsticks: what a careful person writes without io_uring and without trains.

use std::io;
use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::os::fd::AsFd;

use reflector::datagram::Endpoint;
use reflector::ingress;
use reflector::sys::addr::Name;
use reflector::sys::cmsg::Control;
use reflector::sys::memory::Lease;
use reflector::sys::mmsg::{Inbox, Outbox, Piece, Poll};
use reflector::sys::sockopt;

/// Datagrams per call.
const BATCH: u16 = 64;

/// `recvfrom` and `sendto`, one datagram at a time, the kernel choosing the source. Never returns.
///
/// # Errors
/// What the socket says.
pub fn recvfrom_sendto(port: u16) -> io::Result<()> {
    let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, port))?;
    set_buffers(&socket)?;
    let mut bytes = [0; 65_535];
    loop {
        let (len, peer) = socket.recv_from(&mut bytes)?;
        socket.send_to(&bytes[..len], peer)?;
    }
}

/// `recvmmsg` and `sendmmsg` with pktinfo, 64 datagrams at a time. Never returns.
///
/// # Errors
/// What the socket says.
pub fn recvmmsg_sendmmsg(port: u16) -> io::Result<()> {
    let addr = SocketAddr::from((Ipv4Addr::UNSPECIFIED, port));
    let socket = UdpSocket::bind(addr)?;
    set_buffers(&socket)?;
    sockopt::enable(&socket, libc::SOL_IP, libc::IP_PKTINFO)?;
    let endpoint = Endpoint {
        addr,
        has_pktinfo: true,
        same_interface: false,
    };
    let batch = usize::from(BATCH);
    let mut inbox = Inbox::new(Lease::carve(BATCH, 2048, 2048 + 64)?, batch);
    let mut outbox = Outbox::new(batch, batch, batch);
    let mut poll = Poll::new([socket.as_fd()].into_iter());
    loop {
        let count = match inbox.receive(socket.as_fd()) {
            Ok(count) => count,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                poll.wait()?;
                continue;
            }
            Err(error) => return Err(error),
        };
        for _ in 0..count {
            let (lease, incoming) = inbox.take();
            let len = lease.len() as u32;
            let arrival = ingress::arrival(&endpoint, &incoming, lease.len());
            let lease = outbox.adopt(lease);
            if let Ok(arrival) = arrival {
                let mut control = Control::EMPTY;
                control.push_source(arrival.local.addr, 0);
                let piece = Piece {
                    lease,
                    start: 0,
                    len,
                };
                outbox.push(Name::new(arrival.peer), control, [piece].into_iter());
            }
        }
        outbox.seal();
        let mut next = 0;
        while next < outbox.len() {
            next += outbox.send(socket.as_fd(), next..outbox.len()).unwrap_or(1);
        }
        outbox.clear();
        while let Some(lease) = outbox.release() {
            inbox.recycle(lease);
        }
    }
}

fn set_buffers(socket: &UdpSocket) -> io::Result<()> {
    sockopt::set_int(socket, libc::SOL_SOCKET, libc::SO_RCVBUFFORCE, 8 << 20)?;
    sockopt::set_int(socket, libc::SOL_SOCKET, libc::SO_SNDBUFFORCE, 8 << 20)
}
