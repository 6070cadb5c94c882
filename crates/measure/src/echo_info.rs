//! What a reflector with `--echo-info` tells those who ask: the block at the end of a datagram.
//!
//! ```text
//!  0               8               16              24    26    28    30  31  32
//!  ├───────────────┼───────────────┼───────────────┼─────┼─────┼─────┼───┼───┼───────────────
//!  │ "RFLinfo", 1  │      run      │   sequence    │flags│peer │local│hops│ 0│     name …
//!                                                         port  port
//!  32              40              48              56                72                88
//!  ├───────────────┼───────────────┼───────────────┼─────────────────┼─────────────────┤
//!  │     name      │     first     │     count     │ address of peer │ address of local│
//! ```
//!
//! All numbers are big-endian, an IPv4 address is v4-mapped. Behind `sequence` a question has
//! zeros; a service that knows no block sends them back. The reflector has code of its own for
//! this, `src/responder/echo_info.rs`, which says what each field means: who is judged shares
//! nothing with the judge.

use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::ops::Range;

/// Bytes of a block.
pub const BLOCK_LEN: usize = 88;

/// What a block begins with: a name and the version.
const MAGIC: [u8; 8] = *b"RFLinfo\x01";
const AGAIN: u16 = 2;
const LATE: u16 = 4;

mod field {
    use super::Range;

    pub const MAGIC: Range<usize> = 0..8;
    pub const RUN: Range<usize> = 8..16;
    pub const SEQUENCE: Range<usize> = 16..24;
    pub const FLAGS: Range<usize> = 24..26;
    pub const PEER_PORT: Range<usize> = 26..28;
    pub const LOCAL_PORT: Range<usize> = 28..30;
    pub const HOPS: usize = 30;
    pub const NAME: Range<usize> = 32..40;
    pub const FIRST: Range<usize> = 40..48;
    pub const COUNT: Range<usize> = 48..56;
    pub const PEER: Range<usize> = 56..72;
    pub const LOCAL: Range<usize> = 72..88;
}

/// What a reflector told of a datagram.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct EchoInfo {
    /// The run that it is of, as the question says.
    pub run: u64,
    /// Its number in the run.
    pub sequence: u64,
    /// The address that the asker has there.
    pub peer: SocketAddr,
    /// The address that was asked.
    pub local: SocketAddr,
    /// Hops that the question had left.
    pub hops: Option<u8>,
    /// Whether this question had come before.
    pub is_again: bool,
    /// Whether a later question had come before it.
    pub is_late: bool,
    /// How many of the run came.
    pub count: Count,
}

/// How many different questions of a run came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Count {
    /// Which count it is: another process, another worker and a run that was forgotten meanwhile
    /// count anew, under another name.
    pub name: u64,
    /// The question that it began with.
    pub first: u64,
    /// How many, from that one on.
    pub count: u64,
}

/// Makes a question of the last bytes of `datagram`: number `sequence` of `run`.
///
/// # Panics
/// If `datagram` is shorter than a block.
#[inline]
pub fn ask(datagram: &mut [u8], run: u64, sequence: u64) {
    let block = datagram
        .last_chunk_mut::<BLOCK_LEN>()
        .expect("room for a block");
    block[field::MAGIC].copy_from_slice(&MAGIC);
    block[field::RUN].copy_from_slice(&run.to_be_bytes());
    block[field::SEQUENCE].copy_from_slice(&sequence.to_be_bytes());
    block[field::FLAGS.start..].fill(0);
}

/// What is told at the end of `datagram`; `None` where nothing is.
pub fn told(datagram: &[u8]) -> Option<EchoInfo> {
    let block = datagram.last_chunk::<BLOCK_LEN>()?;
    let u16_at =
        |field: Range<usize>| u16::from_be_bytes([block[field.start], block[field.end - 1]]);
    let u64_at = |field: Range<usize>| {
        u64::from_be_bytes(block[field].try_into().expect("a field of 8 bytes"))
    };
    let flags = u16_at(field::FLAGS);
    if block[field::MAGIC] != MAGIC || flags & 1 == 0 {
        return None;
    }
    let ip = |field: Range<usize>| {
        let octets: [u8; 16] = block[field].try_into().expect("a field of 16 bytes");
        IpAddr::from(Ipv6Addr::from(octets)).to_canonical()
    };
    Some(EchoInfo {
        run: u64_at(field::RUN),
        sequence: u64_at(field::SEQUENCE),
        peer: SocketAddr::new(ip(field::PEER), u16_at(field::PEER_PORT)),
        local: SocketAddr::new(ip(field::LOCAL), u16_at(field::LOCAL_PORT)),
        hops: Some(block[field::HOPS]).filter(|&hops| hops > 0),
        is_again: flags & AGAIN != 0,
        is_late: flags & LATE != 0,
        count: Count {
            name: u64_at(field::NAME),
            first: u64_at(field::FIRST),
            count: u64_at(field::COUNT),
        },
    })
}

/// Whether `answer` is the datagram `asked`, which ends in a question, or the same with that
/// question answered.
pub fn is_answer_to(answer: &[u8], asked: &[u8]) -> bool {
    let same = asked.len().saturating_sub(BLOCK_LEN) + field::SEQUENCE.end;
    let is_filled_in = || answer.get(..same) == asked.get(..same) && told(answer).is_some();
    answer.len() == asked.len() && (answer == asked || is_filled_in())
}

/// Whether the end of `datagram` is the question `sequence` of `run` as it was asked, or the same
/// answered.
pub fn is_intact(datagram: &[u8], run: u64, sequence: u64) -> bool {
    let mut asked = [0; BLOCK_LEN];
    ask(&mut asked, run, sequence);
    let block = datagram.last_chunk::<BLOCK_LEN>();
    block.is_some_and(|block| is_answer_to(block, &asked))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The block of the reflector's own test.
    fn answer() -> Vec<u8> {
        let mut bytes = b"mineRFLinfo\x01".to_vec();
        bytes.extend(0x11..=0x18);
        bytes.extend(0x21..=0x28);
        bytes.extend([0, 1, 0x9c, 0x40, 0x23, 0x2f, 63, 0]);
        bytes.extend(0x01..=0x08);
        bytes.extend(0x21..=0x28);
        bytes.extend([0, 0, 0, 0, 0, 0, 0, 1]);
        bytes.extend([0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, 192, 0, 2, 1]);
        bytes.extend([0x20, 1, 0x0d, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 2]);
        bytes
    }

    #[test]
    fn a_question_and_its_answer_are_as_in_the_picture() {
        let mut asked = b"mine".to_vec();
        asked.resize(4 + BLOCK_LEN, 0xa5);
        ask(&mut asked, 0x1112_1314_1516_1718, 0x2122_2324_2526_2728);
        assert_eq!(told(&asked), None, "a question tells nothing");
        let answer = answer();
        assert_eq!(
            asked[..4 + field::SEQUENCE.end],
            answer[..4 + field::SEQUENCE.end]
        );
        assert!(
            asked[4 + field::FLAGS.start..]
                .iter()
                .all(|&byte| byte == 0)
        );
        let expected = EchoInfo {
            run: 0x1112_1314_1516_1718,
            sequence: 0x2122_2324_2526_2728,
            peer: "192.0.2.1:40000".parse().unwrap(),
            local: "[2001:db8::2]:9007".parse().unwrap(),
            hops: Some(63),
            is_again: false,
            is_late: false,
            count: Count {
                name: 0x0102_0304_0506_0708,
                first: 0x2122_2324_2526_2728,
                count: 1,
            },
        };
        assert_eq!(told(&answer), Some(expected));
        assert!(is_answer_to(&answer, &asked) && is_answer_to(&asked, &asked));
        for bytes in [&asked, &answer] {
            assert!(is_intact(bytes, expected.run, expected.sequence));
            assert!(!is_intact(bytes, expected.run, 0) && !is_intact(bytes, 0, 0));
        }
        *asked.last_mut().unwrap() ^= 1;
        assert!(!is_intact(&asked, expected.run, expected.sequence));
    }

    #[test]
    fn what_is_none_tells_nothing() {
        let answer = answer();
        let mut other_version = answer.clone();
        other_version[11] = 2;
        let followed = [&answer[..], b"x"].concat();
        for bytes in [&other_version[..], &followed, &answer[5..], b""] {
            assert_eq!(told(bytes), None);
        }
        let mut of_another = answer.clone();
        of_another[4 + field::SEQUENCE.start] ^= 1;
        let mut changed = answer.clone();
        changed[0] ^= 1;
        let mut asked = answer.clone();
        ask(&mut asked, 0x1112_1314_1516_1718, 0x2122_2324_2526_2728);
        for bytes in [&of_another[..], &changed, &answer[1..], b""] {
            assert!(!is_answer_to(bytes, &asked));
        }
    }
}
