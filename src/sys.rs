//! Everything that needs `unsafe` besides the ring: memory shared with the kernel, message
//! headers, socket options that the `socket2` crate does not know, namespaces, raw packets.
//!
//! Kernel structures end here. What leaves this module is a slice, an address or an
//! [`std::io::Error`]. Formats that can be read and written as bytes ([`addr`], [`cmsg`]) are, and
//! need no `unsafe` at all.

pub mod addr;
pub mod cmsg;
pub mod errqueue;
pub mod memory;
pub mod mmsg;
pub mod sockopt;
pub mod wake;

pub mod child;
pub mod conntrack;
pub mod ethtool;
pub(crate) mod netlink;
pub mod netns;
pub mod packet;
pub mod snmp;

pub(crate) mod context;
