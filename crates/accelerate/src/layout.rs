//! What `bpf/reflect.c` declares, as arrays of plain numbers.

use std::net::{IpAddr, SocketAddr};

use crate::way::{Framing, Way};

/// Which of the two sets is used: none, everything is passed.
pub const NO_SET: u32 = 2;

/// `struct settings`: a bit for each source port that is refused, and three numbers.
pub type Settings = [u64; PORT_WORDS + 3];
/// Words of the set of ports.
pub const PORT_WORDS: usize = 65536 / 64;

/// `struct counters`.
pub type Counts = [u64; 4 + BUCKETS + 4];
/// Buckets of the histogram.
pub const BUCKETS: usize = 176;
/// Buckets of each power of two.
const SUB_BUCKETS: u64 = 8;

/// The longest time that falls into a bucket, in nanoseconds.
pub fn bucket_end_ns(bucket: usize) -> u64 {
    let bucket = bucket as u64;
    if bucket < SUB_BUCKETS {
        return bucket;
    }
    let (log, sub) = (bucket / SUB_BUCKETS + 2, bucket % SUB_BUCKETS);
    let width = 1 << (log - 3);
    (SUB_BUCKETS + sub + 1) * width - 1
}

/// `struct device`.
pub type Answered = [u8; 16];

/// The entry of a device; frames to `other` are its own as well. It answers to prefixes that are
/// listed with its `bit`.
pub fn answered(way: Way, framing: Framing, other: Option<[u8; 6]>, bit: u32) -> Answered {
    let mut answered = [0; 16];
    answered[0] = u8::from(way == Way::Peer);
    answered[1] = u8::from(framing == Framing::Ethernet);
    answered[2] = u8::from(other.is_some());
    answered[3..9].copy_from_slice(&other.unwrap_or_default());
    answered[12..].copy_from_slice(&bit.to_ne_bytes());
    answered
}

/// `struct target`.
pub type Target = [u8; 24];

/// An address and port that are listened on, on the device `ifindex` only or, with 0, on all.
pub fn target(addr: SocketAddr, ifindex: u32) -> Target {
    let mut target = [0; 24];
    let version = match addr.ip() {
        IpAddr::V4(ip) => {
            target[..4].copy_from_slice(&ip.octets());
            4
        }
        IpAddr::V6(ip) => {
            target[..16].copy_from_slice(&ip.octets());
            6
        }
    };
    target[16..20].copy_from_slice(&ifindex.to_ne_bytes());
    target[20..22].copy_from_slice(&addr.port().to_be_bytes());
    target[22] = version;
    target
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn buckets_touch_each_other() {
        // As `time_it` of bpf/reflect.c.
        let bucket = |ns: u64| match ns {
            0..SUB_BUCKETS => ns,
            _ => {
                let log = u64::from(ns.ilog2());
                (log - 2) * SUB_BUCKETS + (ns >> (log - 3)) % SUB_BUCKETS
            }
        };
        for ns in (0..100_000).chain([(1 << 24) - 1]) {
            let found = bucket(ns) as usize;
            assert!(ns <= bucket_end_ns(found), "{ns}");
            assert!(found == 0 || ns > bucket_end_ns(found - 1), "{ns}");
        }
        assert_eq!(bucket((1 << 24) - 1) as usize, BUCKETS - 1);
    }

    #[test]
    fn the_counters_of_a_cpu_fill_whole_cache_lines() {
        assert_eq!(size_of::<Counts>() % 64, 0);
    }
}
