//! Network namespaces of our own, with links, addresses, captures and a wrong server in them.
//!
//! The namespace tests, the benches and `reflector lab` use these parts. Goals: nothing of the
//! machine's own network is touched, nothing is left behind by a program that dies, and no program
//! is needed besides this one, except `nft` for NAT and filter rules.
//!
//! [`sniffer`], [`conntrack`], [`ethtool`] and [`netfilter`] know no namespace: they read those of
//! the calling thread, and `diagnose` uses them on the host that it runs on.
//!
//! Not here: the right server, and load (the wrong server answers one datagram at a time).

#![forbid(unsafe_code)]

#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;

pub mod topology;

pub mod packet;
pub mod sniffer;

pub mod capture;
pub mod naive;
pub mod observe;

pub mod conntrack;
pub mod netfilter;

pub use reflector_netlink::ethtool;
