//! HdrHistogram interval logs: ours, and those of other tools.

use std::collections::BTreeMap;
use std::io::BufRead;

use hdrhistogram::serialization::interval_log::{IntervalLogIterator, LogEntry};

use crate::histogram::{self, Sum};
use crate::lines::{Fault, Lines};
use crate::run::{Kind, Run, Saved};
use crate::unit::Unit;
use reflector_measure::hdr_log::{self, RESIDENCE_TIMES, ROUND_TRIPS};

/// Tags of one log: each has a histogram in memory.
const TAGS_MAX: usize = 64;

/// What a line of a log is.
pub(crate) enum Entry {
    /// Nothing to be merged.
    Remark,
    /// An interval: its tag, its length, its histogram in base64.
    Interval(String, f64, String),
}

/// Understands a line; `None` if it is none of a log's.
pub(crate) fn parse(text: &str) -> Option<Entry> {
    let is_legend = text.starts_with("\"StartTimestamp\"");
    if text.is_empty() || text.starts_with('#') || is_legend {
        return Some(Entry::Remark);
    }
    // The parser knows a line by its end.
    let line = format!("{text}\n");
    match IntervalLogIterator::new(line.as_bytes()).next()? {
        Ok(LogEntry::Interval(interval)) => Some(Entry::Interval(
            interval
                .tag()
                .map_or_else(String::new, |tag| tag.as_str().to_owned()),
            interval.duration().as_secs_f64(),
            interval.encoded_histogram().to_owned(),
        )),
        _ => None,
    }
}

/// Intervals of one tag.
#[derive(Default)]
struct Series {
    seconds: f64,
    times: Sum,
}

/// Reads all of `lines`, which are those of the file `name`, and adds each interval to the sum of
/// its tag. Another tool's times are in `unit`.
///
/// # Errors
/// The first line that is none of a log's, or whose histogram cannot be decoded. A last line that
/// was cut off is left out with a warning.
pub(crate) fn read(
    mut lines: Lines<impl BufRead>,
    name: &str,
    unit: Option<Unit>,
) -> Result<Saved, Fault> {
    let mut ours = None;
    let mut series: BTreeMap<String, Series> = BTreeMap::new();
    let mut warnings = Vec::new();
    while let Some(line) = lines.read()? {
        ours = ours.or_else(|| kind_of_ours(&line.text));
        let added = match parse(&line.text) {
            Some(Entry::Remark) => continue,
            Some(Entry::Interval(tag, seconds, encoded)) => {
                add(&mut series, tag, seconds, &encoded)
            }
            None => Err("it is not an interval of a histogram log".to_owned()),
        };
        match added {
            Ok(()) => {}
            Err(said) => warnings.push(line.left_out(name, said, !series.is_empty())?),
        }
    }
    if series.is_empty() {
        return Err(Fault::new("it is a histogram log without a histogram"));
    }
    if ours.is_none() && unit.is_none() {
        warnings.push(format!(
            "{name}: states no unit, nanoseconds are assumed as in other HdrHistogram logs; --unit \
             sets it"
        ));
    }
    let unit = unit.filter(|_| ours.is_none()).unwrap_or(Unit::Ns);
    let has_tags = series.len() > 1;
    let run = |(tag, series): (String, Series)| {
        let name = if has_tags && !tag.is_empty() {
            format!("{name} [{tag}]")
        } else {
            name.to_owned()
        };
        let kind = ours.clone().unwrap_or(Kind::Other(tag));
        Run::of_times(name, kind, series.seconds, series.times.into_ns(unit))
    };
    Ok(Saved {
        runs: series.into_iter().map(run).collect(),
        warnings,
    })
}

fn add(
    series: &mut BTreeMap<String, Series>,
    tag: String,
    seconds: f64,
    encoded: &str,
) -> Result<(), String> {
    let histogram = histogram::decode(encoded)?;
    if series.len() == TAGS_MAX && !series.contains_key(&tag) {
        return Err(format!("it has more than {TAGS_MAX} tags"));
    }
    let series = series.entry(tag).or_default();
    series.seconds += seconds;
    series.times.add(&histogram)
}

/// What our own logs say in their first line.
fn kind_of_ours(text: &str) -> Option<Kind> {
    let title = text.strip_prefix('#')?;
    [
        (ROUND_TRIPS, Kind::RoundTrip),
        (RESIDENCE_TIMES, Kind::Residence),
    ]
    .into_iter()
    .find_map(|(what, kind)| (title == hdr_log::title(what)).then_some(kind))
}
