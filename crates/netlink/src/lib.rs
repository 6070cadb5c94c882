//! The kernel's routing tables by rtnetlink(7): asked, changed, and followed as they change; and
//! what the queues of devices have counted, and which of them cut trains.
//!
//! The lab builds links, addresses and routes with it, `diagnose` reads those of this host, and the
//! server follows the interfaces that it is bound to. Everything concerns the network namespace of
//! the thread that opens a socket.

#![forbid(unsafe_code)]

mod changes;
mod path;
mod queue;
mod route;
mod tbf;

pub use changes::{Change, Changes};
pub use queue::Queue;
pub use route::{Intent, Netlink};
pub use tbf::{Peak, Tbf};
