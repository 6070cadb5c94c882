//! Values that options of more than one command have, as typed.

use std::fmt::Display;
use std::ops::{Bound, RangeBounds, RangeInclusive};
use std::time::Duration;

use std::ffi::OsStr;

use clap::builder::{PossibleValue, PossibleValuesParser, TypedValueParser};
use clap::{Arg, Args, Command, Error, ValueEnum};
use reflector_measure::duration;
use reflector_measure::number;
use reflector_measure::target::Family;

/// On or off.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Switch {
    On,
    Off,
}

impl Switch {
    pub fn is_on(self) -> bool {
        self == Self::On
    }
}

/// The only family that is used. A command whose target is optional adds that it takes one.
#[derive(Args, Clone, Copy, Debug)]
pub struct OnlyFamily {
    /// Use IPv4 only
    #[arg(short = '4', long, conflicts_with = "ipv6")]
    ipv4: bool,
    /// Use IPv6 only
    #[arg(short = '6', long)]
    ipv6: bool,
}

impl OnlyFamily {
    /// The family, if one is wanted.
    pub fn family(self) -> Option<Family> {
        match self {
            Self { ipv4: true, .. } => Some(Family::V4),
            Self { ipv6: true, .. } => Some(Family::V6),
            _ => None,
        }
    }
}

/// How datagrams are moved.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Engine {
    /// io_uring where it is available, else recvmmsg and sendmmsg.
    Auto,
    /// io_uring or nothing.
    Uring,
    /// recvmmsg and sendmmsg.
    Mmsg,
}

impl Engine {
    /// Its name on the command line.
    pub fn name(self) -> &'static str {
        match self {
            Self::Auto => "auto",
            Self::Uring => "uring",
            Self::Mmsg => "mmsg",
        }
    }
}

/// Reads a whole number within `range`, of which 1k is a thousand.
pub fn number<T>(range: impl RangeBounds<T> + Clone) -> impl Fn(&str) -> Result<T, String> + Clone
where
    T: TryFrom<u64> + PartialOrd + Display,
{
    let expected = match (range.start_bound(), range.end_bound()) {
        (Bound::Included(min), Bound::Included(max)) => format!(" from {min} to {max}"),
        (Bound::Included(min), _) => {
            format!(" of at least {min}, such as 500, 20k or 1M")
        }
        _ => String::new(),
    };
    move |text| {
        let number = number::whole(text).and_then(|it| T::try_from(it).ok());
        let number = number.filter(|it| range.contains(it));
        number.ok_or_else(|| format!("expected a whole number{expected}"))
    }
}

/// Reads the number of a port.
pub fn port(text: &str) -> Result<u16, String> {
    let number = text.trim().parse().ok().filter(|&port| port > 0);
    number.ok_or_else(|| format!("expected a port from 1 to {}", u16::MAX))
}

/// Reads the name of one of `all`.
pub fn one_of<T, const N: usize>(all: [(PossibleValue, T); N]) -> impl TypedValueParser<Value = T>
where
    T: Copy + Send + Sync + 'static,
{
    let names = all.clone().map(|(name, _)| name);
    PossibleValuesParser::new(names).map(move |text| {
        let found = all.iter().find(|(name, _)| name.get_name() == text);
        found.expect("one of the possible values").1
    })
}

/// Values of an option that takes a list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct List<T>(pub Vec<T>);

/// Reads the items of a list, each with `item`, whose error is that of the list.
pub fn list<P: TypedValueParser>(item: P) -> impl TypedValueParser<Value = List<P::Value>> {
    ListParser(item)
}

#[derive(Clone)]
struct ListParser<P>(P);

impl<P: TypedValueParser> TypedValueParser for ListParser<P> {
    type Value = List<P::Value>;

    fn possible_values(&self) -> Option<Box<dyn Iterator<Item = PossibleValue> + '_>> {
        self.0.possible_values()
    }

    fn parse_ref(
        &self,
        program: &Command,
        option: Option<&Arg>,
        value: &OsStr,
    ) -> Result<Self::Value, Error> {
        let Some(text) = value.to_str() else {
            return self
                .0
                .parse_ref(program, option, value)
                .map(|it| List(vec![it]));
        };
        let read = |item| self.0.parse_ref(program, option, OsStr::new(item));
        items(text).map(read).collect::<Result<_, _>>().map(List)
    }
}

/// The items of a list, at least one: between commas, with or without spaces, and a comma may
/// follow the last.
pub fn items(text: &str) -> impl Iterator<Item = &str> {
    let text = text.trim();
    text.strip_suffix(',')
        .unwrap_or(text)
        .split(',')
        .map(str::trim)
}

/// How long one question may wait for its answer.
pub const WAIT_FOR_ANSWER: RangeInclusive<Duration> =
    Duration::from_millis(1)..=Duration::from_secs(600);

/// Reads a time within `bounds`.
pub fn time(bounds: RangeInclusive<Duration>) -> impl Fn(&str) -> Result<Duration, String> + Clone {
    move |text| duration::parse_within(text, bounds.clone())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_that_is_refused_says_which_are_taken() {
        assert_eq!(number::<u16>(1..=9)("9"), Ok(9));
        for text in ["0", "10", "two", "", "65537", "-1"] {
            let error = number::<u16>(1..=9)(text).unwrap_err();
            assert_eq!(error, "expected a whole number from 1 to 9", "{text}");
        }
        assert_eq!(number::<u16>(1..=60_000)("1.5k"), Ok(1500));
        let error = number::<u64>(1..)("0").unwrap_err();
        assert_eq!(
            error,
            "expected a whole number of at least 1, such as 500, 20k or 1M"
        );
        assert_eq!(
            number::<u64>(..)("-1").unwrap_err(),
            "expected a whole number"
        );
    }

    #[test]
    fn a_list_may_have_spaces_and_end_in_a_comma() {
        for text in ["7,53", "7, 53", " 7 ,53, "] {
            assert_eq!(Vec::from_iter(items(text)), ["7", "53"], "{text}");
        }
        assert_eq!(Vec::from_iter(items(",")), [""], "which no item is");
        assert_eq!(Vec::from_iter(items("7,,53")), ["7", "", "53"]);
    }
}
