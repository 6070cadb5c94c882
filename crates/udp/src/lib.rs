//! The kernel's UDP dialect: names, control messages, batches, socket options, buffers.
//!
//! Kernel structures end here. What leaves this crate is a slice, an address or an
//! [`std::io::Error`]. Formats that can be read and written as bytes ([`addr`], [`cmsg`]) are, and
//! need no `unsafe` at all; all other `unsafe` of the workspace, besides the ring's, is here too.
//!
//! [`netns`], [`packet`], [`child`], [`left`], [`pages`], [`signal`] and [`trap`] are no part of a
//! datagram's way: the program, its commands and tests need them.

#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;

/// Bytes of the largest UDP payload over IPv4: 65 535 less the IPv4 and UDP headers (RFC 791).
pub const PAYLOAD_V4_MAX: u32 = 65_507;
/// Bytes of the largest UDP payload over IPv6 without jumbograms: 65 535 less the UDP header, since
/// IPv6's length field does not count its own header (RFC 8200).
pub const PAYLOAD_V6_MAX: u32 = 65_527;
/// Bytes of a receive buffer that has room for any datagram, and for any train that UDP_GRO joins:
/// lengths on the way have 16 bits.
pub const RECEIVE_MAX: u32 = 65_535;

pub mod addr;
pub mod cmsg;

pub mod memory;
pub mod mmsg;

pub mod errqueue;
pub mod sockopt;
pub mod usage;
pub mod wake;

pub mod child;
pub mod left;
pub mod netns;
pub mod packet;
pub mod pages;
pub mod path;
pub mod signal;
pub mod trap;

mod context;
mod message;

pub use context::attempting;
