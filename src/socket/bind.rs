//! Binding a socket to its address and interface, and what to try where that fails.

use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::Duration;

use socket2::SockAddr;

use reflector_measure::clock;
use reflector_measure::dad::{self, Unusable};
use reflector_measure::error::Error;
use reflector_udp::wake::Wake;

/// How long a port that is taken is tried: a process that was killed has its ring closed after its
/// end, and the sockets that the ring was receiving from with it, some 30 to 70 ms later.
const TAKEN_MAX: Duration = Duration::from_millis(500);

/// Binds `socket` to `addr`. A port that is taken is tried again for half a second.
///
/// # Errors
/// `EADDRINUSE`, `EADDRNOTAVAIL`, `EACCES` (bind(2)).
pub fn try_bind(socket: &socket2::Socket, addr: SocketAddr) -> io::Result<()> {
    const PAUSE: Duration = Duration::from_millis(10);
    let until = clock::monotonic() + TAKEN_MAX;
    loop {
        match socket.bind(&SockAddr::from(addr)) {
            Err(error)
                if error.raw_os_error() == Some(libc::EADDRINUSE) && clock::monotonic() < until =>
            {
                // Nobody wakes it: what is waited for is the kernel.
                Wake::open()?.wait(Some(PAUSE));
            }
            result => return result,
        }
    }
}

/// The same, for an address that the user has named. An IPv6 address that this host is still trying
/// is waited for.
///
/// # Errors
/// As [`try_bind`], each with what to try.
pub fn bind(socket: &socket2::Socket, addr: SocketAddr) -> Result<(), Error> {
    let mut bound = try_bind(socket, addr);
    if is_not_available(&bound)
        && let SocketAddr::V6(v6) = addr
        && unusable(addr) == Some(Unusable::Tentative)
    {
        let wake = Wake::open().map_err(|e| bind_error(addr, e))?;
        dad::waited_for(*v6.ip(), v6.scope_id(), |pause| {
            wake.wait(Some(pause));
        });
        bound = try_bind(socket, addr);
    }
    bound.map_err(|e| bind_error(addr, e))
}

/// Why `addr`, which is one of this host's, cannot be used.
fn unusable(addr: SocketAddr) -> Option<Unusable> {
    match addr {
        SocketAddr::V4(_) => None,
        SocketAddr::V6(v6) => dad::unusable(*v6.ip(), v6.scope_id()),
    }
}

fn is_not_available(bound: &io::Result<()>) -> bool {
    let error = bound.as_ref().err();
    error.is_some_and(|e| e.raw_os_error() == Some(libc::EADDRNOTAVAIL))
}

/// Binds `socket` to the interface `device`.
///
/// # Errors
/// `ENODEV`, `EPERM`, each with what to try.
pub fn bind_device(socket: &socket2::Socket, device: &str) -> Result<(), Error> {
    socket.bind_device(Some(device.as_bytes())).map_err(|e| {
        let error = Error::system(format!("cannot bind to the interface {device}"), &e);
        match e.raw_os_error() {
            Some(libc::ENODEV) => error.try_this("`ip link` lists the interfaces of this host"),
            Some(libc::EPERM) => error.try_this("binding to an interface needs CAP_NET_RAW"),
            _ => error,
        }
    })
}

fn bind_error(addr: SocketAddr, e: io::Error) -> Error {
    let error = Error::system(format!("cannot bind {addr}"), &e);
    match e.raw_os_error() {
        Some(libc::EADDRINUSE) => error.try_this(format!(
            "another program has the port: `ss -lunp 'sport = {}'` shows which; --share-port \
             shares it with one that agrees",
            addr.port()
        )),
        Some(libc::EACCES) => error.try_this(
            "a port below 1024 needs CAP_NET_BIND_SERVICE, or a lower \
             net.ipv4.ip_unprivileged_port_start",
        ),
        Some(libc::EADDRNOTAVAIL) => error.try_this(unusable(addr).map_or(
            "this host does not have the address: `ip addr` lists those it has; --freebind binds \
             one that comes later",
            Unusable::remedy,
        )),
        Some(libc::EINVAL) if addr.is_ipv6() => {
            error.try_this("a link-local address needs its interface, as in [fe80::1%eth0]:9007")
        }
        _ => error,
    }
}

/// Refuses a broadcast or multicast address: the kernel would choose the source of every reply.
///
/// # Errors
/// That it is one.
pub fn refuse_broadcast(addr: SocketAddr) -> Result<(), Error> {
    let IpAddr::V4(ip) = addr.ip() else {
        return Ok(());
    };
    if ip.is_unspecified() {
        return Ok(());
    }
    // Only the routing table knows the directed broadcast addresses: connecting to one without
    // SO_BROADCAST is refused with EACCES.
    let probe = std::net::UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0));
    match probe.and_then(|probe| probe.connect((ip, 9))) {
        Err(e) if e.raw_os_error() == Some(libc::EACCES) => Err(Error::new(
            format!("cannot reflect on {addr}"),
            "it is a broadcast address",
        )
        .try_this("listen on the interface's own address or on 0.0.0.0")),
        _ => Ok(()),
    }
}
