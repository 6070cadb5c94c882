//! Asks the kernel for the way to a peer, where replies to it have no room.

use std::io;
use std::net::SocketAddr;

use reflector::path::{Path, Paths};
use reflector_netlink::Netlink;

/// Opens the one who asks.
///
/// # Errors
/// EPROTONOSUPPORT and the like in a sandbox without rtnetlink.
pub fn open() -> io::Result<Box<dyn Paths>> {
    Ok(Box::new(Kernel(Netlink::open()?)))
}

#[derive(Debug)]
struct Kernel(Netlink);

impl Paths for Kernel {
    fn path(&mut self, peer: SocketAddr, through: u32) -> io::Result<Path> {
        self.0.path(peer, through)
    }

    fn has_route(&mut self, peer: SocketAddr, through: u32) -> io::Result<bool> {
        self.0.has_route(peer, through)
    }

    fn queue_drops(&mut self) -> io::Result<u64> {
        self.0.queue_drops()
    }
}
