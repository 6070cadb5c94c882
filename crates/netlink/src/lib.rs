//! The kernel's routing tables by rtnetlink(7): asked, changed, and followed as they change; and
//! what the queues of devices have counted, which of them cut trains, and which features devices
//! have.
//!
//! The lab builds links, addresses and routes with it, `diagnose` reads those of this host, and the
//! server follows the interfaces that it is bound to. Everything concerns the network namespace of
//! the thread that opens a socket.

#![forbid(unsafe_code)]

mod address;
mod changes;
pub mod ethtool;
mod link;
mod path;
mod queue;
mod route;
mod routes;
mod tbf;

pub use address::Address;
pub use changes::{Change, Changes, Topic};
pub use link::Link;
pub use queue::Queue;
pub use route::{Intent, Netlink};
pub use routes::{Family, LOOPBACK, Route};
pub use tbf::{Peak, Tbf};
