//! Answers in the kernel what the reflector's sockets would answer, or passes it to them.
//!
//! `bpf/reflect.c` is a program for tcx ingress (Linux 6.6): it turns an echo request round before
//! it reaches a socket, or passes it, and never drops. [`Accelerator`] loads it, attaches it to
//! devices, and tells it who is answered ([`Rules`]), at which addresses ([`Local`]) and ports.
//!
//! Non-goals: to decide who is answered, which the reflector's guard does; to replace the sockets,
//! which answer whatever is passed.

#![forbid(unsafe_code)]

#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;

mod accelerator;
mod bits;
mod counted;
pub mod devices;
mod failure;
mod layout;
mod lists;
mod routes;
mod rules;
mod shared;
mod targets;
pub mod way;

pub use accelerator::{Accelerator, Device, Frame, Outcome, probe};
pub use counted::Counters;
pub use routes::Routes;
pub use rules::Rules;
pub use shared::Shared;
pub use targets::Local;
pub use way::{Framing, Way};
