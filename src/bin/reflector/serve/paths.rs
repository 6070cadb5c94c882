//! Asks the kernel for the way to a peer, where replies to it have no room.

use std::io;
use std::net::SocketAddr;

use reflector::path::{Neighbour, Path, Paths};
use reflector_netlink as netlink;

/// Opens the one who asks.
///
/// # Errors
/// EPROTONOSUPPORT and the like in a sandbox without rtnetlink.
pub fn open() -> io::Result<Box<dyn Paths>> {
    Ok(Box::new(Kernel(netlink::Netlink::open()?)))
}

#[derive(Debug)]
struct Kernel(netlink::Netlink);

impl Paths for Kernel {
    fn path(&mut self, peer: SocketAddr, through: u32) -> io::Result<Path> {
        let path = self.0.path(peer, through)?;
        Ok(Path {
            interface: path.interface,
            neighbour: match path.neighbour {
                netlink::Neighbour::Resolved => Neighbour::Resolved,
                netlink::Neighbour::Unresolved => Neighbour::Unresolved,
                netlink::Neighbour::Unknown => Neighbour::Unknown,
            },
        })
    }

    fn has_route(&mut self, peer: SocketAddr, through: u32) -> io::Result<bool> {
        self.0.has_route(peer, through)
    }

    fn queue_drops(&mut self) -> io::Result<u64> {
        self.0.queue_drops()
    }
}
