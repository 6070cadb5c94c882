//! The datagram that `reflector load` sends and expects back unchanged.
//!
//! ```text
//!  0       4       8       12      16              24              32              40
//!  ├───────┼───────┼───────┼───────┼───────────────┼───────────────┼───────────────┼──────────
//!  │ magic │ check │session│ flow  │   sequence    │ scheduled_ns  │    sent_ns    │ pattern …
//! ```
//!
//! All numbers are big-endian. `check` is a hash of the other header words and of the datagram's
//! length, so a reply that was cut or lengthened shows as well as one that was changed. The bytes
//! behind the header depend on nothing but their position: they are compared, not computed.
//!
//! The hash is no defence against a forger, who can read this file; it finds accidents.

use std::ops::Range;

use reflector_udp::PAYLOAD_V6_MAX;

/// Bytes of the header, and so of the smallest probe.
pub(crate) const HEADER_LEN: usize = 40;
/// Bytes of the largest probe.
pub(crate) const PROBE_LEN_MAX: usize = PAYLOAD_V6_MAX as usize;

/// The first four bytes: "RFL1".
const MAGIC: u32 = 0x5246_4c31;

mod field {
    use super::Range;

    pub const MAGIC: Range<usize> = 0..4;
    pub const CHECK: Range<usize> = MAGIC.end..MAGIC.end + 4;
    pub const SESSION: Range<usize> = CHECK.end..CHECK.end + 4;
    pub const FLOW: Range<usize> = SESSION.end..SESSION.end + 4;
    pub const SEQUENCE: Range<usize> = FLOW.end..FLOW.end + 8;
    pub const SCHEDULED_NS: Range<usize> = SEQUENCE.end..SEQUENCE.end + 8;
    pub const SENT_NS: Range<usize> = SCHEDULED_NS.end..SCHEDULED_NS.end + 8;
}

const _: () = assert!(field::SENT_NS.end == HEADER_LEN);

/// A probe's header as bytes, long enough to be read.
#[derive(Clone, Copy, Debug)]
pub struct Packet<'a> {
    header: &'a [u8; HEADER_LEN],
    /// Bytes of the whole datagram.
    len: usize,
}

impl<'a> Packet<'a> {
    /// The header of `payload`; `None` if that is shorter than a header.
    #[inline]
    pub fn new_checked(payload: &'a [u8]) -> Option<Self> {
        Some(Self {
            header: payload.first_chunk()?,
            len: payload.len(),
        })
    }

    #[inline]
    fn u32(&self, field: Range<usize>) -> u32 {
        u32::from_be_bytes(self.header[field].try_into().expect("a field of 4 bytes"))
    }

    #[inline]
    fn u64(&self, field: Range<usize>) -> u64 {
        u64::from_be_bytes(self.header[field].try_into().expect("a field of 8 bytes"))
    }

    /// Whether it begins as a probe does.
    #[inline]
    pub(crate) fn has_magic(&self) -> bool {
        self.u32(field::MAGIC) == MAGIC
    }

    /// The run that it says it belongs to.
    #[inline]
    pub(crate) fn session(&self) -> u32 {
        self.u32(field::SESSION)
    }

    /// Whether the header and the length are as they were sent.
    #[inline]
    pub fn is_intact(&self) -> bool {
        self.has_magic() && self.u32(field::CHECK) == self.probe().check(self.len)
    }

    /// The plain struct, whether intact or not.
    #[inline]
    pub fn probe(&self) -> Probe {
        Probe {
            session: self.session(),
            flow: self.u32(field::FLOW),
            sequence: self.u64(field::SEQUENCE),
            scheduled_ns: self.u64(field::SCHEDULED_NS),
            sent_ns: self.u64(field::SENT_NS),
        }
    }
}

/// What a probe says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Probe {
    /// Random number of the run.
    pub session: u32,
    /// Index of the flow, that is, of the source port.
    pub flow: u32,
    /// Position in the flow, from 0.
    pub sequence: u64,
    /// When it was due, nanoseconds of `CLOCK_REALTIME`.
    pub scheduled_ns: u64,
    /// When it was handed to the kernel, nanoseconds of `CLOCK_REALTIME`.
    pub sent_ns: u64,
}

impl Probe {
    /// Writes the header of a datagram that is `packet`. What is behind the header stays.
    ///
    /// # Panics
    /// If `packet` is shorter than a header.
    #[inline]
    pub(crate) fn emit(&self, packet: &mut [u8]) {
        let check = self.check(packet.len());
        let header: &mut [u8; HEADER_LEN] = packet.first_chunk_mut().expect("room for a header");
        header[field::MAGIC].copy_from_slice(&MAGIC.to_be_bytes());
        header[field::CHECK].copy_from_slice(&check.to_be_bytes());
        header[field::SESSION].copy_from_slice(&self.session.to_be_bytes());
        header[field::FLOW].copy_from_slice(&self.flow.to_be_bytes());
        header[field::SEQUENCE].copy_from_slice(&self.sequence.to_be_bytes());
        header[field::SCHEDULED_NS].copy_from_slice(&self.scheduled_ns.to_be_bytes());
        header[field::SENT_NS].copy_from_slice(&self.sent_ns.to_be_bytes());
    }

    /// Hash of the header's words and of the datagram's length.
    ///
    /// Each step is a bijection of the state, so that no change of a single word goes unseen before
    /// the fold to 32 bits. The sequence comes last: along a train only it changes, and the
    /// compiler keeps the rest.
    #[inline]
    fn check(&self, len: usize) -> u32 {
        let step = |state: u64, word: u64| {
            (state ^ word)
                .wrapping_mul(0x9e37_79b9_7f4a_7c15)
                .rotate_left(29)
        };
        let names = u64::from(self.session) << 32 | u64::from(self.flow);
        let state = step(step(len as u64, names), self.scheduled_ns);
        let state = step(step(state, self.sent_ns), self.sequence);
        (state ^ state >> 32) as u32
    }
}

/// What stands behind the header, by position in the datagram.
static PATTERN: [u8; PROBE_LEN_MAX] = pattern();

const fn pattern() -> [u8; PROBE_LEN_MAX] {
    let mut bytes = [0; PROBE_LEN_MAX];
    let mut position = 0;
    while position < bytes.len() {
        bytes[position] = ((position as u32).wrapping_mul(0x9e37_79b1) >> 24) as u8;
        position += 1;
    }
    bytes
}

/// Writes the pattern behind the header of the datagram `packet`.
///
/// # Panics
/// If `packet` is shorter than a header or longer than [`PROBE_LEN_MAX`].
pub(crate) fn fill_pattern(packet: &mut [u8]) {
    let len = packet.len();
    packet[HEADER_LEN..].copy_from_slice(&PATTERN[HEADER_LEN..len]);
}

/// Whether the bytes behind the header are the pattern.
#[inline]
pub(crate) fn has_pattern(packet: &[u8]) -> bool {
    let expected = PATTERN.get(HEADER_LEN..packet.len());
    expected.is_some_and(|expected| packet[HEADER_LEN..] == *expected)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const PROBE: Probe = Probe {
        session: 0x0102_0304,
        flow: 0x0506_0708,
        sequence: 0x090a_0b0c_0d0e_0f10,
        scheduled_ns: 0x1112_1314_1516_1718,
        sent_ns: 0x191a_1b1c_1d1e_1f20,
    };

    /// The header of `PROBE` in a datagram of 41 bytes.
    static BYTES: [u8; 41] = [
        0x52, 0x46, 0x4c, 0x31, 0x4f, 0xd2, 0x4f, 0xb7, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13,
        14, 15, 16, 17, 18, 19, 20, 21, 22, 23, 24, 25, 26, 27, 28, 29, 30, 31, 32, 0xb8,
    ];

    fn any_probe() -> impl Strategy<Value = Probe> {
        any::<(u32, u32, u64, u64, u64)>().prop_map(|it| Probe {
            session: it.0,
            flow: it.1,
            sequence: it.2,
            scheduled_ns: it.3,
            sent_ns: it.4,
        })
    }

    fn datagram(probe: Probe, len: usize) -> Vec<u8> {
        // Begins as garbage, so that a byte that is not written shows.
        let mut bytes = vec![0xa5; len];
        fill_pattern(&mut bytes);
        probe.emit(&mut bytes);
        bytes
    }

    #[test]
    fn the_bytes_are_those_of_the_picture() {
        assert_eq!(datagram(PROBE, 41), BYTES);
        let packet = Packet::new_checked(&BYTES).unwrap();
        assert!(packet.is_intact() && has_pattern(&BYTES));
        assert_eq!(packet.probe(), PROBE);
    }

    #[test]
    fn what_is_shorter_than_a_header_is_no_packet() {
        assert!(Packet::new_checked(&BYTES[..39]).is_none());
        assert!(!has_pattern(&BYTES[..39]));
    }

    proptest! {
        #[test]
        fn what_is_emitted_is_parsed(probe in any_probe(), len in HEADER_LEN..2000) {
            let bytes = datagram(probe, len);
            let packet = Packet::new_checked(&bytes).unwrap();
            prop_assert!(packet.is_intact() && has_pattern(&bytes));
            prop_assert_eq!(packet.probe(), probe);
        }

        #[test]
        fn a_changed_byte_is_found(
            probe in any_probe(),
            len in HEADER_LEN..2000,
            at in any::<prop::sample::Index>(),
            flip in 1u8..,
        ) {
            let mut bytes = datagram(probe, len);
            bytes[at.index(len)] ^= flip;
            let packet = Packet::new_checked(&bytes).unwrap();
            prop_assert!(!packet.is_intact() || !has_pattern(&bytes));
        }

        #[test]
        fn a_changed_length_is_found(
            probe in any_probe(),
            len in HEADER_LEN..2000,
            to in 0usize..2000,
        ) {
            prop_assume!(len != to);
            let mut bytes = datagram(probe, len);
            bytes.resize(to, 0);
            prop_assert!(Packet::new_checked(&bytes).is_none_or(|packet| !packet.is_intact()));
        }

        #[test]
        fn no_bytes_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            if let Some(packet) = Packet::new_checked(&bytes) {
                let _ = (packet.is_intact(), packet.probe());
            }
            let _ = has_pattern(&bytes);
        }
    }
}
