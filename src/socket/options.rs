//! The options of a socket, every one with its reason.
//!
//! Two are absent on purpose: `SO_BROADCAST`, so that no reply can go to a broadcast address, and
//! `IP_RECVERR`, since with it a forged ICMP error would end an armed receive.

use std::io;

use crate::datagram::Endpoint;
use reflector_udp::{errqueue, sockopt};

/// What is asked of a socket.
#[derive(Clone, Debug, Default)]
pub struct Settings {
    /// One `[::]` socket for IPv6 and v4-mapped peers.
    pub dual_stack: bool,
    /// Several sockets of this program share the port.
    pub is_grouped: bool,
    /// Other programs may share the port from the start.
    pub share_port: bool,
    /// Receive trains whole.
    pub gro: bool,
    /// Stamp each datagram when the kernel receives it.
    pub timestamps: bool,
    /// Stamp those replies that ask for it when they leave.
    pub stamps: bool,
    /// Tell the hop limit of each datagram.
    pub hop_limits: bool,
    /// Tell the type of service of each datagram.
    pub tos: bool,
    /// Replies leave by the interface of arrival.
    pub same_interface: bool,
    /// Forbid fragmentation, for path MTU tests.
    pub df: bool,
    /// Bind an address that the host does not have (yet).
    pub freebind: bool,
    /// Bytes asked for; `None` leaves the system's default.
    pub receive_buffer_len: Option<usize>,
    /// Bytes asked for; `None` leaves the system's default.
    pub send_buffer_len: Option<usize>,
    /// Only this interface.
    pub device: Option<String>,
}

/// Sets the options of a socket that will be bound to `endpoint`.
///
/// # Errors
/// `ENOPROTOOPT` on a kernel that does not know one of them, `ENOMEM` for a buffer.
pub fn set_options(
    socket: &socket2::Socket,
    endpoint: &Endpoint,
    settings: &Settings,
) -> io::Result<()> {
    let is_v6 = endpoint.addr.is_ipv6();
    let takes_v4 = !is_v6 || settings.dual_stack;
    if is_v6 {
        // Either way explicitly: net.ipv6.bindv6only changes the default.
        socket.set_only_v6(!settings.dual_stack)?;
    }
    if endpoint.has_pktinfo {
        if is_v6 {
            sockopt::enable(socket, libc::SOL_IPV6, libc::IPV6_RECVPKTINFO)?;
        }
        if takes_v4 {
            // On a dual-stack socket as well: only this one tells a broadcast from a unicast.
            sockopt::enable(socket, libc::SOL_IP, libc::IP_PKTINFO)?;
        }
    }
    if (is_v6 && endpoint.is_wildcard()) || settings.freebind {
        // AnyIP: for IPv4 a `local` route is enough to reply from, IPv6 looks for an address.
        let (level, option) = if is_v6 {
            (libc::SOL_IPV6, libc::IPV6_FREEBIND)
        } else {
            (libc::SOL_IP, libc::IP_FREEBIND)
        };
        sockopt::enable(socket, level, option)?;
    }
    if settings.hop_limits {
        tell_hop_limits(socket, is_v6, takes_v4)?;
    }
    if settings.tos {
        if is_v6 {
            sockopt::enable(socket, libc::SOL_IPV6, libc::IPV6_RECVTCLASS)?;
        }
        if takes_v4 {
            sockopt::enable(socket, libc::SOL_IP, libc::IP_RECVTOS)?;
        }
    }
    if settings.gro {
        // All sockets of a group alike: the kernel's lookup may meet any of them.
        sockopt::enable(socket, libc::SOL_UDP, libc::UDP_GRO)?;
    }
    if settings.timestamps {
        sockopt::enable(socket, libc::SOL_SOCKET, libc::SO_TIMESTAMPNS)?;
    }
    if settings.stamps {
        errqueue::enable_stamps(socket)?;
    }
    set_fragmentation(socket, is_v6, takes_v4, settings.df)?;
    if let Some(len) = settings.receive_buffer_len {
        set_buffer(socket, libc::SO_RCVBUFFORCE, libc::SO_RCVBUF, len)?;
    }
    if let Some(len) = settings.send_buffer_len {
        set_buffer(socket, libc::SO_SNDBUFFORCE, libc::SO_SNDBUF, len)?;
    }
    Ok(())
}

/// Asks for the hop limit of each datagram.
///
/// # Errors
/// `ENOPROTOOPT` on a kernel that does not know the option.
pub fn tell_hop_limits(socket: &socket2::Socket, is_v6: bool, takes_v4: bool) -> io::Result<()> {
    if is_v6 {
        sockopt::enable(socket, libc::SOL_IPV6, libc::IPV6_RECVHOPLIMIT)?;
    }
    if takes_v4 {
        sockopt::enable(socket, libc::SOL_IP, libc::IP_RECVTTL)?;
    }
    Ok(())
}

/// Who may fragment a reply (ip(7), `IP_MTU_DISCOVER`).
///
/// IPv4 OMIT: replies may be fragmented on the way, and no forged ICMP shrinks the path's MTU.
/// IPv6 WANT: routers do not fragment IPv6, so what they report has to be believed. PROBE (`df`):
/// never fragmented, the device's MTU is the only limit.
fn set_fragmentation(
    socket: &socket2::Socket,
    is_v6: bool,
    takes_v4: bool,
    df: bool,
) -> io::Result<()> {
    if is_v6 {
        let discover = if df {
            libc::IPV6_PMTUDISC_PROBE
        } else {
            libc::IPV6_PMTUDISC_WANT
        };
        sockopt::set_int(socket, libc::SOL_IPV6, libc::IPV6_MTU_DISCOVER, discover)?;
    }
    if takes_v4 {
        let discover = if df {
            libc::IP_PMTUDISC_PROBE
        } else {
            libc::IP_PMTUDISC_OMIT
        };
        sockopt::set_int(socket, libc::SOL_IP, libc::IP_MTU_DISCOVER, discover)?;
    }
    Ok(())
}

/// Sets a buffer length past the system's limit where that is permitted, up to it where not.
fn set_buffer(socket: &socket2::Socket, force: i32, plain: i32, len: usize) -> io::Result<()> {
    let len = i32::try_from(len).unwrap_or(i32::MAX);
    sockopt::set_int(socket, libc::SOL_SOCKET, force, len)
        .or_else(|_| sockopt::set_int(socket, libc::SOL_SOCKET, plain, len))
}
