//! Percentages as people write them.

use std::str::FromStr;

use crate::number;

/// Hundredths, at least 0: `0.1%`, or `0.1` for short.
///
/// Parsed by [`FromStr`] it is a share, from 0 to 100; [`Percent::parse_change`] has no upper
/// bound.
#[derive(Clone, Copy, Debug, PartialEq, PartialOrd)]
pub struct Percent(pub f64);

impl Percent {
    /// Reads a change, which can be more than 100 %.
    ///
    /// # Errors
    /// In words, what was expected instead of `text`.
    pub fn parse_change(text: &str) -> Result<Self, String> {
        match percentage(text) {
            Some(percent) => Ok(Self(percent)),
            None => Err("expected a percentage, such as 5%".to_owned()),
        }
    }
}

impl FromStr for Percent {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match percentage(text) {
            Some(percent) if percent <= 100.0 => Ok(Self(percent)),
            _ => Err("expected a percentage from 0 to 100, such as 0.1%".to_owned()),
        }
    }
}

fn percentage(text: &str) -> Option<f64> {
    let text = text.trim();
    number::decimal(text.strip_suffix('%').unwrap_or(text))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_share_is_at_most_all() {
        assert_eq!("0.1%".parse(), Ok(Percent(0.1)));
        assert_eq!("100".parse(), Ok(Percent(100.0)));
        assert_eq!(" .5 % ".parse(), Ok(Percent(0.5)));
        for text in ["", "%", "101", "-0.1", "nan"] {
            assert!(text.parse::<Percent>().is_err(), "{text}");
        }
    }

    #[test]
    fn a_change_may_be_more_than_all_but_not_less_than_none() {
        assert_eq!(Percent::parse_change("250 %"), Ok(Percent(250.0)));
        for text in ["", "-1", "inf", "nan", "%"] {
            assert!(Percent::parse_change(text).is_err(), "{text}");
        }
    }
}
