//! Network namespaces with links, addresses, routes and rules, gone when they are dropped.
//!
//! [`Namespace`] is the base, [`DockerHost`] the ready-made network of moby#15127, and
//! [`in_namespaces`] the way in for tests. Links, addresses and routes are made through
//! rtnetlink(7), never by running `ip`; only [`nft()`] runs a program.
//!
//! ```no_run
//! use reflector_netlab::topology::{DockerHost, net};
//! let picture = DockerHost::new()?;
//! picture.host.add_address("eth0", net("172.16.13.14/24"))?;
//! picture.masquerade()?;
//! # Ok::<(), std::io::Error>(())
//! ```

mod route;

mod namespace;
mod nft;

mod docker_host;

mod require;

pub use docker_host::DockerHost;
pub use namespace::Namespace;
pub use nft::{NftError, nft};
pub use require::{in_force, in_namespaces, skip};
pub use route::{Mtu, Route, net};
