//! The options of a socket, every one with its reason.
//!
//! Two are absent on purpose: `SO_BROADCAST`, so that no reply can go to a broadcast address, and
//! `IP_RECVERR`, since with it a forged ICMP error would end an armed receive.
//!
//! A kernel may refuse one, as those do that run in user space. What is needed ends the start; what
//! only makes replies faster or finer is done without.

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

/// An option by its name.
#[derive(Clone, Copy, Debug)]
struct Named {
    name: &'static str,
    level: i32,
    option: i32,
}

macro_rules! named {
    ($level:ident, $name:ident) => {
        Named {
            name: stringify!($name),
            level: libc::$level,
            option: libc::$name,
        }
    };
}

/// An option that the kernel refuses.
#[derive(Debug)]
pub struct Refused {
    /// Its name.
    pub option: &'static str,
    /// What the kernel said.
    pub error: io::Error,
}

impl From<Refused> for io::Error {
    fn from(refused: Refused) -> Self {
        refused.error
    }
}

/// An option that the socket does without.
#[derive(Debug)]
pub struct Lack {
    /// Which one.
    pub refused: Refused,
    /// What is so without it.
    pub without: &'static str,
}

/// The socket whose options are set, and what it lacks so far.
struct Options<'a> {
    socket: &'a socket2::Socket,
    lacks: Vec<Lack>,
}

impl Options<'_> {
    /// Sets `option`, without which there is no use.
    fn need(&self, option: Named, value: i32) -> Result<(), Refused> {
        sockopt::set_int(self.socket, option.level, option.option, value).map_err(|error| Refused {
            option: option.name,
            error,
        })
    }

    /// Sets `option`, if the kernel takes it.
    fn wish(&mut self, option: Named, value: i32, without: &'static str) {
        if let Err(refused) = self.need(option, value) {
            self.lacks.push(Lack { refused, without });
        }
    }

    /// Sets `option`, which `is_needed` or not.
    fn set(
        &mut self,
        option: Named,
        value: i32,
        is_needed: bool,
        without: &'static str,
    ) -> Result<(), Refused> {
        if is_needed {
            return self.need(option, value);
        }
        self.wish(option, value, without);
        Ok(())
    }
}

/// Sets the options of a socket that will be bound to `endpoint`, and says which it does without.
///
/// # Errors
/// `ENOPROTOOPT` or `EOPNOTSUPP` on a kernel that does not know one that is needed.
pub fn set_options(
    socket: &socket2::Socket,
    endpoint: &Endpoint,
    settings: &Settings,
) -> Result<Vec<Lack>, Refused> {
    if endpoint.addr.is_ipv6() {
        // Either way explicitly: net.ipv6.bindv6only changes the default.
        let lacks = Vec::new();
        let value = i32::from(!settings.dual_stack);
        Options { socket, lacks }.need(named!(SOL_IPV6, IPV6_V6ONLY), value)?;
    }
    set_bound_options(socket, endpoint, settings)
}

/// Sets those that may be set of a socket that is bound to `endpoint` already.
///
/// # Errors
/// As [`set_options`].
pub fn set_bound_options(
    socket: &socket2::Socket,
    endpoint: &Endpoint,
    settings: &Settings,
) -> Result<Vec<Lack>, Refused> {
    let is_v6 = endpoint.addr.is_ipv6();
    let takes_v4 = !is_v6 || settings.dual_stack;
    let lacks = Vec::new();
    let mut options = Options { socket, lacks };
    if endpoint.has_pktinfo {
        if is_v6 {
            options.need(named!(SOL_IPV6, IPV6_RECVPKTINFO), 1)?;
        }
        if takes_v4 {
            // On a dual-stack socket as well: only this one tells a broadcast from a unicast.
            options.need(named!(SOL_IP, IP_PKTINFO), 1)?;
        }
    }
    if (is_v6 && endpoint.is_wildcard()) || settings.freebind {
        // AnyIP: for IPv4 a `local` route is enough to reply from, IPv6 looks for an address.
        let option = match is_v6 {
            true => named!(SOL_IPV6, IPV6_FREEBIND),
            false => named!(SOL_IP, IP_FREEBIND),
        };
        let without = "an address that only a local route gives this host gets no replies";
        options.set(option, 1, settings.freebind, without)?;
    }
    if settings.hop_limits {
        need_hop_limits(&options, is_v6, takes_v4)?;
    }
    if settings.tos {
        if is_v6 {
            options.need(named!(SOL_IPV6, IPV6_RECVTCLASS), 1)?;
        }
        if takes_v4 {
            options.need(named!(SOL_IP, IP_RECVTOS), 1)?;
        }
    }
    if settings.gro {
        // All sockets of a group alike: the kernel's lookup may meet any of them.
        let without = "trains are received one datagram at a time, which takes more CPU";
        options.wish(named!(SOL_UDP, UDP_GRO), 1, without);
    }
    if settings.timestamps {
        let without = "residence times are not measured";
        options.wish(named!(SOL_SOCKET, SO_TIMESTAMPNS), 1, without);
    }
    if settings.stamps {
        let enabled = errqueue::enable_stamps(socket);
        enabled.map_err(|error| Refused {
            option: "SO_TIMESTAMPING",
            error,
        })?;
    }
    set_fragmentation(&mut options, is_v6, takes_v4, settings.df)?;
    // What is not granted is seen in what is there.
    if let Some(len) = settings.receive_buffer_len {
        let _ = set_buffer(socket, libc::SO_RCVBUFFORCE, libc::SO_RCVBUF, len);
    }
    if let Some(len) = settings.send_buffer_len {
        let _ = set_buffer(socket, libc::SO_SNDBUFFORCE, libc::SO_SNDBUF, len);
    }
    Ok(options.lacks)
}

/// Takes back from a socket that others have set up what [`set_bound_options`] sets only where it
/// is asked for, or never.
///
/// # Errors
/// `ENOPROTOOPT` on a kernel that does not know one.
pub fn clear_options(socket: &socket2::Socket, settings: &Settings) -> io::Result<()> {
    if !settings.gro {
        sockopt::set_int(socket, libc::SOL_UDP, libc::UDP_GRO, 0)?;
    }
    // systemd sets the first, and with `Broadcast=` the second.
    socket.set_reuse_address(false)?;
    socket.set_broadcast(false)
}

/// Asks for the hop limit of each datagram.
///
/// # Errors
/// `ENOPROTOOPT` on a kernel that does not know the option.
pub fn tell_hop_limits(
    socket: &socket2::Socket,
    is_v6: bool,
    takes_v4: bool,
) -> Result<(), Refused> {
    let lacks = Vec::new();
    need_hop_limits(&Options { socket, lacks }, is_v6, takes_v4)
}

fn need_hop_limits(options: &Options<'_>, is_v6: bool, takes_v4: bool) -> Result<(), Refused> {
    if is_v6 {
        options.need(named!(SOL_IPV6, IPV6_RECVHOPLIMIT), 1)?;
    }
    if takes_v4 {
        options.need(named!(SOL_IP, IP_RECVTTL), 1)?;
    }
    Ok(())
}

/// Who may fragment a reply (ip(7), `IP_MTU_DISCOVER`).
///
/// IPv4 OMIT: replies may be fragmented on the way, and no forged ICMP shrinks the path's MTU.
/// IPv6 WANT: routers do not fragment IPv6, so what they report has to be believed. PROBE (`df`):
/// never fragmented, the device's MTU is the only limit.
fn set_fragmentation(
    options: &mut Options<'_>,
    is_v6: bool,
    takes_v4: bool,
    df: bool,
) -> Result<(), Refused> {
    let without = "the kernel decides which replies are fragmented, and may believe forged ICMP";
    if is_v6 {
        let discover = if df {
            libc::IPV6_PMTUDISC_PROBE
        } else {
            libc::IPV6_PMTUDISC_WANT
        };
        options.set(named!(SOL_IPV6, IPV6_MTU_DISCOVER), discover, df, without)?;
    }
    if takes_v4 {
        let discover = if df {
            libc::IP_PMTUDISC_PROBE
        } else {
            libc::IP_PMTUDISC_OMIT
        };
        options.set(named!(SOL_IP, IP_MTU_DISCOVER), discover, df, without)?;
    }
    Ok(())
}

/// Sets a buffer length past the system's limit where that is permitted, up to it where not.
fn set_buffer(socket: &socket2::Socket, force: i32, plain: i32, len: usize) -> io::Result<()> {
    let len = i32::try_from(len).unwrap_or(i32::MAX);
    sockopt::set_int(socket, libc::SOL_SOCKET, force, len)
        .or_else(|_| sockopt::set_int(socket, libc::SOL_SOCKET, plain, len))
}
