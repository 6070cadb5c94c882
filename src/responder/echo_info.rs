//! Echo that tells a peer, if it asks, how it is seen here: its address, the address that it asked,
//! and how many of its datagrams came.
//!
//! A question has a *block* at its end, which the answer fills in; nothing before it is changed,
//! and whatever has no such block goes back as it came. The datagram stays as long as it was: the
//! room for the answer comes with the question.
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
//! All numbers are big-endian, an IPv4 address is v4-mapped. The peer chooses `run`, at random, and
//! numbers its questions by `sequence`; behind that all is 0 in a question. `count` says how many
//! different ones of the run came since the count began, which has a random `name` and began with
//! the question `first`: another process, another worker, or a run that was forgotten meanwhile
//! counts anew, under another name. The flags of an answer: 1 always; 2: this question had come
//! before, and is not counted again; 4: a later one had come before it. `hops` are those that the
//! question had left, 0 where they are not told.

use std::hash::{BuildHasher, RandomState};
use std::net::{IpAddr, SocketAddr};
use std::ops::Range;

use super::{Needs, Request, Responder};
use crate::datagram::Verdict;

/// What a block begins with: a name, and the version of all that follows.
const MAGIC: [u8; 8] = *b"RFLinfo\x01";

mod field {
    use super::Range;

    pub const MAGIC: Range<usize> = 0..8;
    pub const RUN: Range<usize> = MAGIC.end..MAGIC.end + 8;
    pub const SEQUENCE: Range<usize> = RUN.end..RUN.end + 8;
    pub const FLAGS: Range<usize> = SEQUENCE.end..SEQUENCE.end + 2;
    pub const PEER_PORT: Range<usize> = FLAGS.end..FLAGS.end + 2;
    pub const LOCAL_PORT: Range<usize> = PEER_PORT.end..PEER_PORT.end + 2;
    pub const HOPS: usize = LOCAL_PORT.end;
    pub const NAME: Range<usize> = HOPS + 2..HOPS + 10;
    pub const FIRST: Range<usize> = NAME.end..NAME.end + 8;
    pub const COUNT: Range<usize> = FIRST.end..FIRST.end + 8;
    pub const PEER: Range<usize> = COUNT.end..COUNT.end + 16;
    pub const LOCAL: Range<usize> = PEER.end..PEER.end + 16;
}

/// Bytes of a block.
const BLOCK_LEN: usize = field::LOCAL.end;
const _: () = assert!(BLOCK_LEN == 88);

const ANSWERED: u16 = 1;
const AGAIN: u16 = 2;
const LATE: u16 = 4;

/// Runs that are counted at a time: what they take is made at start, so that strangers who invent
/// runs cost no memory. The one that was silent for longest gives way, to be counted anew.
const RUNS: usize = 256;
/// Runs that share a place, by a keyed hash: so many are looked through for each question.
const WAYS: usize = 4;

/// Sends every datagram back, and tells those who ask how they are seen.
#[derive(Clone, Debug)]
pub struct EchoInfo {
    runs: Box<[Run]>,
    hash: RandomState,
    /// The name of the next count.
    next_name: u64,
    /// Questions so far.
    asked: u64,
}

/// The count of one run.
#[derive(Clone, Copy, Debug)]
struct Run {
    run: u64,
    name: u64,
    first: u64,
    highest: u64,
    /// Bit `n` is set once `highest - n` has come.
    came: u64,
    count: u64,
    /// Which of all questions was its last; 0: there is no run here.
    last: u64,
}

impl Run {
    const NONE: Self = Self {
        run: 0,
        name: 0,
        first: 0,
        highest: 0,
        came: 0,
        count: 0,
        last: 0,
    };

    fn begin(run: u64, name: u64, sequence: u64) -> Self {
        Self {
            run,
            name,
            first: sequence,
            highest: sequence,
            ..Self::NONE
        }
    }

    /// Counts a question, and says what there is to be said of it.
    fn count(&mut self, sequence: u64) -> u16 {
        if sequence > self.highest || self.count == 0 {
            let ahead = sequence - self.highest;
            let came = u32::try_from(ahead)
                .ok()
                .and_then(|it| self.came.checked_shl(it));
            self.came = came.unwrap_or(0) | 1;
            self.highest = sequence;
            self.count += 1;
            return ANSWERED;
        }
        let behind = self.highest - sequence;
        // So late that nobody remembers whether it had come is taken for new.
        let bit = u32::try_from(behind)
            .ok()
            .and_then(|it| 1u64.checked_shl(it))
            .unwrap_or(0);
        if self.came & bit != 0 {
            return ANSWERED | AGAIN;
        }
        self.came |= bit;
        self.first = self.first.min(sequence);
        self.count += 1;
        ANSWERED | LATE
    }
}

impl EchoInfo {
    /// Bytes that each of them has besides its own.
    pub(crate) const LEN: usize = RUNS * size_of::<Run>();

    /// The count of `run`, which begins with `sequence` where there is none.
    fn run(&mut self, run: u64, sequence: u64) -> &mut Run {
        self.asked += 1;
        let set = self.hash.hash_one(run) as usize % (RUNS / WAYS);
        let ways = &mut self.runs[set * WAYS..][..WAYS];
        let is_it = |it: &Run| it.last > 0 && it.run == run;
        let at = ways.iter().position(is_it).unwrap_or_else(|| {
            let silent = (0..WAYS).min_by_key(|&way| ways[way].last);
            let at = silent.expect("there is more than one");
            ways[at] = Run::begin(run, self.next_name, sequence);
            self.next_name = self.next_name.wrapping_add(1);
            at
        });
        ways[at].last = self.asked;
        &mut ways[at]
    }
}

impl Default for EchoInfo {
    #[allow(
        clippy::disallowed_methods,
        reason = "strangers must not know the places of runs; nothing but names depends on it"
    )]
    fn default() -> Self {
        let hash = RandomState::new();
        Self {
            runs: vec![Run::NONE; RUNS].into(),
            // Unlike those of other workers and processes.
            next_name: hash.hash_one("name"),
            hash,
            asked: 0,
        }
    }
}

impl Responder for EchoInfo {
    fn name(&self) -> &'static str {
        "echo-info"
    }

    fn needs(&self) -> Needs {
        Needs::NONE.with_hop_limit()
    }

    fn respond(&mut self, request: &Request, payload: &mut [u8]) -> Verdict {
        let len = payload.len();
        let block = payload.last_chunk_mut::<BLOCK_LEN>();
        // What has flags is an answer, of this reflector or another one.
        let is_question =
            |block: &[u8; BLOCK_LEN]| block[field::MAGIC] == MAGIC && block[field::FLAGS] == [0; 2];
        if let Some(block) = block.filter(|block| is_question(block)) {
            self.answer(request, block);
        }
        Verdict::Reply { len }
    }
}

impl EchoInfo {
    fn answer(&mut self, request: &Request, block: &mut [u8; BLOCK_LEN]) {
        let number = |field: Range<usize>| {
            u64::from_be_bytes(block[field].try_into().expect("a field of 8 bytes"))
        };
        let sequence = number(field::SEQUENCE);
        let run = self.run(number(field::RUN), sequence);
        let flags = run.count(sequence);
        block[field::FLAGS].copy_from_slice(&flags.to_be_bytes());
        block[field::HOPS] = request.hop_limit.unwrap_or(0);
        block[field::NAME].copy_from_slice(&run.name.to_be_bytes());
        block[field::FIRST].copy_from_slice(&run.first.to_be_bytes());
        block[field::COUNT].copy_from_slice(&run.count.to_be_bytes());
        for (addr, ip, port) in [
            (request.peer, field::PEER, field::PEER_PORT),
            (request.local, field::LOCAL, field::LOCAL_PORT),
        ] {
            block[ip].copy_from_slice(&octets(addr));
            block[port].copy_from_slice(&addr.port().to_be_bytes());
        }
    }
}

fn octets(addr: SocketAddr) -> [u8; 16] {
    match addr.ip() {
        IpAddr::V4(ip) => ip.to_ipv6_mapped().octets(),
        IpAddr::V6(ip) => ip.octets(),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn request() -> Request {
        Request {
            hop_limit: Some(63),
            ..Request::new(
                "192.0.2.1:40000".parse().unwrap(),
                "[2001:db8::2]:9007".parse().unwrap(),
            )
        }
    }

    /// A question, behind four bytes of its own.
    fn question(run: u64, sequence: u64) -> Vec<u8> {
        let mut bytes = b"mine".to_vec();
        bytes.extend(MAGIC);
        bytes.extend(run.to_be_bytes());
        bytes.extend(sequence.to_be_bytes());
        bytes.resize(4 + BLOCK_LEN, 0);
        bytes
    }

    /// Flags, first, count and name of the answer to a question.
    fn answer(echo: &mut EchoInfo, run: u64, sequence: u64) -> (u16, u64, u64, u64) {
        let mut bytes = question(run, sequence);
        let len = bytes.len();
        assert_eq!(echo.respond(&request(), &mut bytes), Verdict::Reply { len });
        let number =
            |field: Range<usize>| u64::from_be_bytes(bytes[4..][field].try_into().unwrap());
        let flags = u16::from_be_bytes(bytes[4..][field::FLAGS].try_into().unwrap());
        (
            flags,
            number(field::FIRST),
            number(field::COUNT),
            number(field::NAME),
        )
    }

    #[test]
    fn the_bytes_are_those_of_the_picture() {
        let mut echo = EchoInfo {
            next_name: 0x0102_0304_0506_0708,
            ..EchoInfo::default()
        };
        let mut bytes = question(0x1112_1314_1516_1718, 0x2122_2324_2526_2728);
        echo.respond(&request(), &mut bytes);
        let mut expected = b"mineRFLinfo\x01".to_vec();
        expected.extend(0x11..=0x18);
        expected.extend(0x21..=0x28);
        expected.extend([0, 1, 0x9c, 0x40, 0x23, 0x2f, 63, 0]);
        expected.extend(0x01..=0x08);
        expected.extend(0x21..=0x28);
        expected.extend([0, 0, 0, 0, 0, 0, 0, 1]);
        expected.extend([0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, 192, 0, 2, 1]);
        expected.extend([0x20, 1, 0x0d, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 2]);
        assert_eq!(bytes, expected);
    }

    #[test]
    fn what_is_no_question_goes_back_as_it_came() {
        let mut echo = EchoInfo::default();
        let answered = {
            let mut bytes = question(7, 0);
            echo.respond(&request(), &mut bytes);
            bytes
        };
        let mut other_version = question(7, 0);
        other_version[11] = 2;
        let not_at_the_end = [question(7, 0), vec![0]].concat();
        let cut = question(7, 0)[5..].to_vec();
        for bytes in [answered, other_version, not_at_the_end, cut, vec![]] {
            let mut reply = bytes.clone();
            echo.respond(&request(), &mut reply);
            assert_eq!(reply, bytes);
        }
    }

    #[test]
    fn different_questions_are_counted_and_what_comes_again_or_late_is_told() {
        let mut echo = EchoInfo::default();
        let (_, _, _, name) = answer(&mut echo, 7, 10);
        for (sequence, flags, first, count) in [
            (11, ANSWERED, 10, 2),
            (13, ANSWERED, 10, 3),
            (13, ANSWERED | AGAIN, 10, 3),
            (12, ANSWERED | LATE, 10, 4),
            (12, ANSWERED | AGAIN, 10, 4),
            (9, ANSWERED | LATE, 9, 5),
            (200, ANSWERED, 9, 6),
            (136, ANSWERED | LATE, 9, 7),
            (137, ANSWERED | LATE, 9, 8),
            (137, ANSWERED | AGAIN, 9, 8),
            (u64::MAX, ANSWERED, 9, 9),
        ] {
            let told = answer(&mut echo, 7, sequence);
            assert_eq!(told, (flags, first, count, name), "{sequence}");
        }
        let other = answer(&mut echo, 8, 0);
        assert!(other.3 != name && other.2 == 1);
    }

    #[test]
    fn runs_take_no_more_memory_and_the_silent_one_gives_way() {
        let mut echo = EchoInfo::default();
        let (_, _, _, name) = answer(&mut echo, 0, 0);
        for run in 1..10_000 {
            answer(&mut echo, run, 0);
            // One that goes on asking stays.
            let told = answer(&mut echo, 0, run);
            assert_eq!((told.2, told.3), (run + 1, name));
        }
        assert_eq!(echo.runs.len(), RUNS);
        let again = (1..10_000).filter(|&run| answer(&mut echo, run, 1).2 == 2);
        assert!(again.count() < RUNS, "most are counted anew");
    }

    proptest! {
        #[test]
        fn a_count_is_that_of_different_questions(
            sequences in prop::collection::vec(0u64..64, 1..200),
        ) {
            let mut echo = EchoInfo::default();
            let mut different = std::collections::BTreeSet::new();
            for sequence in sequences {
                let is_new = different.insert(sequence);
                let (flags, first, count, _) = answer(&mut echo, 1, sequence);
                prop_assert_eq!(flags & AGAIN == 0, is_new);
                prop_assert_eq!(count, different.len() as u64);
                prop_assert_eq!(Some(&first), different.first());
            }
        }

        #[test]
        fn a_reply_is_as_long_as_its_request_and_only_its_block_is_written(
            bytes in prop::collection::vec(any::<u8>(), 0..200),
            has_magic in any::<bool>(),
        ) {
            let mut bytes = bytes;
            if let Some(block) = bytes.last_chunk_mut::<BLOCK_LEN>().filter(|_| has_magic) {
                block[field::MAGIC].copy_from_slice(&MAGIC);
            }
            let mut reply = bytes.clone();
            let verdict = EchoInfo::default().respond(&request(), &mut reply);
            prop_assert_eq!(verdict, Verdict::Reply { len: bytes.len() });
            let before = bytes.len().saturating_sub(BLOCK_LEN) + field::FLAGS.start;
            let same = before.min(bytes.len());
            prop_assert_eq!(&reply[..same], &bytes[..same]);
        }
    }
}
