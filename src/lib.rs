//! A batched UDP reflector for Linux: every datagram is answered, from the address it was asked
//! at, in trains, on every core.
//!
//! This is the map; the modules stand in reading order. A datagram's way is
//! [`engine`] → [`ingress`] → [`guard`] → [`responder`] → [`egress`] → [`engine`], one
//! [`batch`] at a time, in the loop of a [`worker`]. The [`server`] opens the sockets, starts one
//! worker per core and gathers what they count in [`stats`].
//!
//! `unsafe` lives in `reflector_udp` and [`engine::uring`] and nowhere else; only
//! `reflector_measure::clock` reads a clock;
//! only [`egress`] writes a source address.

#![deny(unsafe_code)]

pub mod config;

pub mod server;
pub mod worker;

pub mod datagram;

pub mod batch;
pub mod egress;
pub mod engine;
pub mod guard;
pub mod ingress;
pub mod mode;
pub mod responder;

pub mod socket;
pub mod stats;
