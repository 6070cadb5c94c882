//! What a worker has used, and when.

use std::time::Instant;

use crate::clock;
use reflector_udp::mmsg::Calls;
use reflector_udp::usage::Usage;

/// When, and what a thread had used by then.
#[derive(Clone, Copy, Debug)]
pub struct Reading {
    /// When.
    pub at: Instant,
    /// What it had used.
    pub usage: Usage,
}

impl Reading {
    /// That of the calling thread; none where a seccomp profile refuses it.
    pub fn now(calls: &impl Calls) -> Option<Self> {
        let usage = calls.usage().ok()?;
        let at = clock::monotonic();
        Some(Self { at, usage })
    }
}
