//! Where the reflector listens in most tests, and where it is asked.

use std::net::{IpAddr, SocketAddr};

use reflector_netlab::topology::DockerHost;

/// The port that most tests listen on and ask.
pub const PORT: u16 = 5151;

/// Options to listen on [`PORT`] of every address, with a socket of each family.
pub const LISTEN: &[&str] = &["--listen", "0.0.0.0:5151", "--listen", "[::]:5151"];

/// The addresses of a [`DockerHost`] that are not those which the route to the container prefers.
pub const ASKED: [IpAddr; 2] = [
    IpAddr::V4(DockerHost::HOST),
    IpAddr::V6(DockerHost::HOST_V6),
];

/// [`PORT`] of `ip`.
pub fn at(ip: impl Into<IpAddr>) -> SocketAddr {
    SocketAddr::new(ip.into(), PORT)
}
