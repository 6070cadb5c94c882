//! Times as people write them.

use std::ops::RangeInclusive;
use std::time::Duration;

use humantime::{format_duration, parse_duration};

/// A hundred years, which stand for every longer time: they are never over either, and can be added
/// to any clock.
const MAX: Duration = Duration::from_secs(100 * 365 * 24 * 60 * 60);

/// Reads a time such as `500ms`, `1.5s` or `2m 30s`; a number without a unit is seconds. A micro is
/// `u`, or either of the two characters that look like a mu.
///
/// # Errors
/// In words, what was expected instead of `text`.
pub fn parse(text: &str) -> Result<Duration, String> {
    let text = &text.trim().replace('\u{3bc}', "\u{b5}");
    if text.contains('M') {
        return Err("a minute is m or min, as in 1m or 1min".to_owned());
    }
    let text = &with_zeros(text);
    let is_number = text.contains(|c: char| c.is_ascii_digit())
        && text.chars().all(|c| c.is_ascii_digit() || c == '.');
    let parsed = if is_number {
        parse_duration(&format!("{text}s"))
    } else {
        parse_duration(text)
    };
    let time = parsed
        .map_err(|_| "expected a time, such as 10 (seconds), 1.5s, 200ms or 2m".to_owned())?;
    Ok(time.min(MAX))
}

/// `text` with a zero before each point that has no digit there: half a second is .5 too.
fn with_zeros(text: &str) -> String {
    let mut before = ' ';
    let mut whole = String::with_capacity(text.len());
    for letter in text.chars() {
        if letter == '.' && !before.is_ascii_digit() {
            whole.push('0');
        }
        whole.push(letter);
        before = letter;
    }
    whole
}

/// The same, where the time has to be within `bounds`.
///
/// # Errors
/// In words, what was expected instead of `text`, or what the bounds are.
pub fn parse_within(text: &str, bounds: RangeInclusive<Duration>) -> Result<Duration, String> {
    let duration = parse(text)?;
    if bounds.contains(&duration) {
        Ok(duration)
    } else {
        Err(format!(
            "expected a time from {} to {}",
            format_duration(*bounds.start()),
            format_duration(*bounds.end())
        ))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_alone_is_seconds() {
        for (text, ms) in [
            ("10", 10_000),
            ("0", 0),
            ("0.5", 500),
            (".5", 500),
            (".25s", 250),
            ("1m .5s", 60_500),
            (" 2 ", 2_000),
            ("0s", 0),
            ("1.5s", 1_500),
            ("200ms", 200),
            ("2m 30s", 150_000),
        ] {
            assert_eq!(parse(text), Ok(Duration::from_millis(ms)), "{text}");
        }
        for text in [
            "",
            "-1",
            "1.",
            ".",
            "..5",
            "1..5",
            ".s",
            "ms",
            "1e3",
            "5 parsecs",
            "99999999999999999999",
        ] {
            let error = parse(text).unwrap_err();
            assert!(error.starts_with("expected a time"), "{text}: {error}");
        }
    }

    #[test]
    fn what_looks_like_a_mu_is_one() {
        for text in ["500us", "500\u{b5}s", "500\u{3bc}s"] {
            assert_eq!(parse(text), Ok(Duration::from_micros(500)), "{text}");
        }
    }

    #[test]
    fn a_month_is_not_taken_for_a_minute_and_no_time_is_too_long_to_add() {
        for text in ["1M", "1 M", "2M30s"] {
            let error = parse(text).unwrap_err();
            assert_eq!(error, "a minute is m or min, as in 1m or 1min", "{text}");
        }
        assert_eq!(parse("1min"), parse("1m"));
        for text in ["101y", "500000000000y", "18446744073709551615"] {
            assert_eq!(parse(text), Ok(MAX), "{text}");
        }
    }

    #[test]
    fn bounds_are_named_where_they_are_missed() {
        let bounds = || Duration::from_millis(1)..=Duration::from_secs(600);
        assert_eq!(parse_within("1ms", bounds()), Ok(Duration::from_millis(1)));
        assert_eq!(parse_within("600", bounds()), Ok(Duration::from_secs(600)));
        for text in ["0", "601"] {
            let error = parse_within(text, bounds()).unwrap_err();
            assert_eq!(error, "expected a time from 1ms to 10m");
        }
    }
}
