//! Opening one socket of the reflector.

mod adopt;
mod bind;
mod detour;
mod options;

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use socket2::{Domain, Protocol, SockAddr, Type};

use crate::datagram::Endpoint;
use bind::{bind, bind_device, refuse_broadcast, try_bind};
use options::set_options;
pub use options::{Lack, Settings};
use reflector_measure::error::Error;
use reflector_udp::{errqueue, sockopt};

/// Whom replies that name no source would come from: the dummy address of IPv4, which no host has
/// and no router forwards (RFC 7600).
const NOBODY: Ipv4Addr = Ipv4Addr::new(192, 0, 0, 8);
/// The same of IPv6: an address of the prefix that is discarded (RFC 6666).
const NOBODY_V6: Ipv6Addr = Ipv6Addr::new(0x100, 0, 0, 0, 0, 0, 0, 1);

/// A bound, non-blocking UDP socket.
#[derive(Debug)]
pub struct Socket {
    inner: socket2::Socket,
    endpoint: Endpoint,
    settings: Settings,
    /// The interface that it is bound to, if to one.
    interface: Option<String>,
    /// The options that the kernel refuses.
    lacks: Vec<Lack>,
    /// What [`drops`](Self::drops) was when it became ours.
    first_drops: u32,
    /// Whether another user has opened it, with whom no port is shared.
    is_foreign: bool,
}

impl Socket {
    /// Opens a socket, sets its options and binds it to `addr`.
    ///
    /// Only the first of a group finds the port taken if it is: it is bound plainly and joins the
    /// group afterwards, while the others bind with `SO_REUSEPORT` from the start. With
    /// `SO_REUSEPORT` on all of them a second reflector would take a share of the peers unnoticed.
    ///
    /// # Errors
    /// `EADDRINUSE`, `EADDRNOTAVAIL`, `EACCES`, `ENODEV`, `EPERM`, `EMFILE`, each with what to try;
    /// a broadcast address.
    pub fn open(addr: SocketAddr, is_first: bool, settings: &Settings) -> Result<Self, Error> {
        let cannot = |what: &str| format!("cannot {what} for {addr}");
        let inner = new_socket(addr).map_err(|e| Error::system(cannot("open a socket"), &e))?;
        let endpoint = Endpoint {
            addr,
            has_pktinfo: addr.ip().is_unspecified() || settings.same_interface,
            same_interface: settings.same_interface,
        };
        let lacks = set_options(&inner, &endpoint, settings).map_err(|refused| {
            let what = cannot(&format!("set the socket option {}", refused.option));
            Error::system(what, &refused.error)
        })?;
        if let Some(device) = &settings.device {
            bind_device(&inner, device)?;
        }
        if settings.share_port || (settings.is_grouped && !is_first) {
            inner
                .set_reuse_port(true)
                .map_err(|e| Error::system(cannot("share the port (SO_REUSEPORT)"), &e))?;
        }
        bind(&inner, addr)?;
        if settings.is_grouped && is_first && !settings.share_port {
            inner
                .set_reuse_port(true)
                .map_err(|e| Error::system(cannot("share the port (SO_REUSEPORT)"), &e))?;
        }
        refuse_broadcast(addr)?;
        let bound = inner.local_addr().ok().and_then(|addr| addr.as_socket());
        Ok(Self {
            inner,
            endpoint: Endpoint {
                addr: bound.unwrap_or(addr),
                ..endpoint
            },
            settings: settings.clone(),
            interface: settings.device.clone().or_else(|| scope(addr)),
            lacks,
            first_drops: 0,
            is_foreign: false,
        })
    }

    /// Opens a socket that only sends, by the same port; `None` where this one has to do it.
    ///
    /// What leaves a socket walks the queue of those who wait at it (`sock_wfree`,
    /// net/core/sock.c), and an armed receive waits there for good. At this one nobody does. It is
    /// bound to an address that no host has ([`NOBODY`], [`NOBODY_V6`]), so that the kernel chooses
    /// it for nobody's datagrams, and it is not connected, so that no ICMP error becomes its own
    /// (`__udp4_lib_err`, net/ipv4/udp.c): those can be forged. The source of what it sends is
    /// named by the control messages, which only the replies of a wildcard socket have.
    ///
    /// # Errors
    /// `EMFILE`, `EADDRINUSE`; `ENOMEM` beyond net.core.optmem_max.
    pub fn open_sender(&self) -> io::Result<Option<Self>> {
        let Self {
            endpoint, settings, ..
        } = self;
        if !endpoint.is_wildcard() || settings.dual_stack || settings.device.is_some() {
            return Ok(None);
        }
        let nobody: IpAddr = match endpoint.addr {
            SocketAddr::V4(_) => NOBODY.into(),
            SocketAddr::V6(_) => NOBODY_V6.into(),
        };
        let addr = SocketAddr::new(nobody, endpoint.addr.port());
        let inner = new_socket(addr)?;
        let sending = Settings {
            freebind: true,
            ..settings.clone()
        };
        let lacks = set_options(&inner, endpoint, &sending)?;
        sockopt::reject_new(&inner)?;
        self.bind_beside(&inner, addr)?;
        Ok(Some(Self {
            inner,
            endpoint: *endpoint,
            settings: settings.clone(),
            interface: None,
            lacks,
            first_drops: 0,
            is_foreign: false,
        }))
    }

    /// Opens a socket that only sends IPv4 datagrams, by the same port, in fragments of the route's
    /// MTU (IP_PMTUDISC_DONT, ip(7)); `None` where this one has no IPv4 peers.
    ///
    /// Such a socket believes an ICMP error about its own datagrams, forged or not. So it has none
    /// of its own: it is bound to one address of 127.0.0.0/8 and connected to another, with a port,
    /// all of them random, and an error is a socket's only where it quotes these
    /// (`__udp4_lib_err`, net/ipv4/udp.c). What it sends names its source and its destination.
    ///
    /// # Errors
    /// `EMFILE`, `EADDRINUSE`; `ENOMEM` beyond net.core.optmem_max.
    pub fn open_fragmenter(&self) -> io::Result<Option<OwnedFd>> {
        let settings = &self.settings;
        if self.endpoint.addr.is_ipv6() && !settings.dual_stack {
            return Ok(None);
        }
        let mut random = [0; 8];
        rustix::rand::getrandom(&mut random, rustix::rand::GetRandomFlags::empty())?;
        let [a, b, c, d, e, f, high, low] = random;
        let port = self.endpoint.addr.port();
        // What it sends to has the form that this socket received.
        let of_family = |ip: Ipv4Addr| match self.endpoint.addr {
            SocketAddr::V4(_) => IpAddr::from(ip),
            SocketAddr::V6(_) => ip.to_ipv6_mapped().into(),
        };
        let own = SocketAddr::new(of_family(Ipv4Addr::new(127, a, b, c | 1)), port);
        let peer = of_family(Ipv4Addr::new(127, d, e, f | 1));
        let peer = SocketAddr::new(peer, u16::from_be_bytes([high, low]) | 1);
        let inner = new_socket(own)?;
        let endpoint = Endpoint {
            addr: own,
            has_pktinfo: false,
            same_interface: false,
        };
        let sending = Settings {
            dual_stack: settings.dual_stack,
            send_buffer_len: settings.send_buffer_len,
            ..Settings::default()
        };
        set_options(&inner, &endpoint, &sending)?;
        sockopt::set_int(
            &inner,
            libc::SOL_IP,
            libc::IP_MTU_DISCOVER,
            libc::IP_PMTUDISC_DONT,
        )?;
        sockopt::reject_new(&inner)?;
        self.bind_beside(&inner, own)?;
        inner.connect(&SockAddr::from(peer))?;
        if let Some(device) = &settings.device {
            inner.bind_device(Some(device.as_bytes()))?;
        }
        Ok(Some(inner.into()))
    }

    /// Binds `other` to `addr`, which has the port of this socket and is none that it is asked at.
    ///
    /// A port is shared by all who agree: where there is no group, only until it is bound.
    fn bind_beside(&self, other: &socket2::Socket, addr: SocketAddr) -> io::Result<()> {
        if self.is_foreign {
            // What the kernel would say as well, though only after having been asked for a while.
            return Err(io::Error::from_raw_os_error(libc::EADDRINUSE));
        }
        let is_shared = self.inner.reuse_port()?;
        self.inner.set_reuse_port(true)?;
        other.set_reuse_port(true)?;
        let bound = try_bind(other, addr);
        other.set_reuse_port(is_shared)?;
        self.inner.set_reuse_port(is_shared)?;
        bound
    }

    /// The interface that it is bound to, by `--device` or by the scope of its address.
    pub fn interface(&self) -> Option<&str> {
        self.interface.as_deref()
    }

    /// Binds it anew to its interface, if to one. The kernel knows interfaces by number, and one
    /// that has been deleted and made again under its name has another: until then the socket is
    /// deaf. What is queued, and a receive that is armed, stay.
    ///
    /// # Errors
    /// `ENODEV` where the interface has gone again, `EPERM` without CAP_NET_RAW
    /// (`sock_bindtoindex_locked`, net/core/sock.c).
    pub fn rebind(&self) -> io::Result<()> {
        match &self.interface {
            Some(name) => self.inner.bind_device(Some(name.as_bytes())),
            None => Ok(()),
        }
    }

    /// The options that it does without.
    pub fn lacks(&self) -> &[Lack] {
        &self.lacks
    }

    /// What the datagram path needs to know of it.
    pub fn endpoint(&self) -> Endpoint {
        self.endpoint
    }

    /// Makes the kernel prefer this socket of its group for datagrams that it handles on `cpu`
    /// (`SO_INCOMING_CPU`, socket(7)).
    ///
    /// # Errors
    /// `ENOPROTOOPT` before Linux 4.4.
    pub fn steer_to(&self, cpu: usize) -> io::Result<()> {
        self.inner.set_cpu_affinity(cpu)
    }

    /// From now on the kernel tells the hop limit of each datagram.
    ///
    /// # Errors
    /// `ENOPROTOOPT` on a kernel that does not know the option.
    pub fn tell_hop_limits(&self) -> io::Result<()> {
        let takes_v4 = self.endpoint.addr.is_ipv4() || self.settings.dual_stack;
        options::tell_hop_limits(&self.inner, self.endpoint.addr.is_ipv6(), takes_v4)?;
        Ok(())
    }

    /// Bytes that may wait to be received, as the kernel counts them.
    pub fn receive_buffer_len(&self) -> usize {
        self.inner.recv_buffer_size().unwrap_or(0)
    }

    /// The same of those that may wait to be sent.
    pub fn send_buffer_len(&self) -> usize {
        self.inner.send_buffer_size().unwrap_or(0)
    }

    /// Datagrams that the kernel dropped here since the socket was opened, modulo 2³²; `None` if it
    /// does not tell.
    pub fn drops(&self) -> Option<u32> {
        sockopt::drops(self).ok()
    }

    /// Bytes that datagrams take which nobody has received, as the kernel counts them; 0 if it does
    /// not tell.
    pub fn queued_bytes(&self) -> u32 {
        sockopt::queued_bytes(self).unwrap_or(0)
    }

    /// What [`drops`](Self::drops) was when the socket became ours: not 0 where another process
    /// opened it.
    pub fn first_drops(&self) -> u32 {
        self.first_drops
    }

    /// Refuses every new datagram; what is queued stays.
    ///
    /// # Errors
    /// `ENOMEM` beyond net.core.optmem_max.
    pub fn reject_new(&self) -> io::Result<()> {
        sockopt::reject_new(self)
    }
}

/// How datagrams come and go that have one socket's index.
#[derive(Debug)]
pub struct SocketPair {
    /// The socket that they are received by.
    pub receiver: Socket,
    /// The one that replies leave by, where that is another.
    pub sender: Option<Socket>,
}

impl SocketPair {
    /// The socket that replies leave by.
    pub fn sender(&self) -> &Socket {
        self.sender.as_ref().unwrap_or(&self.receiver)
    }
}

impl AsFd for Socket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.inner.as_fd()
    }
}

fn new_socket(addr: SocketAddr) -> io::Result<socket2::Socket> {
    let kind = Type::DGRAM.nonblocking().cloexec();
    socket2::Socket::new(Domain::for_address(addr), kind, Some(Protocol::UDP))
}

/// The name of the interface that a link-local `addr` belongs to.
fn scope(addr: SocketAddr) -> Option<String> {
    match addr {
        SocketAddr::V4(_) => None,
        SocketAddr::V6(addr) => interface_name(addr.scope_id()),
    }
}

/// The name of the interface with the index `index`, which is none if it is 0.
pub fn interface_name(index: u32) -> Option<String> {
    let index = Some(index).filter(|&index| index != 0)?;
    let any = new_socket((Ipv4Addr::UNSPECIFIED, 0).into()).ok()?;
    rustix::net::netdevice::index_to_name(any, index).ok()
}

/// Tries whether replies can be stamped when they leave.
///
/// # Errors
/// `EINVAL` before Linux 6.12.
pub fn try_stamps() -> io::Result<()> {
    let any = std::net::UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0))?;
    errqueue::enable_stamps(&any)
}

/// Whether this host has IPv6 at all.
pub fn has_ipv6() -> bool {
    std::net::UdpSocket::bind((Ipv6Addr::UNSPECIFIED, 0)).is_ok()
}

#[cfg(test)]
mod tests {
    use std::net::UdpSocket;

    use super::*;

    #[test]
    fn a_sender_gets_no_datagram_and_lets_nobody_else_in() {
        let settings = Settings::default();
        for (addr, loopback) in [("0.0.0.0:0", "127.0.0.1"), ("[::]:0", "::1")] {
            let socket = Socket::open(addr.parse().unwrap(), true, &settings).unwrap();
            let sender = socket.open_sender().unwrap().expect("it is a wildcard");
            let port = socket.endpoint().addr.port();
            let own = sender.inner.local_addr().unwrap().as_socket().unwrap();
            assert_eq!(own.port(), port);
            assert!(sender.inner.peer_addr().is_err(), "it is not connected");

            let loopback: IpAddr = loopback.parse().unwrap();
            let asked = SocketAddr::new(loopback, port);
            let peer = UdpSocket::bind(SocketAddr::new(loopback, 0)).unwrap();
            peer.send_to(b"ping", asked).unwrap();
            let mut buffer = [std::mem::MaybeUninit::uninit(); 8];
            assert_eq!(socket.inner.recv(&mut buffer).unwrap(), 4);
            let nothing = sender.inner.recv(&mut buffer).unwrap_err();
            assert_eq!(nothing.kind(), io::ErrorKind::WouldBlock);

            let other = new_socket(asked).unwrap();
            other.set_reuse_port(true).unwrap();
            let taken = other.bind(&SockAddr::from(socket.endpoint().addr));
            assert_eq!(taken.unwrap_err().raw_os_error(), Some(libc::EADDRINUSE));
        }
    }

    #[test]
    fn where_no_control_message_names_the_source_there_is_no_sender() {
        let settings = Settings::default();
        let socket = Socket::open("127.0.0.1:0".parse().unwrap(), true, &settings).unwrap();
        assert!(socket.open_sender().unwrap().is_none());
    }
}
