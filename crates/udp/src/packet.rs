//! Frames as the wire sees them: an AF_PACKET socket on one interface (packet(7)).
//!
//! Frames come with the kernel's timestamp and with their direction. Segments that the device
//! would cut (GSO) or has joined (GRO) arrive as one frame of up to 64 KiB and its headers, with
//! a checksum that is not filled in yet; switch the offloads off
//! (ethtool(8)) to see what a wire would carry.
//!
//! Not here: decoding (see the netlab crate) and sending.

use std::io;
use std::mem::offset_of;
use std::os::fd::AsRawFd;
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::net::sockopt::set_socket_recv_buffer_size_force;
use socket2::{Domain, SockAddr, Socket, Type};

use crate::cmsg::{self, Received};
use crate::context::attempting;
use crate::message::{self, Buffers};
use crate::sockopt;

/// Bytes that hold any frame: an IP packet of 64 KiB, and 1 KiB for headers around it.
pub const FRAME_LEN_MAX: usize = 65 * 1024;

/// The receive buffer asked for, in bytes; the kernel grants it whole only to CAP_NET_ADMIN of
/// the first user namespace (SO_RCVBUFFORCE in socket(7)), others get `net.core.rmem_max`.
const RECEIVE_BUFFER_LEN: usize = 64 * 1024 * 1024;

/// `PACKET_OUTGOING` in linux/if_packet.h: the host sent this frame.
const PACKET_OUTGOING: u8 = 4;

/// `PACKET_STATISTICS` in linux/if_packet.h: counters that reading sets to zero.
const PACKET_STATISTICS: libc::c_int = 6;

/// Room for the one control message that is asked for, the timestamp.
const CONTROL_LEN: usize = size_of::<libc::cmsghdr>() + size_of::<libc::timespec>();
/// Bytes of a `sockaddr_ll`.
const LINK_ADDRESS_LEN: usize = size_of::<libc::sockaddr_ll>();
/// Where the type of a frame stands in it.
const PACKET_TYPE_OFFSET: usize = offset_of!(libc::sockaddr_ll, sll_pkttype);

/// A packet socket that sees every frame of one interface, in both directions.
#[derive(Debug)]
pub struct PacketSocket {
    socket: Socket,
}

/// What came with a frame whose bytes are in the caller's buffer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
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
        let kind = Type::RAW.cloexec().nonblocking();
        let socket = Socket::new_raw(Domain::PACKET, kind, None)
            .map_err(attempting("open a packet socket (needs CAP_NET_RAW)"))?;
        sockopt::enable(&socket, libc::SOL_SOCKET, libc::SO_TIMESTAMPNS)
            .map_err(attempting("ask for timestamps"))?;
        set_socket_recv_buffer_size_force(&socket, RECEIVE_BUFFER_LEN)
            .or_else(|_| socket.set_recv_buffer_size(RECEIVE_BUFFER_LEN))
            .map_err(attempting("enlarge the receive buffer of a packet socket"))?;
        socket
            .bind(&link_address(interface_index))
            .map_err(attempting(format_args!(
                "bind a packet socket to interface {interface_index}"
            )))?;
        Ok(PacketSocket { socket })
    }

    /// Whether a frame (or an error) can be received within `timeout`. A signal
    /// counts as nothing yet.
    pub fn wait(&self, timeout: Duration) -> io::Result<bool> {
        let mut entry = [PollFd::new(&self.socket, PollFlags::IN)];
        let timeout = Timespec::try_from(timeout).unwrap_or(Timespec {
            tv_sec: i64::MAX,
            tv_nsec: 0,
        });
        match poll(&mut entry, Some(&timeout)) {
            Ok(ready) => Ok(ready > 0),
            Err(Errno::INTR) => Ok(false),
            Err(errno) => Err(attempting("wait for a frame")(errno.into())),
        }
    }

    /// The next queued frame, written to the start of `buffer`; `None` when none is queued.
    ///
    /// A frame longer than `buffer` is cut, which its `wire_len` tells; [`FRAME_LEN_MAX`] is
    /// enough for all. ENETDOWN is reported once when the interface goes down.
    pub fn receive(&self, buffer: &mut [u8]) -> io::Result<Option<Frame>> {
        let (mut address, mut control) = ([0; LINK_ADDRESS_LEN], [0; CONTROL_LEN]);
        let buffers = Buffers {
            name: &mut address,
            payload: &mut *buffer,
            control: &mut control,
        };
        let received = match message::receive(&self.socket, buffers, libc::MSG_TRUNC) {
            Ok(received) => received,
            Err(error) => {
                return match error.kind() {
                    io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted => Ok(None),
                    _ => Err(error),
                };
            }
        };
        let stamp = cmsg::received(&control[..received.control_len]).find_map(|it| match it {
            Received::Timestamp(at_ns) => Some(Duration::from_nanos(at_ns)),
            _ => None,
        });
        Ok(Some(Frame {
            len: received.len.min(buffer.len()),
            wire_len: received.len,
            // Zero where a sandbox gives none.
            at: stamp.unwrap_or_default(),
            is_outgoing: address[PACKET_TYPE_OFFSET] == PACKET_OUTGOING,
        }))
    }

    /// Frames the kernel dropped since the last call because the receive buffer was full
    /// (PACKET_STATISTICS in packet(7)).
    pub fn drop_count(&self) -> io::Result<u64> {
        // `struct tpacket_stats` in linux/if_packet.h: packets and drops.
        let mut statistics = [0u32; 2];
        let mut len = size_of_val(&statistics) as libc::socklen_t;
        // SAFETY: the kernel writes at most `len` bytes to `statistics`, which has that length and
        // lives through the call, as `len` does; any bits are an integer. The descriptor is open.
        let result = unsafe {
            libc::getsockopt(
                self.socket.as_raw_fd(),
                libc::SOL_PACKET,
                PACKET_STATISTICS,
                statistics.as_mut_ptr().cast(),
                &raw mut len,
            )
        };
        if result < 0 {
            return Err(attempting("read drop counters")(io::Error::last_os_error()));
        }
        let [_, drops] = statistics;
        Ok(u64::from(drops))
    }
}

/// The name of an interface as bind(2) takes it, for all protocols.
fn link_address(interface_index: u32) -> SockAddr {
    let address = libc::sockaddr_ll {
        sll_family: libc::AF_PACKET as libc::c_ushort,
        sll_protocol: (libc::ETH_P_ALL as u16).to_be(),
        sll_ifindex: interface_index as libc::c_int,
        sll_hatype: 0,
        sll_pkttype: 0,
        sll_halen: 0,
        sll_addr: [0; 8],
    };
    let mut storage = socket2::SockAddrStorage::zeroed();
    // SAFETY: `view_as` needs a type that is no longer than the storage and valid for its zeroes:
    // a `sockaddr_ll` is one of those that `sockaddr_storage` is made for, and integers only. `new`
    // needs an address of its family in the first `len` bytes: it was just written there.
    unsafe {
        *storage.view_as::<libc::sockaddr_ll>() = address;
        SockAddr::new(storage, LINK_ADDRESS_LEN as libc::socklen_t)
    }
}
