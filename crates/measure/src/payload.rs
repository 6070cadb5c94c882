//! The bytes of a question, as typed in hexadecimal digits.

/// Bytes to send, typed in hexadecimal digits.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Payload(pub Vec<u8>);

impl Payload {
    /// The bytes that `text` spells, two digits each, of either case; white space between them is
    /// skipped, and so is `0x` at the start. At most `len_max` bytes.
    ///
    /// # Errors
    /// A sentence for the user: another character, an odd number of digits, too many bytes.
    pub fn from_hex(text: &str, len_max: usize) -> Result<Self, String> {
        let text = text.trim();
        let digits = text.strip_prefix("0x").or_else(|| text.strip_prefix("0X"));
        let digits: Vec<u8> = digits
            .unwrap_or(text)
            .chars()
            .filter(|c| !c.is_whitespace())
            .map(|c| c.to_digit(16).map(|digit| digit as u8))
            .collect::<Option<_>>()
            .ok_or("expected hexadecimal digits such as 70696e67")?;
        if !digits.len().is_multiple_of(2) {
            return Err("an odd number of hexadecimal digits".to_owned());
        }
        if digits.len() / 2 > len_max {
            return Err(format!("more than {len_max} bytes"));
        }
        let bytes = digits.chunks_exact(2).map(|pair| pair[0] << 4 | pair[1]);
        Ok(Self(bytes.collect()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hexadecimal_digits_are_read() {
        let read = |text: &str| Payload::from_hex(text, 4);
        assert_eq!(read("7069 6E67"), Ok(Payload(b"ping".to_vec())));
        assert_eq!(read("0x7069 6E67"), Ok(Payload(b"ping".to_vec())));
        assert_eq!(read(" 0Xff"), Ok(Payload(vec![0xff])));
        assert!(read("0x0xff").is_err() && read("00xff").is_err());
        assert_eq!(read(""), Ok(Payload(Vec::new())));
        assert!(read("7").unwrap_err().contains("odd"));
        assert!(read("0g").unwrap_err().contains("70696e67"));
        assert!(
            read("0000000000")
                .unwrap_err()
                .contains("more than 4 bytes")
        );
    }
}
