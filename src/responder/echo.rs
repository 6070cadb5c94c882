//! Echo: the datagram goes back as it came (RFC 862).

use super::{Request, Responder};
use crate::datagram::Verdict;

/// Sends every datagram back unchanged.
#[derive(Clone, Copy, Debug, Default)]
pub struct Echo;

impl Responder for Echo {
    fn name(&self) -> &'static str {
        "echo"
    }

    fn is_echo(&self) -> bool {
        true
    }

    fn respond(&mut self, _request: &Request, payload: &mut [u8]) -> Verdict {
        Verdict::Reply { len: payload.len() }
    }
}
