//! What is asked, and whether an answer is one to it.

use std::str::FromStr;

use reflector_measure::echo_info;
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
    /// A line of text with a number in it, to be echoed.
    Echo,
    /// The same, and a reflector that agrees tells how it sees the asker.
    EchoInfo,
    /// The user's bytes; any answer is one.
    Bytes(Payload),
    /// A DNS query for an A record (RFC 1035 §4.1).
    Dns(DnsName),
}

impl Question {
    /// Whether an answer may tell how the asker is seen.
    pub(crate) fn asks_for_info(&self) -> bool {
        *self == Self::EchoInfo
    }

    /// Whether nothing tells an answer to one from that to another.
    pub(crate) fn has_any_answer(&self) -> bool {
        matches!(self, Self::Bytes(_))
    }

    fn is_echo(&self, bytes: &[u8], own: &[u8]) -> bool {
        bytes == own || *self == Self::EchoInfo && echo_info::is_answer_to(bytes, own)
    }

    /// The word for it in reports.
    pub(crate) fn name(&self) -> &'static str {
        match self {
            Self::Echo | Self::EchoInfo => "echo",
            Self::Bytes(_) => "bytes",
            Self::Dns(_) => "dns",
        }
    }

    /// The words for it in a sentence.
    pub(crate) fn describe(&self) -> String {
        match self {
            Self::Echo | Self::EchoInfo => "an echo request".to_owned(),
            Self::Bytes(Payload(bytes)) => format!("{} bytes of yours", bytes.len()),
            Self::Dns(name) => format!("a DNS query for {}", name.text),
        }
    }

    /// The payload of one datagram: of question `serial` of those that start at `first`, unlike
    /// any other's where the question allows it.
    pub(crate) fn payload(&self, first: u64, serial: u16) -> Vec<u8> {
        let number = first.wrapping_add(serial.into());
        match self {
            Self::Echo => format!("{ECHO_PREFIX}{number:016x}\n").into_bytes(),
            Self::EchoInfo => {
                let mut bytes = Self::Echo.payload(first, serial);
                bytes.resize(bytes.len() + echo_info::BLOCK_LEN, 0);
                echo_info::ask(&mut bytes, first, serial.into());
                bytes
            }
            Self::Bytes(Payload(bytes)) => bytes.clone(),
            Self::Dns(name) => dns_query(name, number as u16),
        }
    }

    /// What `bytes` are an answer to, where question `serial` of `asked` that start at `first`
    /// waits for one.
    pub(crate) fn answer(&self, first: u64, serial: u16, asked: u16, bytes: &[u8]) -> Answer {
        let own = self.payload(first, serial);
        match self {
            Self::Echo | Self::EchoInfo if self.is_echo(bytes, &own) => Answer::Expected,
            Self::Echo | Self::EchoInfo
                if bytes.len() == own.len() && bytes.starts_with(ECHO_PREFIX.as_bytes()) =>
            {
                match echoed_serial(bytes, first).filter(|&it| it < asked) {
                    None => Answer::ToAnother(None),
                    // Of this run, and as it was sent.
                    Some(other) if self.is_echo(bytes, &self.payload(first, other)) => {
                        Answer::ToAnother(Some(other))
                    }
                    Some(_) => Answer::Other,
                }
            }
            Self::Bytes(_) => Answer::Expected,
            // QR is set.
            Self::Dns(_) if bytes.len() >= DNS_HEADER_LEN && bytes[2] & 0x80 != 0 => {
                let id = u16::from_be_bytes([bytes[0], bytes[1]]);
                match id.wrapping_sub(first as u16) {
                    it if it == serial => Answer::Expected,
                    it if it < asked => Answer::ToAnother(Some(it)),
                    _ => Answer::Other,
                }
            }
            _ => Answer::Other,
        }
    }
}

/// What an echo request begins with.
const ECHO_PREFIX: &str = "reflector diagnose ";

/// What an answer is, as far as the question tells.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Answer {
    /// That to the question of the socket it came to.
    Expected,
    /// That to another question; to which, if it is one of this run.
    ToAnother(Option<u16>),
    /// Something else.
    Other,
}

/// Which question of those that start at `first` an echo request is, if any.
fn echoed_serial(bytes: &[u8], first: u64) -> Option<u16> {
    let digits = bytes.get(ECHO_PREFIX.len()..ECHO_PREFIX.len() + 16)?;
    let number = u64::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok()?;
    u16::try_from(number.wrapping_sub(first)).ok()
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
        let echo = |bytes: &[u8]| Question::Echo.answer(u64::MAX, 1, 2, bytes);
        let [own, other] = [1, 0].map(|serial| Question::Echo.payload(u64::MAX, serial));
        assert_eq!(echo(&own), Answer::Expected);
        assert_eq!(echo(&other), Answer::ToAnother(Some(0)));
        let of_another_run = Question::Echo.payload(7, 0);
        assert_eq!(echo(&of_another_run), Answer::ToAnother(None));
        assert_eq!(echo(b"hello"), Answer::Other);
        let info = |bytes: &[u8]| Question::EchoInfo.answer(u64::MAX, 1, 2, bytes);
        let [own, other] = [1, 0].map(|serial| Question::EchoInfo.payload(u64::MAX, serial));
        assert_eq!(info(&own), Answer::Expected);
        assert_eq!(info(&other), Answer::ToAnother(Some(0)));
        for mut changed in [own, other] {
            *changed.last_mut().unwrap() ^= 1;
            assert_eq!(info(&changed), Answer::Other);
        }
        assert_eq!(info(&Question::Echo.payload(u64::MAX, 1)), Answer::Other);
        let dns = Question::Dns("example.com".parse().unwrap());
        let judge = |bytes: &[u8]| dns.answer(0xffff, 1, 2, bytes);
        let mut answer = dns.payload(0xffff, 1);
        assert_eq!(judge(&answer), Answer::Other, "a query is no answer");
        answer[2] |= 0x80;
        assert_eq!(judge(&answer), Answer::Expected);
        assert_eq!(judge(&answer[..11]), Answer::Other);
        let mut other = dns.payload(0xffff, 0);
        other[2] |= 0x80;
        assert_eq!(judge(&other), Answer::ToAnother(Some(0)));
        answer[0] ^= 1;
        assert_eq!(judge(&answer), Answer::Other);
        let bytes = Question::Bytes(Payload(Vec::new()));
        assert_eq!(bytes.answer(0, 0, 1, b"anything"), Answer::Expected);
    }
}
