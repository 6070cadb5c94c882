//! One line of a histogram log.

/// What a line of a log is.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Entry<'a> {
    /// Nothing to be merged.
    Remark,
    /// When the log begins, in seconds of the Unix epoch.
    StartTime(f64),
    /// What the stamps of the lines are counted from, in seconds of the Unix epoch.
    BaseTime(f64),
    /// The names of the columns.
    Legend(Second),
    /// One histogram.
    Interval(Interval<'a>),
}

/// What the second column is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Second {
    /// How long the interval is, as most writers have it.
    #[default]
    Length,
    /// When it ends, as the legend says; whose writer may mean the length all the same.
    End,
}

/// The values of an interval, as the line has them.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Interval<'a> {
    /// What tells it from others of the same time; empty for none.
    pub(crate) tag: &'a str,
    /// Its beginning, in seconds.
    pub(crate) start: f64,
    /// Its length or its end, in seconds.
    pub(crate) second: f64,
    /// The histogram, in base64.
    pub(crate) encoded: &'a str,
}

/// Understands a line; `None` if it is none of a log's.
pub(crate) fn parse(text: &str) -> Option<Entry<'_>> {
    if text.starts_with("\"StartTimestamp\"") {
        let has_end = text.contains("\"EndTimestamp\"");
        return Some(Entry::Legend(if has_end {
            Second::End
        } else {
            Second::Length
        }));
    }
    if text.is_empty() || text.starts_with('#') {
        let time = |name| seconds(text.strip_prefix(name)?);
        let start = time("#[StartTime: ").map(Entry::StartTime);
        let base = || time("#[BaseTime: ").map(Entry::BaseTime);
        return Some(start.or_else(base).unwrap_or(Entry::Remark));
    }
    interval(text).map(Entry::Interval)
}

/// The greatest stamp or length, in whatever unit the writer has it, so that no sum of them is
/// infinite: thirty million years in seconds.
const STAMP_MAX: f64 = 1e15;

/// A number that something may follow, as in `1441812279.474 (seconds since epoch), …`.
fn seconds(text: &str) -> Option<f64> {
    let number = text.split([' ', ']']).next()?;
    number.parse().ok().filter(|it: &f64| it.abs() <= STAMP_MAX)
}

/// An interval, as in `Tag=a,0.127,1.007,2.769,HISTFAAA…`, whose greatest value, the third number,
/// has a unit that the log does not tell.
fn interval(text: &str) -> Option<Interval<'_>> {
    let (tag, rest) = match text.strip_prefix("Tag=") {
        Some(rest) => rest.split_once(',')?,
        None => ("", text),
    };
    let mut fields = rest.splitn(4, ',');
    let mut number = || fields.next()?.trim().parse().ok();
    let numbers: [f64; 3] = [number()?, number()?, number()?];
    let is_stamp = |it: f64| it.abs() <= STAMP_MAX;
    let is_interval =
        is_stamp(numbers[0]) && is_stamp(numbers[1]) && numbers[1] >= 0.0 && numbers[2].is_finite();
    let encoded = fields.next()?.trim();
    (is_interval && !encoded.is_empty()).then_some(Interval {
        tag,
        start: numbers[0],
        second: numbers[1],
        encoded,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_line_is_told() {
        let interval = |tag, start, second| {
            Some(Entry::Interval(Interval {
                tag,
                start,
                second,
                encoded: "HISTx",
            }))
        };
        let legend = "\"StartTimestamp\",\"Interval_Length\",\"Interval_Max\"";
        for (text, entry) in [
            ("#[Histogram log format version 1.3]", Some(Entry::Remark)),
            (
                "#[StartTime: 1441812279.474 (seconds since epoch), Wed Sep 09 08:24:39 2015]",
                Some(Entry::StartTime(1_441_812_279.474)),
            ),
            (
                "#[StartTime: 17.5 (seconds since epoch)]",
                Some(Entry::StartTime(17.5)),
            ),
            (
                "#[BaseTime: 0.000 (seconds since epoch)]",
                Some(Entry::BaseTime(0.0)),
            ),
            ("#[StartTime: soon]", Some(Entry::Remark)),
            (legend, Some(Entry::Legend(Second::Length))),
            (
                &legend.replace("Interval_Length", "EndTimestamp"),
                Some(Entry::Legend(Second::End)),
            ),
            ("", Some(Entry::Remark)),
            ("0.127,1.007,2.769,HISTx", interval("", 0.127, 1.007)),
            ("Tag=a b,-0.250,1,2,HISTx", interval("a b", -0.25, 1.0)),
            ("0.1,-1.0,2.0,HISTx", None),
            ("0.1,nan,2.0,HISTx", None),
            ("0.1,1.0,2.0,", None),
            ("1e308,1.0,2.0,HISTx", None),
            ("0.1,1e16,2.0,HISTx", None),
            ("#[BaseTime: 1e308]", Some(Entry::Remark)),
            ("0.1,1.0,HISTx", None),
            ("1.0,2.0", None),
            ("hello", None),
        ] {
            assert_eq!(parse(text), entry, "{text}");
        }
    }
}
