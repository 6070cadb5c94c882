//! The kernel's UDP dialect: names, control messages, batches, socket options, buffers.
//!
//! Kernel structures end here. What leaves this crate is a slice, an address or an
//! [`std::io::Error`]. Formats that can be read and written as bytes ([`addr`], [`cmsg`]) are, and
//! need no `unsafe` at all; all other `unsafe` of the workspace, besides the ring's, is here too.
//!
//! [`netns`], [`packet`] and [`child`] are no part of a datagram's way: laboratories and tests need
//! them.

pub mod addr;
pub mod cmsg;

pub mod memory;
pub mod mmsg;

pub mod errqueue;
pub mod sockopt;
pub mod wake;

pub mod child;
pub mod netns;
pub mod packet;

mod context;
mod message;

pub use context::attempting;
