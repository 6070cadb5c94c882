//! Paths on which the kernel refused a train, remembered for a while.

use std::net::IpAddr;
use std::time::{Duration, Instant};

use crate::clock;
use crate::datagram::Flow;

/// How long a refusal is remembered: long enough to be cheap, short enough to notice that a route
/// or a device has changed.
const REMEMBERED: Duration = Duration::from_secs(10);
/// Paths remembered; the oldest gives way.
const PATHS_MAX: usize = 64;

/// A small fixed table of (peer, local address) → longest segment that a train may have.
pub struct Refused {
    paths: Vec<Path>,
    /// Where the next one goes: the oldest, once the table is full.
    next: usize,
}

struct Path {
    peer: IpAddr,
    local: IpAddr,
    segment_len_max: u32,
    until: Instant,
}

impl Refused {
    /// Empty, with all its room allocated.
    pub fn new() -> Self {
        Self {
            paths: Vec::with_capacity(PATHS_MAX),
            next: 0,
        }
    }

    /// The longest segment that a train of this flow may have; 0 where there are no trains.
    #[inline]
    pub fn segment_len_max(&self, flow: &Flow) -> u32 {
        self.paths
            .iter()
            .find(|path| path.is(flow))
            .map_or(u32::MAX, |path| path.segment_len_max)
    }

    /// Remembers that a train was refused whose segments were longer than `segment_len_max`.
    pub fn remember(&mut self, flow: &Flow, segment_len_max: u32) {
        let until = clock::monotonic() + REMEMBERED;
        if let Some(path) = self.paths.iter_mut().find(|path| path.is(flow)) {
            path.segment_len_max = path.segment_len_max.min(segment_len_max);
            path.until = until;
            return;
        }
        let (peer, local) = (flow.peer.ip(), flow.local.addr);
        let path = Path {
            peer,
            local,
            segment_len_max,
            until,
        };
        if self.paths.len() < PATHS_MAX {
            self.paths.push(path);
        } else {
            self.paths[self.next] = path;
            self.next = (self.next + 1) % PATHS_MAX;
        }
    }

    /// Forgets what is too old. Reads a clock only where there is something to forget.
    #[inline]
    pub fn expire(&mut self) {
        if !self.paths.is_empty() {
            let now = clock::monotonic();
            let before = self.paths.len();
            self.paths.retain(|path| path.until > now);
            if self.paths.len() < before {
                self.next = 0;
            }
        }
    }
}

impl Path {
    fn is(&self, flow: &Flow) -> bool {
        self.peer == flow.peer.ip() && self.local == flow.local.addr
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::datagram::LocalAddr;
    use reflector_udp::addr::PeerAddr;

    fn flow(peer: u8) -> Flow {
        let local = LocalAddr {
            addr: [10, 0, 0, 1].into(),
            interface: 0,
        };
        Flow {
            socket: 0,
            peer: PeerAddr::new(([10, 0, 1, peer], 4000).into()),
            local,
        }
    }

    #[test]
    fn a_refusal_concerns_one_path_and_the_strictest_counts() {
        let mut refused = Refused::new();
        refused.remember(&flow(1), 1399);
        refused.remember(&flow(1), 1471);
        assert_eq!(refused.segment_len_max(&flow(1)), 1399);
        assert_eq!(refused.segment_len_max(&flow(2)), u32::MAX);
    }

    #[test]
    fn the_table_is_bounded() {
        let mut refused = Refused::new();
        for peer in 0..=200 {
            refused.remember(&flow(peer), 0);
        }
        assert_eq!(refused.paths.len(), PATHS_MAX);
        assert_eq!(refused.paths.capacity(), PATHS_MAX);
        assert_eq!(refused.segment_len_max(&flow(200)), 0);
    }
}
