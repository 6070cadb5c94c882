//! The histogram log: HdrHistogram V2 interval log, which other tools read.

use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, UNIX_EPOCH};

use hdrhistogram::Histogram;
use hdrhistogram::serialization::V2DeflateSerializer;
use hdrhistogram::serialization::interval_log::IntervalLogWriterBuilder;
use rustix::fs::{OFlags, fcntl_getfl, fcntl_setfl};

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
    /// `ENOENT`, `EACCES`, `EISDIR`, `EROFS` or `ENOSPC`, with the path and what to try; `ENXIO` of
    /// a FIFO that nobody reads, which is not waited for.
    pub fn create(path: &Path, what: &str) -> Result<Self, Error> {
        let file = open(path).map_err(|e| unwritable(path, &e))?;
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

/// Opens a file that is written from its beginning. To open a FIFO would wait for its reader, to
/// write to one may.
fn open(path: &Path) -> io::Result<File> {
    let mut options = File::options();
    options.write(true).create(true).truncate(true);
    let file = options.custom_flags(libc::O_NONBLOCK).open(path)?;
    let flags = fcntl_getfl(&file)?;
    fcntl_setfl(&file, flags - OFlags::NONBLOCK)?;
    Ok(file)
}

fn unwritable(path: &Path, e: &io::Error) -> Error {
    let attempted = format!("cannot write the histogram log {}", path.display());
    let error = Error::system(attempted, e);
    match e.raw_os_error() {
        Some(libc::ENXIO) => error.try_this("nobody reads this FIFO: start its reader first"),
        _ => error.try_this("--hdr takes a file in a directory that this user may write to"),
    }
}

#[cfg(test)]
mod tests {
    use std::env::temp_dir;
    use std::fs;
    use std::process;
    use std::thread;

    use rustix::fs::{CWD, FileType, Mode, mknodat};

    use super::*;

    /// A FIFO of this test, at a path that no other has.
    fn fifo(name: &str) -> PathBuf {
        let path = temp_dir().join(format!("reflector-{name}-{}", process::id()));
        let mode = Mode::RUSR | Mode::WUSR;
        mknodat(CWD, &path, FileType::Fifo, mode, 0).unwrap();
        path
    }

    #[test]
    fn a_fifo_that_nobody_reads_is_refused_at_once() {
        let path = fifo("unread");
        let error = HdrLog::create(&path, ROUND_TRIPS).err().unwrap();
        fs::remove_file(&path).unwrap();
        assert!(
            error.to_string().ends_with("start its reader first"),
            "{error}"
        );
    }

    #[test]
    fn a_fifo_that_somebody_reads_is_written_to() {
        let path = fifo("read");
        let own = path.clone();
        let reader = thread::spawn(move || fs::read_to_string(own).unwrap());
        let mut log = loop {
            // The reader may be late.
            if let Ok(log) = HdrLog::create(&path, ROUND_TRIPS) {
                break log;
            }
        };
        let values = Histogram::new(3).unwrap();
        // More than a pipe has room for, so that the writer waits for the reader.
        for second in 0..5000 {
            let start = Duration::from_secs(second);
            log.write(&values, start, Duration::from_secs(1)).unwrap();
        }
        drop(log);
        let text = reader.join().unwrap();
        fs::remove_file(&path).unwrap();
        assert_eq!(
            text.lines().filter(|line| !line.starts_with('#')).count(),
            5000
        );
    }
}
