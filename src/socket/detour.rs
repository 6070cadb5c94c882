//! Sockets for replies that another one has no room for.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::fd::OwnedFd;

use super::{Settings, Socket, new_socket, set_options};
use reflector_udp::sockopt;

/// Whom replies that name no source would come from: an address of the prefix that is kept for
/// protocols, and not given to any (RFC 6890).
fn nobody(lane: u8) -> Ipv4Addr {
    Ipv4Addr::new(192, 0, 0, 128 + lane)
}

/// The same of IPv6: of the prefix that is discarded (RFC 6666).
fn nobody_v6(lane: u8) -> Ipv6Addr {
    Ipv6Addr::new(0x100, 0, 0, 0, 0, 0, 1, u16::from(lane))
}

impl Socket {
    /// Opens a socket with a send buffer of its own that only sends, by the same port, to IPv6
    /// peers or to IPv4 peers, as this one has them. There is one for each `lane`.
    ///
    /// It is bound to an address that no host has, and not connected, for the reasons of
    /// [`open_sender`](Self::open_sender). What it sends names its source.
    ///
    /// # Errors
    /// `EMFILE`, `EADDRINUSE`; `ENOMEM` beyond net.core.optmem_max.
    pub fn open_detour(&self, to_ipv6: bool, lane: u8) -> io::Result<OwnedFd> {
        let nobody: IpAddr = match (self.endpoint.addr, to_ipv6) {
            (SocketAddr::V4(_), _) => nobody(lane).into(),
            // What it sends to has the form that this socket received.
            (SocketAddr::V6(_), false) => nobody(lane).to_ipv6_mapped().into(),
            (SocketAddr::V6(_), true) => nobody_v6(lane).into(),
        };
        let addr = SocketAddr::new(nobody, self.endpoint.addr.port());
        let inner = new_socket(addr)?;
        let sending = Settings {
            dual_stack: self.settings.dual_stack && !to_ipv6,
            df: self.settings.df,
            freebind: true,
            send_buffer_len: self.settings.send_buffer_len,
            ..Settings::default()
        };
        set_options(&inner, &self.endpoint, &sending)?;
        sockopt::reject_new(&inner)?;
        self.bind_beside(&inner, addr)?;
        if let Some(device) = &self.settings.device {
            inner.bind_device(Some(device.as_bytes()))?;
        }
        Ok(inner.into())
    }

    /// Whether it has IPv4 peers, and whether it has IPv6 peers.
    pub fn families(&self) -> [bool; 2] {
        let is_v6 = self.endpoint.addr.is_ipv6();
        [!is_v6 || self.settings.dual_stack, is_v6]
    }
}
