//! Units of other tools' times.

use std::str::FromStr;

/// A unit of time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Unit {
    /// Nanoseconds.
    Ns,
    /// Microseconds.
    Us,
    /// Milliseconds.
    Ms,
    /// Seconds.
    S,
}

impl Unit {
    /// All of them, the shortest first.
    pub const ALL: [Self; 4] = [Self::Ns, Self::Us, Self::Ms, Self::S];

    /// Its symbol.
    pub fn symbol(self) -> &'static str {
        match self {
            Self::Ns => "ns",
            Self::Us => "us",
            Self::Ms => "ms",
            Self::S => "s",
        }
    }

    /// Nanoseconds in one.
    pub(crate) fn ns(self) -> u64 {
        match self {
            Self::Ns => 1,
            Self::Us => 1_000,
            Self::Ms => 1_000_000,
            Self::S => 1_000_000_000,
        }
    }
}

/// What another tool's file can be, of those whose times have a unit that may not be told.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[non_exhaustive]
pub enum Form {
    /// A histogram log.
    Log,
    /// A percentile table.
    Table,
    /// A JSON document.
    Json,
}

impl Form {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Log, Self::Table, Self::Json];

    /// Its name.
    pub fn name(self) -> &'static str {
        match self {
            Self::Log => "log",
            Self::Table => "table",
            Self::Json => "json",
        }
    }
}

/// The unit of files that do not tell theirs, of one form or of whichever.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct UnitOf {
    /// Of which files; `None` where all are of one form.
    pub form: Option<Form>,
    /// Their unit.
    pub unit: Unit,
}

impl FromStr for UnitOf {
    type Err = String;

    /// From `us`, or from `table=us`.
    fn from_str(text: &str) -> Result<Self, String> {
        let (form, symbol) = match text.split_once('=') {
            None => (None, text),
            Some((name, symbol)) => {
                let form = Form::ALL.into_iter().find(|it| it.name() == name);
                let form = form.ok_or_else(|| {
                    format!("\"{name}\" is no form of a file: it is log, table or json")
                })?;
                (Some(form), symbol)
            }
        };
        let unit = Unit::ALL.into_iter().find(|it| it.symbol() == symbol);
        let unit = unit.ok_or_else(|| {
            format!("\"{symbol}\" is no unit: it is ns, us, ms or s, as in us or table=us")
        })?;
        Ok(Self { form, unit })
    }
}

/// The unit of files of `form`, if `units` say it: the last one wins, and one of that form.
pub(crate) fn of(units: &[UnitOf], form: Form) -> Option<Unit> {
    let said = |wanted| units.iter().rev().find(move |it| it.form == wanted);
    said(Some(form)).or_else(|| said(None)).map(|it| it.unit)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_unit_is_of_a_form_or_of_whichever() {
        let units = ["us", "table=ms"].map(|text| text.parse::<UnitOf>().unwrap());
        let of = |form| of(&units, form);
        assert_eq!(
            Form::ALL.map(of),
            [Some(Unit::Us), Some(Unit::Ms), Some(Unit::Us)]
        );
        assert_eq!(super::of(&units[1..], Form::Log), None);
        for text in ["", "us=table", "hours", "table=", "log=us=s"] {
            assert!(text.parse::<UnitOf>().is_err(), "{text}");
        }
    }
}
