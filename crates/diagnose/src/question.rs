//! What is asked, and whether an answer is one to it.

use std::hash::{BuildHasher, Hasher, RandomState};
use std::str::FromStr;

use reflector_measure::payload::Payload;

/// Bytes of a DNS header (RFC 1035 §4.1.1).
const DNS_HEADER_LEN: usize = 12;

/// A domain name within the limits of RFC 1035 §2.3.4: labels of 1 to 63 bytes, 255 in all.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DnsName {
    text: String,
    wire: Vec<u8>,
}

impl FromStr for DnsName {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if !text.is_ascii() {
            return Err("write an international name in its xn-- form".to_owned());
        }
        let mut wire = Vec::new();
        for label in text.trim_end_matches('.').split('.') {
            if label.is_empty() && text == "." {
                break;
            }
            if !(1..=63).contains(&label.len()) {
                return Err(format!(
                    "'{text}' has a label that is empty or over 63 bytes"
                ));
            }
            wire.push(label.len() as u8);
            wire.extend(label.as_bytes());
        }
        wire.push(0);
        if wire.len() > 255 {
            return Err(format!(
                "'{text}' is longer than a domain name can be (255 bytes)"
            ));
        }
        Ok(Self {
            text: text.to_owned(),
            wire,
        })
    }
}

/// What is asked.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Question {
    /// A line of text with a random number in it, to be echoed.
    Echo,
    /// The user's bytes; any answer is one.
    Bytes(Payload),
    /// A DNS query for an A record (RFC 1035 §4.1).
    Dns(DnsName),
}

impl Question {
    /// The words for it in a sentence.
    pub(crate) fn describe(&self) -> String {
        match self {
            Self::Echo => "an echo request".to_owned(),
            Self::Bytes(Payload(bytes)) => format!("{} bytes of yours", bytes.len()),
            Self::Dns(name) => format!("a DNS query for {}", name.text),
        }
    }

    /// The payload of one datagram, unlike any other's where the question allows it.
    pub(crate) fn payload(&self) -> Vec<u8> {
        match self {
            Self::Echo => format!("reflector diagnose {:016x}\n", random()).into_bytes(),
            Self::Bytes(Payload(bytes)) => bytes.clone(),
            Self::Dns(name) => dns_query(name, random() as u16),
        }
    }

    /// Whether `answer` is an answer to `payload`.
    pub(crate) fn is_answered_by(&self, payload: &[u8], answer: &[u8]) -> bool {
        match self {
            Self::Echo => payload == answer,
            Self::Bytes(_) => true,
            // The same ID, and QR set.
            Self::Dns(_) => {
                answer.len() >= DNS_HEADER_LEN
                    && answer[..2] == payload[..2]
                    && answer[2] & 0x80 != 0
            }
        }
    }
}

fn dns_query(name: &DnsName, id: u16) -> Vec<u8> {
    let mut query = Vec::with_capacity(DNS_HEADER_LEN + name.wire.len() + 4);
    query.extend(id.to_be_bytes());
    query.extend([1, 0]); // Flags: a standard query, recursion desired.
    query.extend([0, 1, 0, 0, 0, 0, 0, 0]); // One question, no records.
    query.extend(&name.wire);
    query.extend([0, 1, 0, 1]); // Type A, class IN.
    query
}

/// A random number: the standard library seeds its hashers with one.
fn random() -> u64 {
    RandomState::new().build_hasher().finish()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_query_is_as_rfc_1035_draws_it() {
        let name: DnsName = "www.example.com.".parse().unwrap();
        let expected = b"\xab\xcd\x01\0\0\x01\0\0\0\0\0\0\x03www\x07example\x03com\0\0\x01\0\x01";
        assert_eq!(dns_query(&name, 0xabcd), expected);
        let root: DnsName = ".".parse().unwrap();
        assert_eq!(root.wire, [0]);
    }

    #[test]
    fn names_that_cannot_be_are_refused() {
        let long = ["a".repeat(60).as_str(); 5].join(".");
        for name in ["", "a..b", &"a".repeat(64), &long, "größe.de"] {
            assert!(name.parse::<DnsName>().is_err(), "{name}");
        }
    }

    #[test]
    fn answers_are_told_from_strangers() {
        let payload = Question::Echo.payload();
        assert_ne!(payload, Question::Echo.payload());
        assert!(Question::Echo.is_answered_by(&payload, &payload));
        assert!(!Question::Echo.is_answered_by(&payload, b"hello"));
        let dns = Question::Dns("example.com".parse().unwrap());
        let payload = dns.payload();
        let mut answer = payload.clone();
        assert!(!dns.is_answered_by(&payload, &answer));
        answer[2] |= 0x80;
        assert!(dns.is_answered_by(&payload, &answer));
        assert!(!dns.is_answered_by(&payload, &answer[..11]));
        answer[0] ^= 1;
        assert!(!dns.is_answered_by(&payload, &answer));
        assert!(Question::Bytes(Payload(Vec::new())).is_answered_by(b"", b"anything"));
    }
}
