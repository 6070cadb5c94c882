//! Answers in the kernel what the reflector's sockets would answer, or passes it to them.

#![forbid(unsafe_code)]

#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;

pub mod devices;
pub mod way;
