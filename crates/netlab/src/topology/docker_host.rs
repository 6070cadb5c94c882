//! The network of moby#15127, ready made.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::IpNet;

use super::namespace::Namespace;
use super::nft::{NftError, nft};
use super::route::Route;

/// The network of moby#15127: a host with a bridge, a container behind it, a host outside.
///
/// ```text
///  container                        host                          outside
///  eth0 172.17.0.3/16 ──▶ veth1 ─ docker0 172.17.0.1/16
///       fd17::3/64                fd17::1/64
///                                 eth0 172.16.13.13/24 ◀──▶ eth0 172.16.13.2/24, .3/24
///                                      fd13::13/64               fd13::2/64
/// ```
///
/// The container's default routes lead to docker0; the host forwards both families; outside
/// knows the way back to the container, so that NAT is a choice ([`DockerHost::masquerade`]).
#[derive(Debug)]
pub struct DockerHost {
    /// The machine with docker0 and eth0, which runs the server.
    pub host: Namespace,
    /// The container behind docker0; its end of the link is eth0, the host's is veth1.
    pub container: Namespace,
    /// A machine on the host's uplink, with two IPv4 addresses.
    pub outside: Namespace,
}

impl DockerHost {
    /// docker0's IPv4 address: the wrong source.
    pub const DOCKER0: Ipv4Addr = Ipv4Addr::new(172, 17, 0, 1);
    /// docker0's IPv6 address.
    pub const DOCKER0_V6: Ipv6Addr = Ipv6Addr::new(0xfd17, 0, 0, 0, 0, 0, 0, 1);
    /// The host's other IPv4 address, the one that the container asks.
    pub const HOST: Ipv4Addr = Ipv4Addr::new(172, 16, 13, 13);
    /// The host's other IPv6 address.
    pub const HOST_V6: Ipv6Addr = Ipv6Addr::new(0xfd13, 0, 0, 0, 0, 0, 0, 0x13);
    /// The container's IPv4 address.
    pub const CONTAINER: Ipv4Addr = Ipv4Addr::new(172, 17, 0, 3);
    /// The container's IPv6 address.
    pub const CONTAINER_V6: Ipv6Addr = Ipv6Addr::new(0xfd17, 0, 0, 0, 0, 0, 0, 3);
    /// The first IPv4 address outside, which the kernel there prefers as source.
    pub const OUTSIDE: Ipv4Addr = Ipv4Addr::new(172, 16, 13, 2);
    /// The second IPv4 address outside.
    pub const OUTSIDE_SECOND: Ipv4Addr = Ipv4Addr::new(172, 16, 13, 3);
    /// The IPv6 address outside.
    pub(crate) const OUTSIDE_V6: Ipv6Addr = Ipv6Addr::new(0xfd13, 0, 0, 0, 0, 0, 0, 2);

    /// The three namespaces, connected, with all links ready and no nft rule.
    pub fn new() -> io::Result<DockerHost> {
        let picture = DockerHost {
            host: Namespace::new()?,
            container: Namespace::new()?,
            outside: Namespace::new()?,
        };
        picture.connect_container()?;
        picture.connect_outside()?;
        picture.host.set_sysctl("ipv4/ip_forward", "1")?;
        picture.host.set_sysctl("ipv6/conf/all/forwarding", "1")?;
        picture.host.wait_ready("docker0")?;
        picture.host.wait_ready("eth0")?;
        picture.container.wait_ready("eth0")?;
        picture.outside.wait_ready("eth0")?;
        Ok(picture)
    }

    /// Sets up source NAT for the container, both families: what leaves by another link than
    /// docker0 does so from the host's address there. Starts connection tracking on the host.
    pub fn masquerade(&self) -> Result<(), NftError> {
        nft(
            &self.host,
            "table inet nat {
                chain postrouting {
                    type nat hook postrouting priority srcnat;
                    ip saddr 172.17.0.0/16 oifname != \"docker0\" masquerade;
                    ip6 saddr fd17::/64 oifname != \"docker0\" masquerade;
                }
            }",
        )
    }

    /// Sets up a stateful filter on the host: forwarded are datagrams from the container, and
    /// answers to them; the rest is dropped in silence. Starts connection tracking on the host.
    pub fn stateful_filter(&self) -> Result<(), NftError> {
        nft(
            &self.host,
            "table inet filter {
                chain forward {
                    type filter hook forward priority filter; policy drop;
                    ct state established,related accept;
                    iifname \"docker0\" accept;
                }
            }",
        )
    }

    fn connect_container(&self) -> io::Result<()> {
        let (host, container) = (&self.host, &self.container);
        host.add_bridge("docker0")?;
        host.add_address("docker0", prefixed(Self::DOCKER0, 16))?;
        host.add_address("docker0", prefixed(Self::DOCKER0_V6, 64))?;
        host.add_veth("veth1", container, "eth0")?;
        host.set_master("veth1", "docker0")?;
        container.add_address("eth0", prefixed(Self::CONTAINER, 16))?;
        container.add_address("eth0", prefixed(Self::CONTAINER_V6, 64))?;
        container.set_up("eth0")?;
        host.set_up("veth1")?;
        // A bridge that comes up after its port need not wait for a carrier of its own.
        host.wait_up("veth1")?;
        host.set_up("docker0")?;
        container.add_route(&Route::default_via(Self::DOCKER0.into()))?;
        container.add_route(&Route::default_via(Self::DOCKER0_V6.into()))
    }

    fn connect_outside(&self) -> io::Result<()> {
        let (host, outside) = (&self.host, &self.outside);
        host.add_veth("eth0", outside, "eth0")?;
        host.add_address("eth0", prefixed(Self::HOST, 24))?;
        host.add_address("eth0", prefixed(Self::HOST_V6, 64))?;
        outside.add_address("eth0", prefixed(Self::OUTSIDE, 24))?;
        outside.add_address("eth0", prefixed(Self::OUTSIDE_SECOND, 24))?;
        outside.add_address("eth0", prefixed(Self::OUTSIDE_V6, 64))?;
        host.set_up("eth0")?;
        outside.set_up("eth0")?;
        outside.add_route(&Route::to(prefixed(Self::DOCKER0, 16)).via(Self::HOST.into()))?;
        outside.add_route(&Route::to(prefixed(Self::DOCKER0_V6, 64)).via(Self::HOST_V6.into()))
    }
}

fn prefixed(address: impl Into<IpAddr>, prefix_len: u8) -> IpNet {
    IpNet::new(address.into(), prefix_len).expect("the prefix length fits the family")
}

#[cfg(test)]
mod tests {
    use std::net::UdpSocket;
    use std::time::Duration;

    use super::*;
    use crate::topology::require::in_namespaces;

    #[test]
    fn everybody_reaches_everybody() {
        in_namespaces(
            "topology::docker_host::tests::everybody_reaches_everybody",
            || {
                let picture = DockerHost::new().unwrap();
                for (namespace, address) in [
                    (&picture.container, IpAddr::from(DockerHost::CONTAINER)),
                    (&picture.container, DockerHost::CONTAINER_V6.into()),
                    (&picture.host, DockerHost::HOST.into()),
                    (&picture.host, DockerHost::HOST_V6.into()),
                ] {
                    let server = namespace.run(|| UdpSocket::bind((address, 0)).unwrap());
                    server
                        .set_read_timeout(Some(Duration::from_secs(5)))
                        .unwrap();
                    let wildcard = if address.is_ipv4() {
                        "0.0.0.0:0"
                    } else {
                        "[::]:0"
                    };
                    let client = picture.outside.run(|| UdpSocket::bind(wildcard).unwrap());
                    client
                        .send_to(b"ping", server.local_addr().unwrap())
                        .unwrap();
                    let (len, _) = server.recv_from(&mut [0; 8]).unwrap();
                    assert_eq!(len, 4);
                }
            },
        );
    }
}
