//! The histogram log: HdrHistogram V2 interval log, which other tools read.

use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};
use std::time::{Duration, UNIX_EPOCH};

use hdrhistogram::Histogram;
use hdrhistogram::serialization::V2DeflateSerializer;
use hdrhistogram::serialization::interval_log::IntervalLogWriterBuilder;

use crate::clock;
use crate::error::Error;

/// What the log of `reflector load` holds, as its first line says it.
pub const ROUND_TRIPS: &str = "Round-trip times in nanoseconds";
/// What the log of `reflector` holds.
pub const RESIDENCE_TIMES: &str = "Residence times in nanoseconds";

/// The first line of a log that holds `what`, without its `#`.
pub fn title(what: &str) -> String {
    format!("[{what}, reflector]")
}

/// A log of times in nanoseconds, one histogram per interval.
pub struct HdrLog {
    path: PathBuf,
    file: BufWriter<File>,
    serializer: V2DeflateSerializer,
}

impl HdrLog {
    /// Creates the file, or empties it, and writes the head, which says what is logged:
    /// [`ROUND_TRIPS`] or [`RESIDENCE_TIMES`].
    ///
    /// # Errors
    /// `ENOENT`, `EACCES`, `EISDIR`, `EROFS` or `ENOSPC`, with the path and what to try.
    pub fn create(path: &Path, what: &str) -> Result<Self, Error> {
        let file = File::create(path).map_err(|e| unwritable(path, &e))?;
        let mut log = Self {
            path: path.to_owned(),
            file: BufWriter::new(file),
            serializer: V2DeflateSerializer::new(),
        };
        IntervalLogWriterBuilder::new()
            .add_comment(&title(what))
            .with_start_time(UNIX_EPOCH + Duration::from_nanos(clock::realtime_ns()))
            .begin_log_with(&mut log.file, &mut log.serializer)
            .map(drop)
            .and_then(|()| log.file.flush())
            .map_err(|e| unwritable(path, &e))?;
        Ok(log)
    }

    /// Appends the values of an interval that began `start` after the log did.
    ///
    /// # Errors
    /// `ENOSPC` or `EIO`, with the path; also a histogram that cannot be encoded.
    pub fn write(
        &mut self,
        values: &Histogram<u64>,
        start: Duration,
        length: Duration,
    ) -> Result<(), Error> {
        let written = IntervalLogWriterBuilder::new()
            .begin_log_with(&mut self.file, &mut self.serializer)
            .map_err(|e| e.to_string())
            .and_then(|mut log| {
                log.write_histogram(values, start, length, None)
                    .map_err(|e| e.to_string())
            })
            .and_then(|()| self.file.flush().map_err(|e| e.to_string()));
        let attempted = || format!("cannot write the histogram log {}", self.path.display());
        written.map_err(|said| Error::new(attempted(), said))
    }
}

fn unwritable(path: &Path, e: &std::io::Error) -> Error {
    Error::system(
        format!("cannot write the histogram log {}", path.display()),
        e,
    )
    .try_this("--hdr takes a file in a directory that this user may write to")
}
