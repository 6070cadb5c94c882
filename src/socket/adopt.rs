//! Sockets that another process has opened.

use std::net::SocketAddr;
use std::os::fd::OwnedFd;

use rustix::fs::fstat;
use rustix::process::geteuid;
use socket2::{Domain, Protocol, Type};

use super::options::{clear_options, set_bound_options};
use super::{Settings, Socket, refuse_broadcast, scope};
use crate::datagram::Endpoint;
use reflector_measure::error::Error;
use reflector_udp::sockopt;

impl Socket {
    /// Takes a UDP socket that is bound to `addr`, and sets its options as if it had been opened
    /// here. What is queued stays.
    ///
    /// # Errors
    /// It is no such socket; it is connected, of one family where both are asked for or the other
    /// way round, or bound to another interface than is asked for.
    pub fn adopt(fd: OwnedFd, addr: SocketAddr, settings: &Settings) -> Result<Self, Error> {
        let inner = socket2::Socket::from(fd);
        let refuse = |said: String| Error::new(format!("cannot take the socket of {addr}"), said);
        let system = |what: &str, e: &_| Error::system(format!("cannot {what} for {addr}"), e);
        if let Some(said) = unfit(&inner, addr, settings) {
            return Err(refuse(said));
        }
        let endpoint = Endpoint {
            addr,
            has_pktinfo: addr.ip().is_unspecified() || settings.same_interface,
            same_interface: settings.same_interface,
        };
        refuse_broadcast(addr)?;
        (inner.set_nonblocking(true))
            .and_then(|()| inner.set_cloexec(true))
            .and_then(|()| clear_options(&inner, settings))
            .map_err(|e| system("set up a socket that was handed over", &e))?;
        // Whoever opened it may have had the right to more than we have.
        let granted = [inner.recv_buffer_size(), inner.send_buffer_size()];
        let [receive, send] = granted.map(|it| it.unwrap_or(0) / 2);
        let lacking = Settings {
            receive_buffer_len: settings.receive_buffer_len.filter(|&len| len > receive),
            send_buffer_len: settings.send_buffer_len.filter(|&len| len > send),
            ..settings.clone()
        };
        let lacks = set_bound_options(&inner, &endpoint, &lacking)
            .map_err(|it| system(&format!("set the socket option {}", it.option), &it.error))?;
        if settings.is_grouped || settings.share_port {
            inner
                .set_reuse_port(true)
                .map_err(|e| system("share the port (SO_REUSEPORT)", &e))?;
        }
        // The kernel shares a port among the sockets of one user.
        let owner = fstat(&inner).map(|it| it.st_uid);
        let is_foreign = owner.is_ok_and(|owner| owner != geteuid().as_raw());
        let first_drops = sockopt::drops(&inner).unwrap_or(0);
        Ok(Self {
            inner,
            endpoint,
            settings: settings.clone(),
            interface: settings.device.clone().or_else(|| scope(addr)),
            lacks,
            first_drops,
            is_foreign,
        })
    }

    /// Takes `fd`, which another process has [opened](Self::open_sender) for the replies of this
    /// one; `None` where it does not do for that.
    pub fn adopt_sender(&self, fd: OwnedFd) -> Option<Self> {
        let inner = socket2::Socket::from(fd);
        let bound = inner.local_addr().ok()?.as_socket()?;
        if bound.port() != self.endpoint.addr.port() || inner.peer_addr().is_ok() {
            return None;
        }
        let settings = Settings {
            freebind: true,
            ..self.settings.clone()
        };
        let lacks = set_bound_options(&inner, &self.endpoint, &settings).ok()?;
        Some(Self {
            inner,
            endpoint: self.endpoint,
            settings: self.settings.clone(),
            interface: None,
            lacks,
            first_drops: 0,
            is_foreign: false,
        })
    }
}

/// Why `socket` cannot be received from as `settings` ask for.
fn unfit(socket: &socket2::Socket, addr: SocketAddr, settings: &Settings) -> Option<String> {
    let is = |kind: Type| socket.r#type().is_ok_and(|it| it == kind);
    if !is(Type::DGRAM) || socket.protocol().ok().flatten() != Some(Protocol::UDP) {
        return Some("it is no UDP socket".to_owned());
    }
    let bound = socket.local_addr().ok().and_then(|addr| addr.as_socket());
    if socket.domain().ok() != Some(Domain::for_address(addr)) || bound != Some(addr) {
        let bound = bound.map_or("nothing".to_owned(), |bound| bound.to_string());
        return Some(format!("it is bound to {bound}"));
    }
    if let Some(peer) = socket.peer_addr().ok().and_then(|peer| peer.as_socket()) {
        return Some(format!("it is connected to {peer}"));
    }
    if addr.is_ipv6() && socket.only_v6().is_ok_and(|it| it == settings.dual_stack) {
        return Some(match settings.dual_stack {
            true => "it is of IPv6 only, and --dual-stack asks for both".to_owned(),
            false => "it is of both families, which takes --dual-stack".to_owned(),
        });
    }
    let device = socket.device().ok().flatten();
    let device = device.map(|name| String::from_utf8_lossy(&name).into_owned());
    // The scope of an address binds the socket as well.
    let wanted = settings.device.clone().or_else(|| scope(addr));
    (device != wanted).then(|| match device {
        Some(device) => format!("it is bound to the interface {device}, which --device may name"),
        None => "it is bound to no interface, and --device asks for one".to_owned(),
    })
}
