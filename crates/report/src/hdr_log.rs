//! HdrHistogram interval logs: ours, and those of other tools.

pub(crate) mod line;
mod span;

use std::collections::BTreeMap;
use std::io::BufRead;

use crate::encoded::Decoder;
use crate::histogram::{SUMS_LEN_MAX, Sum};
use crate::lines::{Fault, Line, Lines};
use crate::run::{Kind, Run, Saved};
use crate::unit::Unit;
use line::{Entry, Interval, Second};
use reflector_measure::hdr_log::{self, RESIDENCE_TIMES, ROUND_TRIPS};
use span::{Covers, Head};

/// Histograms in memory: one for each tag of each log of a file.
const SERIES_MAX: usize = 64;
/// Bytes of a tag: it is a name, in several places.
const TAG_LEN_MAX: usize = 300;

/// Intervals of one tag.
#[derive(Default)]
struct Series {
    covers: Covers,
    times: Sum,
}

/// The intervals of a log by their tags. A file has several where one was appended to another.
#[derive(Default)]
struct Log {
    /// What it holds, where it is ours.
    ours: Option<Kind>,
    head: Head,
    series: BTreeMap<String, Series>,
}

impl Log {
    /// Whether `interval` is one of before its last.
    fn is_before(&mut self, interval: &Interval<'_>) -> bool {
        let start = self.head.start(interval);
        let cover = |series: &Series| series.covers.of(self.head.second).is_before_end(start);
        self.series.get(interval.tag).is_some_and(cover)
    }
}

/// Reads all of `lines`, which are those of the file `name`, and adds each interval to the sum of
/// its tag. Another tool's times are in `unit`.
///
/// # Errors
/// The first line that is none of a log's, or whose histogram cannot be decoded. A last line that
/// was cut off is left out with a warning.
pub(crate) fn read(
    lines: &mut Lines<impl BufRead>,
    name: &str,
    unit: Option<Unit>,
) -> Result<Saved, Fault> {
    let mut logs = Logs::default();
    let mut warnings = Vec::new();
    let mut torn: Option<(Line, String)> = None;
    while let Some(line) = lines.read()? {
        if let Some((before, said)) = torn.take() {
            // Whoever was killed in the middle of a line is followed by another's head.
            if !line.text.starts_with("#[") {
                return Err(Fault::at(before.number, said));
            }
            warnings.push(before.is_left_out(name));
        }
        if let Some(kind) = kind_of_ours(&line.text) {
            logs.title = Some(kind);
        }
        let added = match line::parse(&line.text) {
            Some(entry) => logs.add(entry),
            None => Err("it is not an interval of a histogram log".to_owned()),
        };
        match added {
            Ok(()) => {}
            Err(said) if line.is_whole && !logs.is_empty() => torn = Some((line, said)),
            Err(said) => warnings.push(line.left_out(name, said, !logs.is_empty())?),
        }
    }
    if let Some((line, said)) = torn {
        return Err(Fault::at(line.number, said));
    }
    if logs.is_empty() {
        return Err(Fault::new("it is a histogram log without a histogram"));
    }
    let has_no_unit = !logs.are_ours();
    if unit.is_none() && has_no_unit {
        warnings.push(format!(
            "{name}: states no unit, nanoseconds are assumed as in other HdrHistogram logs; --unit \
             sets it"
        ));
    }
    Ok(Saved {
        runs: logs.into_runs(name, unit.unwrap_or(Unit::Ns)),
        warnings,
        has_no_unit,
    })
}

/// The logs of a file.
#[derive(Default)]
struct Logs {
    over: Vec<Log>,
    last: Log,
    /// What the log that begins is said to hold.
    title: Option<Kind>,
    /// Whether the last one has begun once more, as pieces of a log that was rotated do.
    is_again: bool,
    /// Bytes that the sums take.
    len: usize,
    decoder: Decoder,
}

impl Logs {
    fn is_empty(&self) -> bool {
        self.over.is_empty() && self.last.series.is_empty()
    }

    fn are_ours(&self) -> bool {
        self.over
            .iter()
            .chain([&self.last])
            .all(|log| log.ours.is_some())
    }

    fn add(&mut self, entry: Entry<'_>) -> Result<(), String> {
        match entry {
            Entry::Remark => {}
            Entry::StartTime(start_time) => self.begin(Some(start_time)),
            Entry::BaseTime(base_time) => self.last.head.base_time = Some(base_time),
            Entry::Legend(second) => self.last.head.second = second,
            Entry::Interval(interval) => self.take(&interval)?,
        }
        Ok(())
    }

    /// Another beginning is that of another run.
    fn begin(&mut self, start_time: Option<f64>) {
        let ours = self.title.take();
        if self.last.head.start_time == start_time && self.last.ours == ours {
            self.is_again = true;
        } else {
            self.begin_other(ours, start_time);
        }
    }

    fn begin_other(&mut self, ours: Option<Kind>, start_time: Option<f64>) {
        if !self.last.series.is_empty() {
            self.over.push(std::mem::take(&mut self.last));
        }
        self.last.ours = ours;
        self.last.head = Head {
            start_time,
            ..Head::default()
        };
    }

    fn take(&mut self, interval: &Interval<'_>) -> Result<(), String> {
        if self.title.is_some() {
            self.begin(None);
        }
        if interval.tag.len() > TAG_LEN_MAX {
            return Err(format!("its tag has more than {TAG_LEN_MAX} bytes"));
        }
        let histogram = self.decoder.decode(interval.encoded)?;
        if std::mem::take(&mut self.is_again) && self.last.is_before(interval) {
            // It does not go on: it is the same once more.
            self.begin_other(self.last.ours.clone(), self.last.head.start_time);
        }
        let over: usize = self.over.iter().map(|log| log.series.len()).sum();
        let Log { head, series, .. } = &mut self.last;
        if interval.second < interval.start {
            head.second = Second::Length;
        }
        if over + series.len() == SERIES_MAX && !series.contains_key(interval.tag) {
            return Err(format!("it has more than {SERIES_MAX} tags or runs"));
        }
        let series = series.entry(interval.tag.to_owned()).or_insert_with(|| {
            let series = Series::default();
            self.len += series.times.len_bytes();
            series
        });
        series.covers.add(interval, head.start(interval))?;
        self.len -= series.times.len_bytes();
        series.times.add(&histogram)?;
        self.len += series.times.len_bytes();
        if self.len > SUMS_LEN_MAX {
            return Err("its tags or runs have more digits than there is room for".to_owned());
        }
        Ok(())
    }

    fn into_runs(self, name: &str, unit: Unit) -> Vec<Run> {
        let logs = Vec::from_iter(self.over.into_iter().chain([self.last]));
        let is_one = logs.len() == 1;
        let mut runs = Vec::new();
        for (number, log) in (1..).zip(logs) {
            let has_tags = log.series.len() > 1;
            let unit = if log.ours.is_some() { Unit::Ns } else { unit };
            for (tag, series) in log.series {
                let mut name = name.to_owned();
                if !is_one {
                    name += &format!(" #{number}");
                }
                if has_tags && !tag.is_empty() {
                    name += &format!(" [{tag}]");
                }
                let kind = log.ours.clone().unwrap_or(Kind::Other(tag));
                let cover = series.covers.of(log.head.second);
                let (seconds, span) = (cover.seconds(), cover.span());
                let times_ns = series.times.into_ns(unit);
                runs.push(Run {
                    span,
                    ..Run::of_times(name, kind, seconds, times_ns)
                });
            }
        }
        runs
    }
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

#[cfg(test)]
mod tests;
