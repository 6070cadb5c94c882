//! Histogram logs that the program writes, read as any reader of the format would.

use std::env;
use std::fs;
use std::path::PathBuf;
use std::process;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use hdrhistogram::Histogram;
use hdrhistogram::serialization::Deserializer;
use hdrhistogram::serialization::interval_log::{IntervalLogIterator, LogEntry};

/// A histogram log in the folder for temporary files. Gone when dropped.
pub struct HistogramLog(PathBuf);

impl HistogramLog {
    /// The place of a log that is not there yet; `name` is one that no other test has.
    pub fn new(name: &str) -> Self {
        let name = format!("reflector-{}-{name}.hlog", process::id());
        Self(env::temp_dir().join(name))
    }

    /// What `--hdr` takes.
    pub fn path(&self) -> &str {
        self.0.to_str().expect("a path of ours is UTF-8")
    }

    /// All that was written.
    pub fn text(&self) -> String {
        fs::read_to_string(&self.0).expect("the program has written it")
    }

    /// The histogram of each interval, in nanoseconds.
    pub fn intervals(&self) -> Vec<Histogram<u64>> {
        let mut deserializer = Deserializer::new();
        IntervalLogIterator::new(self.text().as_bytes())
            .map(|entry| entry.expect("every line is of the format"))
            .filter_map(|entry| match entry {
                LogEntry::Interval(interval) => Some(interval),
                LogEntry::StartTime(_) | LogEntry::BaseTime(_) => None,
            })
            .map(|interval| {
                let bytes = STANDARD.decode(interval.encoded_histogram());
                let bytes = bytes.expect("a histogram is base64");
                let histogram = deserializer.deserialize(&mut &bytes[..]);
                histogram.expect("it is a histogram of whole numbers")
            })
            .collect()
    }
}

impl Drop for HistogramLog {
    fn drop(&mut self) {
        // It may never have been made.
        let _ = fs::remove_file(&self.0);
    }
}
