//! What decides the reply to a datagram.

pub mod echo;

use std::net::SocketAddr;

use crate::datagram::{LocalAddr, Verdict};

/// What a responder is told about a datagram, besides its bytes.
#[derive(Clone, Copy, Debug)]
pub struct Request {
    /// Who sent it.
    pub peer: SocketAddr,
    /// The address it was sent to, which the reply leaves from.
    pub local: LocalAddr,
    /// When the kernel received it, nanoseconds of `CLOCK_REALTIME`; for a train, its first
    /// datagram.
    pub received_ns: Option<u64>,
}

/// Decides the reply to each datagram, in place.
///
/// A responder is pure: it sees bytes and facts and returns a verdict. It cannot tell which engine
/// runs it. Every worker has its own, so it needs no lock; it must not block or allocate, since it
/// runs on the datagram path.
pub trait Responder {
    /// Whether every datagram goes back as it came. A train is then answered whole, and
    /// [`respond`](Responder::respond) is never called.
    const AS_IS: bool = false;

    /// Turns the request in `payload` into its reply, or says why there is none.
    ///
    /// A reply is as long as the request or shorter; one that claims to be longer is dropped as
    /// [`ReplyTooLong`](crate::datagram::DropReason::ReplyTooLong).
    fn respond(&mut self, request: &Request, payload: &mut [u8]) -> Verdict;
}
