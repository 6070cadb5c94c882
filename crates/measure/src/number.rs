//! Numbers as people write them: `500`, `20k`, `1.5M`, and sizes in bytes such as `64KiB`.

/// Decimal units, as with rates: 1k is a thousand.
const DECIMAL: [(&str, u64); 4] = [
    ("k", 1_000),
    ("K", 1_000),
    ("M", 1_000_000),
    ("G", 1_000_000_000),
];

/// Units of bytes, in lower case.
const OF_BYTES: [(&str, u64); 9] = [
    ("", 1),
    ("k", 1_000),
    ("m", 1_000_000),
    ("g", 1_000_000_000),
    ("t", 1_000_000_000_000),
    ("ki", 1 << 10),
    ("mi", 1 << 20),
    ("gi", 1 << 30),
    ("ti", 1 << 40),
];

/// Reads a number of at least 0, of which 1k is a thousand, 1M a million and 1G a thousand
/// millions.
pub fn decimal(text: &str) -> Option<f64> {
    let (digits, factor) = with_decimal_unit(text);
    float(digits).map(|number| number * factor as f64)
}

/// Reads a whole number, with the same units: 1.5k is 1500.
pub fn whole(text: &str) -> Option<u64> {
    let (digits, factor) = with_decimal_unit(text);
    scaled(digits, factor)
}

/// Reads a number of bytes. 1k and 1kB are 1000 bytes, 1Ki and 1KiB are 1024, however large the
/// letters are.
pub fn bytes(text: &str) -> Option<u64> {
    let text = text.trim().to_ascii_lowercase();
    let unit_start = text.find(|it: char| it.is_ascii_alphabetic());
    let (digits, unit) = text.split_at(unit_start.unwrap_or(text.len()));
    let unit = unit.strip_suffix('b').unwrap_or(unit);
    let &(_, factor) = OF_BYTES.iter().find(|(name, _)| *name == unit)?;
    scaled(digits, factor)
}

fn with_decimal_unit(text: &str) -> (&str, u64) {
    let text = text.trim();
    let mut units = DECIMAL.iter();
    let found = units.find_map(|&(unit, factor)| Some((text.strip_suffix(unit)?, factor)));
    found.unwrap_or((text, 1))
}

/// `digits` times `factor`, if that is a whole number.
fn scaled(digits: &str, factor: u64) -> Option<u64> {
    /// Above it, a floating-point number may stand for several whole ones.
    const EXACT_MAX: f64 = (1_u64 << 53) as f64;
    let digits = digits.trim();
    if let Some(number) = digits.parse::<u64>().ok().filter(|_| is_plain(digits)) {
        return number.checked_mul(factor);
    }
    let number = float(digits)? * factor as f64;
    let whole = number.round();
    // 1.001 times a thousand is a little less than 1001.
    let is_whole = (number - whole).abs() <= 4.0 * f64::EPSILON * number;
    (is_whole && whole <= EXACT_MAX).then_some(whole as u64)
}

fn float(digits: &str) -> Option<f64> {
    let digits = digits.trim();
    let number = digits.parse::<f64>().ok()?;
    (is_plain(digits) && number.is_finite()).then_some(number)
}

/// Whether there is no sign, nor a word such as "inf"; 1e6 is a number.
fn is_plain(digits: &str) -> bool {
    let starts = digits.starts_with(|it: char| it.is_ascii_digit() || it == '.');
    starts && digits.ends_with(|it: char| it.is_ascii_digit())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_whole_number_may_have_a_unit_and_a_fraction_of_it() {
        for (text, number) in [
            ("0", 0),
            ("500", 500),
            (" 20k ", 20_000),
            ("20 k", 20_000),
            ("20K", 20_000),
            ("1.5M", 1_500_000),
            (".5k", 500),
            ("1.001k", 1001),
            ("1e6", 1_000_000),
            ("3G", 3_000_000_000),
            ("18446744073709551615", u64::MAX),
        ] {
            assert_eq!(whole(text), Some(number), "{text}");
        }
        for text in [
            "",
            "k",
            "-1",
            "+1",
            "0.5",
            "1.0005k",
            "1.",
            "1kk",
            "1m",
            "1Ki",
            "inf",
            "1,5k",
            "18446744073709551616",
            "99999999999G",
            "0x10",
            "1_000",
        ] {
            assert_eq!(whole(text), None, "{text}");
        }
    }

    #[test]
    fn a_number_need_not_be_whole() {
        for (text, number) in [("0.1", 0.1), (".1", 0.1), ("1.5M", 1.5e6), ("1e3", 1e3)] {
            assert_eq!(decimal(text), Some(number), "{text}");
        }
        for text in ["", ".", "-1", "+1", "nan", "inf", "1e999", "5µ"] {
            assert_eq!(decimal(text), None, "{text}");
        }
    }

    #[test]
    fn bytes_have_decimal_and_binary_units() {
        for (text, number) in [
            ("0", 0),
            ("64", 64),
            ("64B", 64),
            ("1k", 1000),
            ("1KB", 1000),
            ("1.5 KiB", 1536),
            (".5Ki", 512),
            ("8mib", 8 << 20),
            ("2GiB", 2 << 30),
            ("1T", 1_000_000_000_000),
        ] {
            assert_eq!(bytes(text), Some(number), "{text}");
        }
        for text in [
            "",
            "KiB",
            "1.7",
            "1.7B",
            "0.0001KiB",
            "-1",
            "1KiBi",
            "1bb",
            "1 k b",
            "much",
            "99999999TiB",
        ] {
            assert_eq!(bytes(text), None, "{text}");
        }
    }
}
