//! Where client and server live: two network namespaces, joined in one way or another.

use std::fmt;
use std::io;
use std::net::Ipv4Addr;

use clap::ValueEnum;
use reflector_netlab::topology::{Namespace, net};

/// The server's device, which has its address.
pub const LINK: &str = "link0";
/// The server's address.
pub const SERVER: Ipv4Addr = Ipv4Addr::new(10, 77, 0, 1);

/// How the two are joined.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Topology {
    /// A veth pair.
    Veth,
    /// A bridge in the server's namespace, as docker0 is for a container that asks its host.
    Bridge,
}

impl fmt::Display for Topology {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Veth => "a veth pair",
            Self::Bridge => "a bridge",
        })
    }
}

/// Both namespaces.
pub struct Network {
    /// Where the server runs.
    pub server: Namespace,
    /// Where the generator runs.
    pub client: Namespace,
}

impl Network {
    /// Makes both, joined.
    ///
    /// # Errors
    /// What the kernel says; EPERM without root.
    pub fn new(topology: Topology) -> io::Result<Self> {
        let (server, client) = (Namespace::new()?, Namespace::new()?);
        match topology {
            Topology::Veth => server.add_veth(LINK, &client, "eth0")?,
            Topology::Bridge => {
                server.add_bridge(LINK)?;
                server.add_veth("v0", &client, "eth0")?;
                server.set_master("v0", LINK)?;
                server.set_up("v0")?;
            }
        }
        server.add_address(LINK, net("10.77.0.1/24"))?;
        client.add_address("eth0", net("10.77.0.2/24"))?;
        server.set_up(LINK)?;
        client.set_up("eth0")?;
        client.wait_ready("eth0")?;
        Ok(Self { server, client })
    }
}
