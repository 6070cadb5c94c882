//! Histograms as others encode them (HdrHistogram's V2), within bounds.

use std::io::Read;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use flate2::read::ZlibDecoder;
use hdrhistogram::Histogram;
use hdrhistogram::serialization::Deserializer;

use crate::histogram::{COUNT_MAX, len_bytes};

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
/// What their last digits tell apart.
const FAMILY: u32 = 0x1c84_9300;
/// Cookies of histograms of fractions, which carry one of whole numbers.
const FRACTIONS: [u32; 2] = [0x0c72_124e, 0x0c72_124f];
/// Bytes that the histograms of a file may take, decoded one after the other: a line of a hundred
/// bytes can stand for six million counts, and a file has room for millions of such lines. A log of
/// ours with an interval each second comes to about 15 GiB in a day.
const DECODED_LEN_MAX: u64 = 32 << 30;

/// Decodes the histograms of one file, while they are not too much in all.
pub(crate) struct Decoder {
    /// Bytes that may still be decoded.
    left: u64,
}

impl Decoder {
    /// For one file.
    pub(crate) fn new() -> Self {
        Self {
            left: DECODED_LEN_MAX,
        }
    }

    /// The histogram that `text` is the base64 of (V2, compressed or not).
    ///
    /// # Errors
    /// In words: no base64, another encoding than V2, damaged, or more than is decoded of a file.
    pub(crate) fn decode(&mut self, text: &str) -> Result<Histogram<u64>, String> {
        let histogram = decode(text, &mut self.left)?;
        spend(&mut self.left, len_bytes(&histogram))?;
        if histogram.len() > COUNT_MAX {
            return Err(format!("its histogram has more than {COUNT_MAX} values"));
        }
        Ok(histogram)
    }
}

impl Default for Decoder {
    fn default() -> Self {
        Self::new()
    }
}

fn spend(left: &mut u64, len: usize) -> Result<(), String> {
    *left = left.checked_sub(len as u64).ok_or_else(|| {
        format!(
            "its histograms take more than {} GiB, decoded one after the other; split it, and name \
             the pieces",
            DECODED_LEN_MAX >> 30
        )
    })?;
    Ok(())
}

fn decode(text: &str, left: &mut u64) -> Result<Histogram<u64>, String> {
    let bytes = STANDARD
        .decode(text)
        .map_err(|e| format!("its histogram is not base64 ({e})"))?;
    let cookie = bytes.first_chunk().copied().map_or(0, u32::from_be_bytes);
    match cookie & !WORD_SIZE {
        V2 => decode_v2(bytes),
        V2_COMPRESSED => {
            let inflated = inflate(&bytes)?;
            spend(left, inflated.len())?;
            decode_v2(inflated)
        }
        V1 | V1_COMPRESSED | V0 | V0_COMPRESSED => {
            Err("its histogram is in the encoding V0 or V1, and only V2 is read".to_owned())
        }
        _ if FRACTIONS.contains(&cookie) => Err(
            "its histogram is one of fractions (DHIST), and only those of whole numbers are read"
                .to_owned(),
        ),
        _ => Err("it carries no HdrHistogram".to_owned()),
    }
}

/// Whether `text` begins as the base64 of a histogram does, and no word does.
pub(crate) fn is_encoded(text: &str) -> bool {
    let begin = text.get(..8).and_then(|it| STANDARD.decode(it).ok());
    let cookie = begin.and_then(|it| it.first_chunk().copied().map(u32::from_be_bytes));
    let is_ours = |cookie: u32| {
        let word_size = (cookie & WORD_SIZE) >> 4;
        let encodings = [V2, V2_COMPRESSED, V1, V1_COMPRESSED, V0, V0_COMPRESSED];
        matches!(word_size, 0 | 1 | 2 | 4 | 8) && encodings.contains(&(cookie & !WORD_SIZE))
    };
    cookie.is_some_and(|it| FRACTIONS.contains(&it) || it & !0xff == FAMILY && is_ours(it))
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
fn decode_v2(mut bytes: Vec<u8>) -> Result<Histogram<u64>, String> {
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
    bytes[..4].copy_from_slice(&(V2 | 0x10).to_be_bytes());
    Deserializer::new()
        .deserialize(&mut &bytes[..])
        .map_err(|e| format!("its histogram is damaged ({e})"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use hdrhistogram::serialization::{Serializer, V2DeflateSerializer, V2Serializer};

    fn encoded(histogram: &Histogram<u64>) -> String {
        let mut bytes = Vec::new();
        let serialized = V2Serializer::new().serialize(histogram, &mut bytes);
        serialized.ok().unwrap();
        STANDARD.encode(bytes)
    }

    #[test]
    fn a_file_does_not_decode_without_end() {
        let mut fine = Histogram::<u64>::new_with_bounds(1, u64::MAX / 2, 5).unwrap();
        fine.record(1).unwrap();
        let mut bytes = Vec::new();
        let serialized = V2DeflateSerializer::new().serialize(&fine, &mut bytes);
        serialized.ok().unwrap();
        let text = STANDARD.encode(bytes);
        assert!(text.len() < 100, "{}", text.len());
        let len = len_bytes(&fine) as u64;
        assert!(len > 40 << 20);
        // Room for two of them, less one byte.
        let mut decoder = Decoder { left: 2 * len };
        decoder.decode(&text).unwrap();
        let said = decoder.decode(&text).unwrap_err();
        assert!(
            said.contains("more than 32 GiB") && said.contains("split it"),
            "{said}"
        );
    }

    #[test]
    fn counts_that_would_wrap_are_refused() {
        // Looking for a quantile, the library adds them without looking.
        let mut histogram = Histogram::<u64>::new(3).unwrap();
        for value in [1, 2, 3] {
            histogram.record_n(value, i64::MAX as u64).unwrap();
        }
        let said = Decoder::new().decode(&encoded(&histogram)).unwrap_err();
        assert!(said.contains("more than 9007199254740992 values"), "{said}");
        let mut most = Histogram::<u64>::new(3).unwrap();
        most.record_n(1, COUNT_MAX).unwrap();
        assert!(Decoder::new().decode(&encoded(&most)).is_ok());
    }
}
