//! Histograms as others wrote them: decoded, brought to nanoseconds, added.

use std::io::{Cursor, Read};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use flate2::read::ZlibDecoder;
use hdrhistogram::Histogram;
use hdrhistogram::serialization::Deserializer;

use crate::unit::Unit;

/// Significant decimal digits of sums: 0.1 %, as our own logs have.
const SIGNIFICANT_DIGITS: u8 = 3;
/// Longest time that is told apart from longer ones, in nanoseconds: 73 years. A histogram can hold
/// no more than twice that.
const TIME_NS_MAX: u64 = u64::MAX / 8;
/// Bytes of the largest encoded histogram that is decoded: five digits over the whole range have
/// six million counts.
const ENCODED_LEN_MAX: u64 = 64 << 20;
/// Bytes of the head of an encoded histogram (V2): cookie, length of the counts, offset, digits,
/// least and greatest value, ratio.
const HEAD_LEN: usize = 4 + 4 + 4 + 4 + 8 + 8 + 8;

/// Cookies of the encodings, without the word size in the last but one digit.
const V2: u32 = 0x1c84_9303;
const V2_COMPRESSED: u32 = 0x1c84_9304;
const V1: u32 = 0x1c84_9301;
const V1_COMPRESSED: u32 = 0x1c84_9302;
const V0: u32 = 0x1c84_9308;
const V0_COMPRESSED: u32 = 0x1c84_9309;
const WORD_SIZE: u32 = 0xf0;

/// A sum of histograms of any bounds.
#[derive(Clone, Debug)]
pub(crate) struct Sum(Histogram<u64>);

impl Sum {
    /// No values.
    pub(crate) fn new() -> Self {
        // Three is one of the numbers of digits that are allowed.
        Self(Histogram::new(SIGNIFICANT_DIGITS).expect("3 is between 0 and 5"))
    }

    /// Adds `other`.
    ///
    /// # Errors
    /// Its values are greater than the sum can hold.
    pub(crate) fn add(&mut self, other: &Histogram<u64>) -> Result<(), String> {
        self.0.add(other).map_err(|e| e.to_string())
    }

    /// Adds `count` times one value.
    pub(crate) fn record(&mut self, value: u64, count: u64) {
        let value = value.min(TIME_NS_MAX);
        self.0
            .record_n(value, count)
            .expect("it grows as far as TIME_NS_MAX");
    }

    /// The sum, in nanoseconds where it was in `unit`.
    pub(crate) fn into_ns(self, unit: Unit) -> Histogram<u64> {
        if unit == Unit::Ns {
            return self.0;
        }
        let mut scaled = Self::new();
        for value in self.0.iter_recorded() {
            let ns = value.value_iterated_to().saturating_mul(unit.ns());
            scaled.record(ns, value.count_at_value());
        }
        scaled.0
    }
}

impl Default for Sum {
    fn default() -> Self {
        Self::new()
    }
}

/// The histogram that `text` is the base64 of (V2, compressed or not).
///
/// # Errors
/// In words: no base64, another encoding than V2, or damaged.
pub(crate) fn decode(text: &str) -> Result<Histogram<u64>, String> {
    let bytes = STANDARD
        .decode(text)
        .map_err(|e| format!("its histogram is not base64 ({e})"))?;
    let cookie = bytes.first_chunk().copied().map_or(0, u32::from_be_bytes);
    match cookie & !WORD_SIZE {
        V2 => decode_v2(&bytes),
        V2_COMPRESSED => decode_v2(&inflate(&bytes)?),
        V1 | V1_COMPRESSED | V0 | V0_COMPRESSED => {
            Err("its histogram is in the encoding V0 or V1, and only V2 is read".to_owned())
        }
        _ => Err("it carries no HdrHistogram".to_owned()),
    }
}

/// Whether `text` begins as the base64 of a histogram does.
pub(crate) fn is_encoded(text: &str) -> bool {
    // The first three bytes are those of all cookies.
    text.starts_with("HIST")
}

fn inflate(bytes: &[u8]) -> Result<Vec<u8>, String> {
    // After the cookie and the length, which says no more than the end does.
    let mut deflated = ZlibDecoder::new(bytes.get(8..).unwrap_or_default());
    let mut inflated = Vec::new();
    (&mut deflated)
        .take(ENCODED_LEN_MAX)
        .read_to_end(&mut inflated)
        .map_err(|_| "its histogram is cut off or damaged".to_owned())?;
    Ok(inflated)
}

/// Decodes what is known to be no longer than it says, and to hold no count that the decoder
/// stumbles over: it allocates by the stated length, and negates without looking.
fn decode_v2(bytes: &[u8]) -> Result<Histogram<u64>, String> {
    let damaged = || "its histogram is cut off or damaged".to_owned();
    let (head, counts) = bytes.split_at_checked(HEAD_LEN).ok_or_else(damaged)?;
    if u32::from_be_bytes([head[0], head[1], head[2], head[3]]) & !WORD_SIZE != V2 {
        return Err(damaged());
    }
    let stated_len = u32::from_be_bytes([head[4], head[5], head[6], head[7]]) as usize;
    let counts = counts.get(..stated_len).ok_or_else(damaged)?;
    // Nine bytes of ones are the one number that has no opposite.
    if counts.windows(9).any(|nine| nine == [0xff; 9]) {
        return Err(damaged());
    }
    // Whoever writes other word sizes means the same.
    let mut bytes = bytes.to_owned();
    bytes[..4].copy_from_slice(&(V2 | 0x10).to_be_bytes());
    Deserializer::new()
        .deserialize(&mut Cursor::new(bytes))
        .map_err(|e| format!("its histogram is damaged ({e})"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use hdrhistogram::serialization::{Serializer, V2DeflateSerializer, V2Serializer};
    use proptest::prelude::*;

    fn of(values: &[u64]) -> Histogram<u64> {
        let mut sum = Sum::new();
        values.iter().for_each(|&value| sum.record(value, 1));
        sum.0
    }

    fn encode(histogram: &Histogram<u64>, serializer: &mut impl Serializer) -> Vec<u8> {
        let mut bytes = Vec::new();
        serializer.serialize(histogram, &mut bytes).ok().unwrap();
        bytes
    }

    fn values() -> impl Strategy<Value = Vec<u64>> {
        prop::collection::vec(prop_oneof![0..100_000u64, 0..TIME_NS_MAX], 0..60)
    }

    proptest! {
        #[test]
        fn parts_that_are_merged_equal_the_whole(parts in prop::collection::vec(values(), 0..6)) {
            let mut merged = Sum::new();
            for part in &parts {
                merged.add(&of(part)).unwrap();
            }
            prop_assert_eq!(merged.0, of(&parts.concat()));
        }

        #[test]
        fn what_was_encoded_is_decoded(values in values()) {
            let histogram = of(&values);
            let plain = encode(&histogram, &mut V2Serializer::new());
            let deflated = encode(&histogram, &mut V2DeflateSerializer::new());
            for bytes in [plain, deflated] {
                let text = STANDARD.encode(bytes);
                prop_assert!(is_encoded(&text));
                prop_assert_eq!(&decode(&text).unwrap(), &histogram);
            }
        }

        #[test]
        fn no_damage_does_harm(
            values in values(),
            at in any::<prop::sample::Index>(),
            bytes: [u8; 9],
        ) {
            let mut plain = encode(&of(&values), &mut V2Serializer::new());
            let at = at.index(plain.len());
            let len = bytes.len().min(plain.len() - at);
            plain[at..at + len].copy_from_slice(&bytes[..len]);
            if let Ok(histogram) = decode(&STANDARD.encode(plain)) {
                let _ = Sum::new().add(&histogram);
            }
        }
    }

    #[test]
    fn a_length_that_is_not_there_is_not_allocated() {
        let mut bytes = encode(&of(&[1]), &mut V2Serializer::new());
        bytes[4..8].copy_from_slice(&u32::MAX.to_be_bytes());
        assert!(
            decode(&STANDARD.encode(bytes))
                .unwrap_err()
                .contains("cut off")
        );
    }

    #[test]
    fn units_become_nanoseconds() {
        let mut sum = Sum::new();
        sum.record(5, 3);
        sum.record(u64::MAX, 1);
        let ns = sum.into_ns(Unit::Us);
        assert_eq!((ns.len(), ns.count_at(5_000)), (4, 3));
    }
}
