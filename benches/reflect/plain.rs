//! The yardsticks: what a careful person writes without io_uring and without trains.
//!
//! They share nothing with the reflector, so that no change there moves them.

use std::hint;
use std::io;
use std::mem;
use std::net::{Ipv4Addr, UdpSocket};
use std::os::fd::AsRawFd;
use std::ptr;
use std::time::Duration;

use reflector_measure::clock;
use reflector_udp::sockopt;

/// The name of the loop over single datagrams.
const RECVFROM: &str = "recvfrom/sendto";
/// The name of the loop over 64.
const RECVMMSG: &str = super::contender::YARDSTICK;
/// The names of the same loop that works for each reply, and for how long: between the two lies a
/// difference that is known.
pub const WORKING: [(&str, Duration); 2] = [
    (
        "recvmmsg/sendmmsg, 5 us more a reply",
        Duration::from_micros(5),
    ),
    (
        "recvmmsg/sendmmsg, 10 us more a reply",
        Duration::from_micros(10),
    ),
];

/// Datagrams per call.
const BATCH: usize = 64;
/// Bytes of a datagram's buffer: all that comes here is smaller, and few bytes stay in the cache.
const BUFFER_LEN: usize = 2048;
/// A `cmsghdr` with an `in_pktinfo`, padded.
const CONTROL_LEN: usize = 32;
const _: () = assert!(
    size_of::<libc::cmsghdr>() + size_of::<libc::in_pktinfo>() <= CONTROL_LEN,
    "room for what the kernel tells"
);

/// Is the server of that name. Never returns.
///
/// # Errors
/// EADDRINUSE where another program has the port, EPERM without CAP_NET_ADMIN.
pub fn serve(name: &str, port: u16) -> io::Result<()> {
    let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, port))?;
    for option in [libc::SO_RCVBUFFORCE, libc::SO_SNDBUFFORCE] {
        sockopt::set_int(&socket, libc::SOL_SOCKET, option, 8 << 20)?;
    }
    match name {
        RECVFROM => recvfrom_sendto(&socket),
        RECVMMSG => recvmmsg_sendmmsg(&socket, Duration::ZERO),
        name => {
            let working = WORKING.into_iter().find(|it| it.0 == name);
            let unknown = || io::Error::other(format!("no plain server is called {name}"));
            recvmmsg_sendmmsg(&socket, working.ok_or_else(unknown)?.1)
        }
    }
}

/// One datagram at a time, the kernel choosing the source, which is the mistake.
fn recvfrom_sendto(socket: &UdpSocket) -> io::Result<()> {
    let mut bytes = [0; BUFFER_LEN];
    loop {
        let (len, peer) = socket.recv_from(&mut bytes)?;
        socket.send_to(&bytes[..len], peer)?;
    }
}

/// 64 datagrams at a time, each answered from the address asked.
///
/// A reply is its request: the same header, name, bytes and control message, in which only the
/// interface is cleared; nothing is parsed, copied or gathered, and no other option is on. One
/// call waits and receives (`MSG_WAITFORONE`), another sends.
fn recvmmsg_sendmmsg(socket: &UdpSocket, work: Duration) -> io::Result<()> {
    sockopt::enable(socket, libc::SOL_IP, libc::IP_PKTINFO)?;
    let mut slots = vec![Slot::EMPTY; BATCH];
    let mut iovecs: Vec<libc::iovec> = slots.iter_mut().map(Slot::iovec).collect();
    let mut headers: Vec<libc::mmsghdr> = slots
        .iter_mut()
        .zip(&mut iovecs)
        .map(|(slot, iovec)| slot.header(iovec))
        .collect();
    let fd = socket.as_raw_fd();
    loop {
        // SAFETY: each of the BATCH headers points at the name, control buffer and iovec of its own
        // slot, with their sizes; the three vectors are never resized and outlive the loop. A null
        // timeout is allowed.
        let received = unsafe {
            let flags = libc::MSG_WAITFORONE;
            libc::recvmmsg(
                fd,
                headers.as_mut_ptr(),
                BATCH as u32,
                flags,
                ptr::null_mut(),
            )
        };
        let count = usize::try_from(received).map_err(|_| io::Error::last_os_error())?;
        for index in 0..count {
            iovecs[index].iov_len = headers[index].msg_len as usize;
            slots[index].forget_interface();
        }
        if !work.is_zero() {
            work_for(work * count as u32);
        }
        let mut sent = 0;
        while sent < count {
            // SAFETY: as above, for the headers from `sent` on; the kernel has set their lengths to
            // what it wrote, and the iovecs are as long as what was received.
            let more = unsafe {
                let rest = headers[sent..count].as_mut_ptr();
                libc::sendmmsg(fd, rest, (count - sent) as u32, 0)
            };
            // A datagram that cannot be sent is lost, and the next is tried.
            sent += usize::try_from(more).unwrap_or(1);
        }
        for index in 0..count {
            iovecs[index].iov_len = BUFFER_LEN;
            let header = &mut headers[index].msg_hdr;
            header.msg_namelen = size_of::<libc::sockaddr_in>() as libc::socklen_t;
            header.msg_controllen = CONTROL_LEN;
        }
    }
}

/// Keeps the CPU busy for as long as this.
fn work_for(time: Duration) {
    let start = clock::monotonic();
    while clock::monotonic().duration_since(start) < time {
        hint::spin_loop();
    }
}

/// Where one datagram lies, with whose it is and where it was sent.
#[derive(Clone)]
#[repr(C, align(64))]
struct Slot {
    control: [u8; CONTROL_LEN],
    name: [u8; size_of::<libc::sockaddr_in>()],
    bytes: [u8; BUFFER_LEN],
}

impl Slot {
    const EMPTY: Self = Self {
        control: [0; CONTROL_LEN],
        name: [0; size_of::<libc::sockaddr_in>()],
        bytes: [0; BUFFER_LEN],
    };

    fn iovec(&mut self) -> libc::iovec {
        libc::iovec {
            iov_base: self.bytes.as_mut_ptr().cast(),
            iov_len: BUFFER_LEN,
        }
    }

    fn header(&mut self, iovec: &mut libc::iovec) -> libc::mmsghdr {
        // SAFETY: integers and pointers, all of which may be zero.
        let mut header: libc::mmsghdr = unsafe { mem::zeroed() };
        header.msg_hdr.msg_name = self.name.as_mut_ptr().cast();
        header.msg_hdr.msg_namelen = size_of::<libc::sockaddr_in>() as libc::socklen_t;
        header.msg_hdr.msg_iov = iovec;
        header.msg_hdr.msg_iovlen = 1;
        header.msg_hdr.msg_control = self.control.as_mut_ptr().cast();
        header.msg_hdr.msg_controllen = CONTROL_LEN;
        header
    }

    /// Leaves the way out to the routing table; `ipi_ifindex` is the first field of the only
    /// control message that was asked for.
    fn forget_interface(&mut self) {
        let value = size_of::<libc::cmsghdr>();
        self.control[value..value + 4].fill(0);
    }
}
