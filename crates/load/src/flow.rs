//! One flow: a source port, its socket, and what became of its datagrams.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::{AsFd, BorrowedFd};

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use socket2::{Domain, Protocol, SockAddr, Socket, Type};

use crate::options::Rate;
use crate::plan::{Plan, cannot_bind};
use crate::stats::Counters;
use crate::track::Track;
use reflector_measure::error::Error;
use reflector_udp::errqueue::{self, Origin, QueuedError};
use reflector_udp::sockopt;

/// Bytes asked for all socket buffers together, and the bounds of one.
const BUFFERS_LEN: usize = 512 << 20;
const BUFFER_LEN_MAX: usize = 16 << 20;
const BUFFER_LEN_MIN: usize = 256 << 10;
/// Descriptors of this process besides its flows.
const DESCRIPTORS_BESIDES: u64 = 64;

/// Datagrams per second that a flow's memory of answers is made for where the rate is open.
const PPS_ASSUMED: f64 = 16e6;
/// Datagrams that a flow remembers, at least and at most; a bit each.
const REMEMBERED_MIN: f64 = 65_536.0;
const REMEMBERED_MAX: f64 = 1_073_741_824.0;

/// An unconnected socket with a port of its own. Unconnected, since a connected one would not be
/// given what comes from a wrong source.
#[derive(Debug)]
pub(crate) struct Flow {
    socket: Socket,
    /// Its number, which its probes carry.
    pub(crate) id: u32,
    /// The source port that the kernel chose.
    pub(crate) port: u16,
    /// What became of its datagrams.
    pub(crate) track: Track,
    /// The kernel's count of drops at this socket when counting began.
    drops_before: u32,
}

impl Flow {
    /// Opens all flows of `plan`.
    ///
    /// # Errors
    /// `EMFILE` where the limit of descriptors cannot be raised, `EADDRINUSE` where there are no
    /// more source ports, `EADDRNOTAVAIL` for an address that is none of this host's,
    /// `EAFNOSUPPORT` without IPv6.
    pub(crate) fn open_all(plan: &Plan) -> Result<Vec<Self>, Error> {
        raise_descriptor_limit(plan.flows as u64)?;
        let buffer_len = (BUFFERS_LEN / plan.flows).clamp(BUFFER_LEN_MIN, BUFFER_LEN_MAX);
        let pps = match plan.offer.rate {
            Rate::Max => PPS_ASSUMED,
            Rate::Pps(pps) => pps,
        };
        // Flows share the rate as evenly as bursts allow; twice that for when they do not.
        let share = 2.0 * pps / plan.flows as f64;
        let remembered = (share * plan.timeout.as_secs_f64() + 2.0 * f64::from(plan.burst))
            .clamp(REMEMBERED_MIN, REMEMBERED_MAX) as u64;
        (0..plan.flows as u32)
            .map(|id| {
                let socket = open(plan.target, plan.bind, buffer_len)?;
                let bound = socket.local_addr().ok().and_then(|addr| addr.as_socket());
                Ok(Self {
                    socket,
                    id,
                    port: bound.map_or(0, |addr| addr.port()),
                    track: Track::new(remembered, plan.timeout_ns()),
                    drops_before: 0,
                })
            })
            .collect()
    }

    /// What is sent from now on counts, and what was sent before does not.
    pub(crate) fn start_counting(&mut self) {
        self.track.start_counting();
        self.drops_before = sockopt::drops(self).unwrap_or(0);
    }

    /// Datagrams that the kernel dropped at this socket since counting began.
    pub(crate) fn drops(&self) -> u32 {
        let drops = sockopt::drops(self).unwrap_or(self.drops_before);
        drops.wrapping_sub(self.drops_before)
    }

    /// Empties the error queue and counts what ICMP said. Returns how many errors it was.
    pub(crate) fn take_icmp(&self, counters: &mut Counters) -> u64 {
        let mut taken = 0;
        while let Ok(Some(error)) = errqueue::next(self) {
            if let Some(name) = icmp_name(&error) {
                *counters.icmp.entry(name).or_default() += 1;
                taken += 1;
            }
        }
        taken
    }
}

impl AsFd for Flow {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

fn open(target: SocketAddr, bind: IpAddr, buffer_len: usize) -> Result<Socket, Error> {
    let socket = Socket::new(
        Domain::for_address(target),
        Type::DGRAM.nonblocking().cloexec(),
        Some(Protocol::UDP),
    )
    .map_err(|e| Error::system("cannot open a socket", &e))?;
    set_options(&socket, target.is_ipv6(), buffer_len)
        .map_err(|e| Error::system("cannot set the socket options", &e))?;
    socket
        .bind(&SockAddr::from(SocketAddr::new(bind, 0)))
        .map_err(|e| match e.kind() {
            io::ErrorKind::AddrInUse => Error::system("cannot open that many source ports", &e)
                .try_this("lower --flows, or widen net.ipv4.ip_local_port_range"),
            _ => cannot_bind(bind, &e),
        })?;
    Ok(socket)
}

fn set_options(socket: &Socket, is_v6: bool, buffer_len: usize) -> io::Result<()> {
    if is_v6 {
        socket.set_only_v6(true)?;
    }
    // Without it the kernel cuts each train that comes back.
    sockopt::enable(socket, libc::SOL_UDP, libc::UDP_GRO)?;
    sockopt::enable(socket, libc::SOL_SOCKET, libc::SO_TIMESTAMPNS)?;
    errqueue::enable(socket, is_v6)?;
    let len = i32::try_from(buffer_len).unwrap_or(i32::MAX);
    for (force, plain) in [
        (libc::SO_RCVBUFFORCE, libc::SO_RCVBUF),
        (libc::SO_SNDBUFFORCE, libc::SO_SNDBUF),
    ] {
        // Past the system's limit where that is permitted, up to it where not.
        sockopt::set_int(socket, libc::SOL_SOCKET, force, len)
            .or_else(|_| sockopt::set_int(socket, libc::SOL_SOCKET, plain, len))?;
    }
    Ok(())
}

/// Makes room for a descriptor for each flow, as far as this user may.
fn raise_descriptor_limit(flows: u64) -> Result<(), Error> {
    let needed = flows + DESCRIPTORS_BESIDES;
    let Rlimit { current, maximum } = getrlimit(Resource::Nofile);
    if current.is_none_or(|current| current >= needed) {
        return Ok(());
    }
    let raised = Rlimit {
        current: Some(needed),
        maximum: maximum.map(|maximum| maximum.max(needed)),
    };
    let raised = match maximum {
        Some(maximum) if maximum < needed => setrlimit(Resource::Nofile, raised),
        _ => setrlimit(Resource::Nofile, Rlimit { maximum, ..raised }),
    };
    raised.map_err(|e| {
        Error::system(format!("cannot open {flows} sockets"), &e.into()).try_this(format!(
            "lower --flows, or run `ulimit -n {needed}` as root"
        ))
    })
}

/// What an ICMP error says (RFC 792, RFC 1812, RFC 4443); `None` if it is none.
fn icmp_name(error: &QueuedError) -> Option<&'static str> {
    Some(match (error.origin, error.icmp_type, error.icmp_code) {
        (Origin::Icmp, 3, 0) | (Origin::Icmp6, 1, 0) => "net_unreachable",
        (Origin::Icmp, 3, 1) | (Origin::Icmp6, 1, 3) => "host_unreachable",
        (Origin::Icmp, 3, 2) => "protocol_unreachable",
        (Origin::Icmp, 3, 3) | (Origin::Icmp6, 1, 4) => "port_unreachable",
        (Origin::Icmp, 3, 4) | (Origin::Icmp6, 2, _) => "too_big",
        (Origin::Icmp, 3, 9 | 10 | 13) | (Origin::Icmp6, 1, 1) => "prohibited",
        (Origin::Icmp, 3, _) | (Origin::Icmp6, 1, _) => "other_unreachable",
        (Origin::Icmp, 11, 1) | (Origin::Icmp6, 3, 1) => "reassembly_time_exceeded",
        (Origin::Icmp, 11, _) | (Origin::Icmp6, 3, _) => "hop_limit_exceeded",
        (Origin::Icmp, 12, _) | (Origin::Icmp6, 4, _) => "parameter_problem",
        (Origin::Icmp | Origin::Icmp6, ..) => "other_icmp",
        (Origin::Local | Origin::Other(_), ..) => return None,
    })
}
