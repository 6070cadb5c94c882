//! What is asked and what is answered: bytes that anybody can work out from a datagram's number.

use std::net::SocketAddr;

use super::fates::{ID_LEN, Id};
use crate::datagram::{Attributes, DropReason, Verdict};
use crate::mode::{BuiltIn, Mode};
use crate::responder::{Request, Responder};

/// The bytes of datagram `id`.
pub fn request(id: Id, len: usize) -> Vec<u8> {
    let mut bytes = id.to_be_bytes().to_vec();
    bytes.truncate(len);
    bytes.extend((bytes.len()..len).map(|at| (id as u8).wrapping_mul(31).wrapping_add(at as u8)));
    bytes
}

/// The number at the start of a datagram that is long enough for one.
pub fn id_of(bytes: &[u8]) -> Id {
    Id::from_be_bytes(bytes[..ID_LEN].try_into().expect("room for a number"))
}

/// The reply of `len` bytes to datagram `id`, by a responder that is an echo or odd.
pub fn reply(id: Id, len: usize, is_odd: bool) -> Vec<u8> {
    let mut bytes = request(id, len);
    if is_odd && is_turned(id) {
        turn(&mut bytes);
    }
    bytes
}

fn is_turned(id: Id) -> bool {
    id % 7 == 3
}

fn turn(bytes: &mut [u8]) {
    bytes
        .iter_mut()
        .skip(ID_LEN)
        .for_each(|byte| *byte = !*byte);
}

/// What an odd responder says to datagram `id` of `len` bytes.
pub fn odd_verdict(id: Id, len: usize) -> Verdict {
    match id % 7 {
        1 => Verdict::Drop(DropReason::Malformed),
        2 => Verdict::Reply { len: len + 1 },
        4 => Verdict::Reply {
            len: (len / 2).max(ID_LEN),
        },
        _ => Verdict::Reply { len },
    }
}

/// The type of service that an odd responder asks for.
pub fn odd_tos(peer: SocketAddr) -> Option<u8> {
    peer.port().is_multiple_of(2).then_some(0x28)
}

/// A responder of the world.
pub enum Answering {
    /// One that comes along.
    BuiltIn(BuiltIn),
    /// One that drops, shortens, changes, and claims more than it may.
    Odd,
}

impl Answering {
    /// Of `mode`, or odd.
    pub fn new(mode: Option<Mode>) -> Self {
        mode.map_or(Self::Odd, |mode| Self::BuiltIn(mode.responder()))
    }
}

impl Responder for Answering {
    fn is_echo(&self) -> bool {
        match self {
            Self::BuiltIn(it) => it.is_echo(),
            Self::Odd => false,
        }
    }

    fn attributes(&mut self, request: &Request) -> Attributes {
        match self {
            Self::BuiltIn(it) => it.attributes(request),
            Self::Odd => {
                odd_tos(request.peer).map_or(Attributes::NONE, |tos| Attributes::NONE.with_tos(tos))
            }
        }
    }

    fn respond(&mut self, request: &Request, payload: &mut [u8]) -> Verdict {
        match self {
            Self::BuiltIn(it) => it.respond(request, payload),
            Self::Odd if payload.len() < ID_LEN => Verdict::Reply { len: payload.len() },
            Self::Odd => {
                let id = id_of(payload);
                if is_turned(id) {
                    turn(payload);
                }
                odd_verdict(id, payload.len())
            }
        }
    }
}
