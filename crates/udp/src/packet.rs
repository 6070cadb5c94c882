//! Frames as the wire sees them: an AF_PACKET socket on one interface (packet(7)).
//!
//! Frames come with the kernel's timestamp and with their direction. Segments that the device
//! would cut (GSO) or has joined (GRO) arrive as one frame of up to 64 KiB and its headers, with
//! a checksum that is not filled in yet; switch the offloads off
//! ([`super::ethtool::set_feature`]) to see what a wire would carry.
//!
//! Not here: decoding (see the netlab crate) and sending.

use std::io;
use std::mem::{MaybeUninit, size_of};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::ptr;
use std::time::Duration;

use crate::attempting;

/// Bytes that hold any frame: an IP packet of 64 KiB, and 1 KiB for headers around it.
pub const FRAME_LEN_MAX: usize = 65 * 1024;

/// The receive buffer asked for, in bytes; the kernel grants it whole only to CAP_NET_ADMIN of
/// the first user namespace (SO_RCVBUFFORCE in socket(7)), others get `net.core.rmem_max`.
const RECEIVE_BUFFER_LEN: libc::c_int = 64 * 1024 * 1024;

/// `PACKET_OUTGOING` in linux/if_packet.h: the host sent this frame.
const PACKET_OUTGOING: u8 = 4;

/// `PACKET_STATISTICS` in linux/if_packet.h: counters that reading sets to zero.
const PACKET_STATISTICS: libc::c_int = 6;

/// A packet socket that sees every frame of one interface, in both directions.
#[derive(Debug)]
pub struct PacketSocket {
    fd: OwnedFd,
}

/// What came with a frame whose bytes are in the caller's buffer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Frame {
    /// Bytes of the frame in the buffer, link-layer header included.
    pub len: usize,
    /// Bytes the frame had; more than `len` when the buffer was too small.
    pub wire_len: usize,
    /// The kernel's time of the frame since the Unix epoch (CLOCK_REALTIME, SO_TIMESTAMPNS).
    pub at: Duration,
    /// Whether this host sent the frame on the interface, rather than receiving it there.
    pub is_outgoing: bool,
}

impl PacketSocket {
    /// A socket on the interface with `interface_index`, in the calling thread's network
    /// namespace.
    ///
    /// Needs CAP_NET_RAW (EPERM otherwise); ENODEV when there is no such interface. Nothing from
    /// other interfaces is ever queued: the socket has no protocol until it is bound.
    pub fn open(interface_index: u32) -> io::Result<PacketSocket> {
        let flags = libc::SOCK_RAW | libc::SOCK_CLOEXEC | libc::SOCK_NONBLOCK;
        // SAFETY: socket takes three integers; the result is checked before it is used.
        let fd = unsafe { libc::socket(libc::AF_PACKET, flags, 0) };
        if fd < 0 {
            return Err(attempting("open a packet socket (needs CAP_NET_RAW)")(
                io::Error::last_os_error(),
            ));
        }
        // SAFETY: `fd` was just returned by the kernel and has no other owner.
        let fd = unsafe { OwnedFd::from_raw_fd(fd) };
        let socket = PacketSocket { fd };
        socket
            .set_option(libc::SO_TIMESTAMPNS, 1)
            .map_err(attempting("ask for timestamps"))?;
        socket
            .set_option(libc::SO_RCVBUFFORCE, RECEIVE_BUFFER_LEN)
            .or_else(|_| socket.set_option(libc::SO_RCVBUF, RECEIVE_BUFFER_LEN))
            .map_err(attempting("enlarge the receive buffer of a packet socket"))?;
        socket
            .bind(interface_index)
            .map_err(attempting(format_args!(
                "bind a packet socket to interface {interface_index}"
            )))?;
        Ok(socket)
    }

    /// Whether a frame (or an error) can be received within `timeout`, rounded up to whole
    /// milliseconds. A signal counts as nothing yet.
    pub fn wait(&self, timeout: Duration) -> io::Result<bool> {
        let mut entry = libc::pollfd {
            fd: self.fd.as_raw_fd(),
            events: libc::POLLIN,
            revents: 0,
        };
        let timeout_ms = timeout
            .as_nanos()
            .div_ceil(1_000_000)
            .try_into()
            .unwrap_or(i32::MAX);
        // SAFETY: poll reads and writes one pollfd, which is a live local, and the count says 1.
        let ready = unsafe { libc::poll(&mut entry, 1, timeout_ms) };
        if ready >= 0 {
            return Ok(ready > 0);
        }
        match io::Error::last_os_error() {
            error if error.kind() == io::ErrorKind::Interrupted => Ok(false),
            error => Err(attempting("wait for a frame")(error)),
        }
    }

    /// The next queued frame, written to the start of `buffer`; `None` when none is queued.
    ///
    /// A frame longer than `buffer` is cut, which its `wire_len` tells; [`FRAME_LEN_MAX`] is
    /// enough for all. ENETDOWN is reported once when the interface goes down.
    pub fn receive(&self, buffer: &mut [u8]) -> io::Result<Option<Frame>> {
        let mut control = Control([0; CONTROL_LEN]);
        let mut iovec = libc::iovec {
            iov_base: buffer.as_mut_ptr().cast(),
            iov_len: buffer.len(),
        };
        let mut link = MaybeUninit::<libc::sockaddr_ll>::zeroed();
        // SAFETY: msghdr holds integers and pointers only; all-zero means "nothing" for each.
        let mut header: libc::msghdr = unsafe { MaybeUninit::zeroed().assume_init() };
        header.msg_name = link.as_mut_ptr().cast();
        header.msg_namelen = size_of::<libc::sockaddr_ll>() as libc::socklen_t;
        header.msg_iov = &mut iovec;
        header.msg_iovlen = 1;
        header.msg_control = control.0.as_mut_ptr().cast();
        header.msg_controllen = CONTROL_LEN as _;
        // SAFETY: every pointer in `header` leads to a live local or to `buffer`, which is
        // borrowed mutably, and stands beside its true length.
        let received = unsafe { libc::recvmsg(self.fd.as_raw_fd(), &mut header, libc::MSG_TRUNC) };
        let Ok(wire_len) = usize::try_from(received) else {
            return match io::Error::last_os_error() {
                error if error.kind() == io::ErrorKind::WouldBlock => Ok(None),
                error if error.kind() == io::ErrorKind::Interrupted => Ok(None),
                error => Err(error),
            };
        };
        // SAFETY: it was zeroed, and sockaddr_ll is integers, for which any bytes are valid.
        let link = unsafe { link.assume_init() };
        Ok(Some(Frame {
            len: wire_len.min(buffer.len()),
            wire_len,
            at: timestamp(&header),
            is_outgoing: link.sll_pkttype == PACKET_OUTGOING,
        }))
    }

    /// Frames the kernel dropped since the last call because the receive buffer was full
    /// (PACKET_STATISTICS in packet(7)).
    pub fn drop_count(&self) -> io::Result<u64> {
        /// `struct tpacket_stats` in linux/if_packet.h.
        #[repr(C)]
        struct Statistics {
            packets: u32,
            drops: u32,
        }
        let mut statistics = Statistics {
            packets: 0,
            drops: 0,
        };
        let mut len = size_of::<Statistics>() as libc::socklen_t;
        // SAFETY: the kernel writes at most `len` bytes to `statistics`, which is live, that long
        // and made of integers.
        let result = unsafe {
            libc::getsockopt(
                self.fd.as_raw_fd(),
                libc::SOL_PACKET,
                PACKET_STATISTICS,
                ptr::from_mut(&mut statistics).cast(),
                &mut len,
            )
        };
        if result < 0 {
            return Err(attempting("read drop counters")(io::Error::last_os_error()));
        }
        debug_assert!(statistics.packets >= statistics.drops);
        Ok(u64::from(statistics.drops))
    }

    fn bind(&self, interface_index: u32) -> io::Result<()> {
        // SAFETY: sockaddr_ll is integers, for which zero is valid.
        let mut address: libc::sockaddr_ll = unsafe { MaybeUninit::zeroed().assume_init() };
        address.sll_family = libc::AF_PACKET as libc::c_ushort;
        address.sll_protocol = (libc::ETH_P_ALL as u16).to_be();
        address.sll_ifindex = interface_index as libc::c_int;
        let len = size_of::<libc::sockaddr_ll>() as libc::socklen_t;
        // SAFETY: the pointer is to a live sockaddr_ll and `len` is its size.
        let result =
            unsafe { libc::bind(self.fd.as_raw_fd(), ptr::from_ref(&address).cast(), len) };
        if result < 0 {
            Err(io::Error::last_os_error())
        } else {
            Ok(())
        }
    }

    fn set_option(&self, option: libc::c_int, value: libc::c_int) -> io::Result<()> {
        // SAFETY: the options used here (socket(7)) take an int; pointer and length are those of
        // the live local `value`.
        let result = unsafe {
            libc::setsockopt(
                self.fd.as_raw_fd(),
                libc::SOL_SOCKET,
                option,
                ptr::from_ref(&value).cast(),
                size_of::<libc::c_int>() as libc::socklen_t,
            )
        };
        if result < 0 {
            Err(io::Error::last_os_error())
        } else {
            Ok(())
        }
    }
}

/// Room for the one control message that was asked for, the timestamp.
// SAFETY: CMSG_SPACE only computes.
const CONTROL_LEN: usize = unsafe { libc::CMSG_SPACE(size_of::<libc::timespec>() as u32) } as usize;

/// Control bytes, aligned as cmsg(3) wants them.
#[repr(C, align(8))]
struct Control([u8; CONTROL_LEN]);

const _: () = assert!(align_of::<Control>() >= align_of::<libc::cmsghdr>());

/// The SCM_TIMESTAMPNS of a received message; zero where the kernel gave none.
fn timestamp(header: &libc::msghdr) -> Duration {
    // SAFETY: `header` was filled by recvmsg, so msg_control and msg_controllen describe
    // well-formed control messages in a live, aligned buffer.
    let mut message = unsafe { libc::CMSG_FIRSTHDR(header) };
    while !message.is_null() {
        // SAFETY: FIRSTHDR and NXTHDR return pointers to whole headers within the buffer, or null.
        let (level, kind) = unsafe { ((*message).cmsg_level, (*message).cmsg_type) };
        if level == libc::SOL_SOCKET && kind == libc::SCM_TIMESTAMPNS {
            // SAFETY: a message of this level and type carries a timespec (socket(7)), and the
            // buffer has room for one; it is read unaligned, so its position does not matter.
            let time = unsafe {
                libc::CMSG_DATA(message)
                    .cast::<libc::timespec>()
                    .read_unaligned()
            };
            return Duration::new(
                time.tv_sec.try_into().unwrap_or(0),
                time.tv_nsec.try_into().unwrap_or(0),
            );
        }
        // SAFETY: as for CMSG_FIRSTHDR; `message` came from it or from this very call.
        message = unsafe { libc::CMSG_NXTHDR(header, message) };
    }
    Duration::ZERO
}
