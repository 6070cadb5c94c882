//! What the kernel says of this host, asked whenever something has changed.

use std::io;

use reflector_netlink::ethtool::Ethtool;
use reflector_netlink::{Address, Family, Link, Netlink, Route};

/// What can be asked of a host; a table in tests.
pub trait Host {
    /// All its devices.
    ///
    /// # Errors
    /// ENOBUFS, ENOMEM.
    fn links(&mut self) -> io::Result<Vec<Link>>;

    /// All its addresses.
    ///
    /// # Errors
    /// ENOBUFS, ENOMEM.
    fn addresses(&mut self) -> io::Result<Vec<Address>>;

    /// Its routes of `family`, or `None` where not all packets go by these alone (ip-rule(8)).
    ///
    /// # Errors
    /// ENOBUFS, ENOMEM.
    fn routes(&mut self, family: Family) -> io::Result<Option<Vec<Route>>>;

    /// Whether the device with this number merges datagrams into lists of frames.
    ///
    /// # Errors
    /// ENODEV when there is no such device.
    fn merges_lists(&mut self, index: u32) -> io::Result<bool>;
}

/// The network namespace of the thread that opened it.
#[derive(Debug)]
pub struct Namespace {
    netlink: Netlink,
    ethtool: Ethtool,
}

impl Namespace {
    /// That of the calling thread.
    ///
    /// # Errors
    /// ENOENT where the kernel has no ethtool-netlink; EPROTONOSUPPORT and the like in a sandbox.
    pub fn open() -> io::Result<Self> {
        Ok(Self {
            netlink: Netlink::open()?,
            ethtool: Ethtool::open()?,
        })
    }
}

impl Host for Namespace {
    fn links(&mut self) -> io::Result<Vec<Link>> {
        self.netlink.links()
    }

    fn addresses(&mut self) -> io::Result<Vec<Address>> {
        self.netlink.addresses()
    }

    fn routes(&mut self, family: Family) -> io::Result<Option<Vec<Route>>> {
        if self.netlink.has_rules(family)? {
            return Ok(None);
        }
        self.netlink.routes(family).map(Some)
    }

    fn merges_lists(&mut self, index: u32) -> io::Result<bool> {
        self.ethtool.is_active_at(index, "rx-gro-list")
    }
}
