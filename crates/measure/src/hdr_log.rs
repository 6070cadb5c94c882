//! The histogram log: HdrHistogram V2 interval log, which other tools read.

use std::fs::File;
use std::io::{self, Write};
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

use hdrhistogram::Histogram;
use hdrhistogram::serialization::V2DeflateSerializer;
use hdrhistogram::serialization::interval_log::IntervalLogWriterBuilder;
use rustix::fs::{FlockOperation, OFlags, fcntl_getfl, fcntl_setfl, flock};
use rustix::io::Errno;

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

/// The line by which other readers know the format. Version 1.3 only adds tags, which are not
/// written here, and older versions of HdrHistogram_c refuse it.
const VERSION: &str = "[Histogram log format version 1.2]";
/// The names of the columns.
const LEGEND: &str = "\"StartTimestamp\",\"Interval_Length\",\"Interval_Max\",\
                      \"Interval_Compressed_Histogram\"";

/// What becomes of an earlier log in the same file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Earlier {
    /// It stays, and the new one is appended: the log of a service that is started again.
    Stays,
    /// It is replaced.
    IsReplaced,
}

/// A log of times in nanoseconds, one histogram per interval.
pub struct HdrLog {
    path: PathBuf,
    file: File,
    head: String,
    serializer: V2DeflateSerializer,
    /// What has become of an earlier log.
    remark: Option<String>,
}

impl HdrLog {
    /// Opens the file, which nobody else writes a log to, and writes the head, which says what is
    /// logged: [`ROUND_TRIPS`] or [`RESIDENCE_TIMES`].
    ///
    /// # Errors
    /// `ENOENT`, `EACCES`, `EISDIR`, `EROFS` or `ENOSPC`, with the path and what to try; `ENXIO` of
    /// a FIFO that nobody reads, which is not waited for; a file that another program writes to.
    pub fn create(path: &Path, what: &str, earlier: Earlier) -> Result<Self, Error> {
        let file = open(path).map_err(|e| unwritable(path, &e))?;
        lock(&file).map_err(|e| unwritable(path, &e))?;
        let found = prepare(&file, path, earlier).map_err(|e| unwritable(path, &e))?;
        let start = clock::realtime_ns() / 1_000_000;
        let (seconds, millis) = (start / 1000, start % 1000);
        let title = title(what);
        let log = Self {
            path: path.to_owned(),
            file,
            head: format!(
                "#{title}\n#{VERSION}\n\
                 #[StartTime: {seconds}.{millis:03} (seconds since epoch)]\n{LEGEND}\n"
            ),
            serializer: V2DeflateSerializer::new(),
            remark: (found.len > 0).then(|| match earlier {
                Earlier::Stays => format!(
                    "{} holds an earlier log, which this one is appended to",
                    path.display()
                ),
                Earlier::IsReplaced => format!(
                    "{} held an earlier log of {} bytes, which is replaced",
                    path.display(),
                    found.len
                ),
            }),
        };
        let end = if found.is_cut { "\n" } else { "" };
        let head = format!("{end}{}", log.head);
        (&log.file)
            .write_all(head.as_bytes())
            .map_err(|e| unwritable(path, &e))?;
        Ok(log)
    }

    /// What has become of an earlier log in the same file, for whoever did not expect one.
    pub fn remark(&self) -> Option<&str> {
        self.remark.as_deref()
    }

    /// Appends the values of an interval that began at `start_unix_seconds`.
    ///
    /// # Errors
    /// `ENOSPC` or `EIO`, with the path; also a histogram that cannot be encoded.
    pub fn write(
        &mut self,
        values: &Histogram<u64>,
        start_unix_seconds: f64,
        length: Duration,
    ) -> Result<(), Error> {
        let attempted = || format!("cannot write the histogram log {}", self.path.display());
        let start = Duration::try_from_secs_f64(start_unix_seconds).unwrap_or_default();
        let mut line = Vec::new();
        if is_empty(&self.file) {
            // Whoever rotates logs has emptied it; a log without its head is none.
            line.extend_from_slice(self.head.as_bytes());
        }
        IntervalLogWriterBuilder::new()
            .begin_log_with(&mut line, &mut self.serializer)
            .map_err(|e| e.to_string())
            .and_then(|mut log| {
                log.write_histogram(values, start, length, None)
                    .map_err(|e| e.to_string())
            })
            // At once: nobody who reads meanwhile sees half a line.
            .and_then(|()| self.file.write_all(&line).map_err(|e| e.to_string()))
            .map_err(|said| Error::new(attempted(), said))
    }
}

/// Opens a file that is appended to. To open a FIFO would wait for its reader, to write to one may.
fn open(path: &Path) -> io::Result<File> {
    let mut options = File::options();
    options.append(true).create(true);
    let file = options.custom_flags(libc::O_NONBLOCK).open(path)?;
    let flags = fcntl_getfl(&file)?;
    fcntl_setfl(&file, flags - OFlags::NONBLOCK)?;
    Ok(file)
}

/// Keeps other programs that write logs from a regular file: theirs and ours would be one.
fn lock(file: &File) -> io::Result<()> {
    if !file.metadata()?.is_file() {
        return Ok(());
    }
    match flock(file, FlockOperation::NonBlockingLockExclusive) {
        Err(Errno::WOULDBLOCK) => Err(Errno::WOULDBLOCK.into()),
        // A file system without locks is none that is refused.
        _ => Ok(()),
    }
}

/// What a file had in it.
#[derive(Default)]
struct Found {
    len: u64,
    /// Whether its last line has no end, as where its writer was killed in the middle of it.
    is_cut: bool,
}

/// Makes room for a log in `file`.
fn prepare(file: &File, path: &Path, earlier: Earlier) -> io::Result<Found> {
    let metadata = file.metadata()?;
    let len = metadata.len();
    if !metadata.is_file() || len == 0 {
        return Ok(Found::default());
    }
    let is_cut = match earlier {
        Earlier::IsReplaced => {
            file.set_len(0)?;
            false
        }
        Earlier::Stays => {
            let mut last = *b"\n";
            // Whoever may not read it has written no more than whole lines.
            let read = File::open(path).and_then(|it| it.read_exact_at(&mut last, len - 1));
            read.is_ok() && last != *b"\n"
        }
    };
    Ok(Found { len, is_cut })
}

fn is_empty(file: &File) -> bool {
    file.metadata()
        .is_ok_and(|it| it.is_file() && it.len() == 0)
}

fn unwritable(path: &Path, e: &io::Error) -> Error {
    let attempted = format!("cannot write the histogram log {}", path.display());
    if e.raw_os_error() == Some(libc::EWOULDBLOCK) {
        return Error::new(attempted, "another program is writing one there")
            .try_this("--hdr takes a file of its own for each run");
    }
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
        let error = HdrLog::create(&path, ROUND_TRIPS, Earlier::Stays)
            .err()
            .unwrap();
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
            if let Ok(log) = HdrLog::create(&path, ROUND_TRIPS, Earlier::Stays) {
                break log;
            }
        };
        let values = Histogram::new(3).unwrap();
        // More than a pipe has room for, so that the writer waits for the reader.
        for second in 0..5000_u32 {
            log.write(&values, f64::from(second), Duration::from_secs(1))
                .unwrap();
        }
        drop(log);
        let text = reader.join().unwrap();
        fs::remove_file(&path).unwrap();
        assert_eq!(
            text.lines().filter(|line| !line.starts_with('#')).count(),
            5001,
            "and the legend"
        );
    }

    /// A file of this test, at a path that no other has, with `text` in it.
    fn holding(name: &str, text: &str) -> PathBuf {
        let path = temp_dir().join(format!("reflector-{name}-{}", process::id()));
        fs::write(&path, text).unwrap();
        path
    }

    fn write(log: &mut HdrLog) {
        let values = Histogram::new(3).unwrap();
        log.write(&values, 1_700_000_000.25, Duration::from_secs(1))
            .unwrap();
    }

    /// The beginnings of the lines.
    fn outline(path: &Path) -> Vec<String> {
        let text = fs::read_to_string(path).unwrap();
        let start = |line: &str| line.chars().take(12).collect();
        text.lines().map(start).collect()
    }

    const HEAD: [&str; 4] = [
        "#[Round-trip",
        "#[Histogram ",
        "#[StartTime:",
        "\"StartTimest",
    ];
    const INTERVAL: &str = "1700000000.2";

    #[test]
    fn a_log_that_was_emptied_by_who_rotates_logs_has_its_head_again() {
        let path = holding("rotated", "");
        let mut log = HdrLog::create(&path, ROUND_TRIPS, Earlier::Stays).unwrap();
        write(&mut log);
        let expected = [&HEAD[..], &[INTERVAL]].concat();
        assert_eq!(outline(&path), expected);
        File::options()
            .write(true)
            .open(&path)
            .unwrap()
            .set_len(0)
            .unwrap();
        write(&mut log);
        write(&mut log);
        assert_eq!(outline(&path), [&expected[..], &[INTERVAL]].concat());
        fs::remove_file(path).unwrap();
    }

    #[test]
    fn an_earlier_log_stays_or_is_replaced() {
        let path = holding("earlier", "1,1,1,HIST\n1,1,1,HI");
        let log = HdrLog::create(&path, ROUND_TRIPS, Earlier::Stays);
        let expected = [&["1,1,1,HIST", "1,1,1,HI"], &HEAD[..]].concat();
        assert_eq!(outline(&path), expected);
        drop(log);
        HdrLog::create(&path, ROUND_TRIPS, Earlier::IsReplaced).unwrap();
        assert_eq!(outline(&path), HEAD);
        fs::remove_file(path).unwrap();
    }

    #[test]
    fn a_file_has_one_writer_at_a_time() {
        let path = holding("locked", "");
        let first = HdrLog::create(&path, ROUND_TRIPS, Earlier::IsReplaced).unwrap();
        let error = HdrLog::create(&path, ROUND_TRIPS, Earlier::IsReplaced)
            .err()
            .unwrap();
        assert!(
            error
                .to_string()
                .contains("another program is writing one there"),
            "{error}"
        );
        assert_eq!(outline(&path), HEAD, "the first one's");
        drop(first);
        assert!(HdrLog::create(&path, ROUND_TRIPS, Earlier::Stays).is_ok());
        fs::remove_file(path).unwrap();
        // What is no file may be many programs'.
        let null = Path::new("/dev/null");
        let both = [(); 2].map(|()| HdrLog::create(null, ROUND_TRIPS, Earlier::Stays));
        assert!(both.iter().all(Result::is_ok));
    }
}
