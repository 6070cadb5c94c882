//! A batched UDP reflector for Linux: every datagram is answered, from the address it was sent to,
//! in trains, on every core.
//!
//! A UDP server on `0.0.0.0` or `[::]` of a host with several addresses has to be told which
//! address a datagram was sent to, and has to say which one its reply leaves from (IP_PKTINFO,
//! ip(7); IPV6_PKTINFO, ipv6(7)). Left to the routing table, the reply leaves from another address:
//! the client's kernel refuses it, and connection tracking drops it.
//!
//! ```no_run
//! use reflector::config::Config;
//! use reflector::server::Server;
//!
//! let config = Config::builder()
//!     .listen("0.0.0.0:9007".parse()?)
//!     .cores(2)
//!     .build()?;
//! let server = Server::open(config, |listener| listener.mode.responder())?;
//! let summary = server.run(|report| println!("{report:?}"))?;
//! println!("{} of {} answered", summary.totals.replied, summary.totals.received);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! ```text
//!            a worker: one core, its sockets, its buffers, its counters
//! kernel ─▶ engine ─▶ ingress ─▶ guard ─▶ responder ─▶ egress ─▶ engine ─▶ kernel
//!           receive   who, to    may it   the reply,   trains,    transmit
//!                     which      be       in place,    each from
//!                     address    answered or silence   the address asked
//! ```
//!
//! A [`Server`](server::Server) opens every socket, starts one worker per core, and tells its
//! observer how it goes. What is answered is decided by a [`Responder`](responder::Responder);
//! those that come with the crate are [`Mode`](mode::Mode)s.
//!
//! Lengths are bytes, times are nanoseconds where their name ends in `_ns`. A failure of set-up is
//! an [`Error`]: what was attempted, what the system said, what to try. A datagram never makes an
//! error: it is dropped for a [`DropReason`], or the kernel refuses its reply with an error number,
//! and both are counted.
//!
//! `unsafe` lives in the ring of io_uring and in the crate `reflector-udp`, and nowhere else.

#![deny(unsafe_code)]

pub mod config;
pub mod server;

pub mod mode;
pub mod responder;

mod worker;

mod batch;
mod clock;
mod datagram;

mod egress;
mod engine;
mod guard;
mod ingress;

mod socket;
mod stats;

pub use datagram::{Attributes, DropReason, SEGMENTS_MAX, Verdict};
/// The way to a peer, which the kernel's tables tell.
pub mod path {
    pub use crate::egress::Paths;
    pub use reflector_udp::path::{Neighbour, Path};
}

pub use engine::probe;
pub use guard::{Admitted, DEFAULT_ALLOW, DEFAULT_DENY_PORTS, Limit, Prefixes, Rules};
pub use ipnet;
pub use reflector_measure::error::Error;
/// What a server reports.
pub mod report {
    pub use crate::stats::report::*;
    pub use crate::stats::snapshot::{Lengths, ListenerCounts, Snapshot, WorkerCounts};
}

/// The rooms of the heart, for this package's own tests and benches. No part of the face: it
/// changes without notice.
#[cfg(feature = "internals")]
#[doc(hidden)]
pub mod internals {
    macro_rules! rooms {
        ($($room:ident)*) => {$(
            pub mod $room {
                pub use crate::$room::*;
            }
        )*};
    }

    rooms! { batch datagram egress engine guard ingress socket stats worker }
}
