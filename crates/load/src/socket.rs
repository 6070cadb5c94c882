//! The socket of a flow, and what the system grants less than is asked for.

use std::io;

use socket2::{Domain, Protocol, SockAddr, Socket, Type};

use crate::addresses::cannot_bind;
use crate::plan::Plan;
use reflector_measure::error::Error;
use reflector_udp::{errqueue, sockopt};

/// Bytes asked for all socket buffers together, and the bounds of one.
const BUFFERS_LEN: usize = 64 << 20;
const BUFFER_LEN_MAX: usize = 16 << 20;
const BUFFER_LEN_MIN: usize = 256 << 10;

/// Opens the socket of a flow, and says what it has to do without.
///
/// # Errors
/// `EADDRINUSE` where there are no more source ports, `EADDRNOTAVAIL` for an address that is none
/// of this host's, `EAFNOSUPPORT` without IPv6.
pub(crate) fn open(plan: &Plan) -> Result<(Socket, Vec<Lack>), Error> {
    let socket = Socket::new(
        Domain::for_address(plan.target),
        Type::DGRAM.nonblocking().cloexec(),
        Some(Protocol::UDP),
    )
    .map_err(|e| Error::system("cannot open a socket", &e))?;
    let mut lacks = set_options(&socket, plan.target.is_ipv6());
    lacks.extend(set_buffers(&socket, buffer_len(plan.flows)));
    socket
        .bind(&SockAddr::from(plan.bind))
        .map_err(|e| match e.kind() {
            io::ErrorKind::AddrInUse => Error::system("cannot open that many source ports", &e)
                .try_this("lower --flows, or widen net.ipv4.ip_local_port_range"),
            _ => cannot_bind(plan.bind.ip(), &e),
        })?;
    Ok((socket, lacks))
}

/// Opens the socket of a flow, with a source port that is none of those that servers may refuse
/// while there are others; returns that. Sockets that have such a port wait in `avoided`, so that
/// the kernel does not choose it again.
///
/// # Errors
/// As [`open`].
pub(crate) fn open_avoiding(
    plan: &Plan,
    avoided: &mut Vec<(Socket, u16)>,
) -> Result<(Socket, u16), Error> {
    loop {
        let socket = match open(plan) {
            Ok((socket, _)) => socket,
            Err(error) => return avoided.pop().ok_or(error),
        };
        let bound = socket.local_addr().ok().and_then(|addr| addr.as_socket());
        let port = bound.map_or(0, |addr| addr.port());
        if !plan.avoided_ports.contains(&port) {
            return Ok((socket, port));
        }
        avoided.push((socket, port));
    }
}

/// What the sockets of `plan` have to do without, a sentence each.
///
/// # Errors
/// As [`open`].
pub(crate) fn warnings(plan: &Plan) -> Result<Vec<String>, Error> {
    let (_, lacks) = open(plan)?;
    Ok(lacks.iter().map(Lack::sentence).collect())
}

/// Something that a socket was asked to have and has not.
#[derive(Debug)]
pub(crate) enum Lack {
    /// An option that the kernel refused, what is so without it, and why.
    Option(&'static str, &'static str, io::Error),
    /// A buffer: its name, the letter of its limit, KiB granted and asked for.
    Buffer(&'static str, char, usize, usize),
}

impl Lack {
    fn sentence(&self) -> String {
        match self {
            Self::Option(name, without, error) => {
                format!("the kernel refuses {name} ({error}): {without}")
            }
            Self::Buffer(name, limit, granted, asked) => format!(
                "each flow's {name} buffer has {granted} of {asked} KiB: a burst can be more; \
                 raise net.core.{limit}mem_max, or run with CAP_NET_ADMIN"
            ),
        }
    }
}

/// Sets what makes a socket faster, or tells more.
fn set_options(socket: &Socket, is_v6: bool) -> Vec<Lack> {
    let mut lacks = Vec::new();
    let mut lack = |name, without, result: io::Result<()>| {
        lacks.extend(result.err().map(|e| Lack::Option(name, without, e)));
    };
    if is_v6 {
        let result = socket.set_only_v6(true);
        lack("IPV6_V6ONLY", "source ports are shared with IPv4", result);
    }
    let result = sockopt::enable(socket, libc::SOL_UDP, libc::UDP_GRO);
    let without = "trains that come back are received one by one, which takes more CPU";
    lack("UDP_GRO", without, result);
    let result = sockopt::enable(socket, libc::SOL_SOCKET, libc::SO_TIMESTAMPNS);
    let without = "round trips end when an answer is read, which may be late";
    lack("SO_TIMESTAMPNS", without, result);
    let name = if is_v6 { "IPV6_RECVERR" } else { "IP_RECVERR" };
    let without = "what ICMP says of the target is not seen";
    lack(name, without, errqueue::enable(socket, is_v6));
    lacks
}

/// Asks for buffers of `len` bytes each, past the system's limit where that is permitted, up to it
/// where not.
fn set_buffers(socket: &Socket, len: usize) -> Vec<Lack> {
    let value = i32::try_from(len).unwrap_or(i32::MAX);
    let set = |option| sockopt::set_int(socket, libc::SOL_SOCKET, option, value);
    // What cannot be set is seen in what is there.
    let _ = set(libc::SO_RCVBUFFORCE).or_else(|_| set(libc::SO_RCVBUF));
    let _ = set(libc::SO_SNDBUFFORCE).or_else(|_| set(libc::SO_SNDBUF));
    let lack = |name, limit, counted: io::Result<usize>| {
        // The kernel counts twice the bytes, for its own book-keeping (socket(7)).
        let granted = counted.unwrap_or(0) / 2;
        (granted < len).then_some(Lack::Buffer(name, limit, granted >> 10, len >> 10))
    };
    let receive = lack("receive", 'r', socket.recv_buffer_size());
    let send = lack("send", 'w', socket.send_buffer_size());
    receive.into_iter().chain(send).collect()
}

/// Bytes asked for each buffer where there are so many flows.
fn buffer_len(flows: usize) -> usize {
    (BUFFERS_LEN / flows).clamp(BUFFER_LEN_MIN, BUFFER_LEN_MAX)
}
