//! Stderr that keeps nobody waiting.

use std::borrow::Cow;
use std::env;
use std::io::{self, IsTerminal, Write};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use reflector_measure::text;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::fstat;
use tracing::{Level, Metadata};
use tracing_subscriber::fmt::MakeWriter;

/// How long a line waits for a reader that is behind.
const PATIENCE: Duration = Duration::from_millis(100);

/// Whether the last line was lost: then the next one waits for nobody. One line at a time, so that
/// two do not rely on the same room.
static IS_FULL: Mutex<bool> = Mutex::new(false);

/// What makes a writer for each line of the log.
#[derive(Clone, Copy, Debug)]
pub struct Log {
    /// Whether lines are wrapped between words at a terminal.
    pub wraps: bool,
    /// Whether a line begins with its priority, as the journal takes it.
    has_priority: bool,
}

impl Log {
    /// A log whose lines are wrapped at a terminal or not; for the journal, if it reads stderr.
    pub fn new(wraps: bool) -> Self {
        Self {
            wraps,
            has_priority: is_journal(),
        }
    }
}

impl<'a> MakeWriter<'a> for Log {
    type Writer = Stderr;

    fn make_writer(&'a self) -> Stderr {
        Stderr {
            wraps: self.wraps,
            priority: None,
        }
    }

    fn make_writer_for(&'a self, of: &Metadata<'_>) -> Stderr {
        Stderr {
            wraps: self.wraps,
            priority: self.has_priority.then(|| priority(*of.level())),
        }
    }
}

/// The priority of a level (sd-daemon(3)).
fn priority(level: Level) -> u8 {
    match level {
        Level::ERROR => 3,
        Level::WARN => 4,
        Level::INFO => 6,
        _ => 7,
    }
}

/// Whether stderr is what systemd made for the journal, and not somewhere else by now:
/// `JOURNAL_STREAM` says which device and inode that is (systemd.exec(5)).
fn is_journal() -> bool {
    let stream = env::var("JOURNAL_STREAM").unwrap_or_default();
    let here = fstat(io::stderr()).map(|it| format!("{}:{}", it.st_dev, it.st_ino));
    here.is_ok_and(|here| here == stream)
}

/// Writes each line that stderr takes at once or soon; one that it does not take is lost. A reader
/// that has stopped reading must not stop a server, nor keep it from ending.
pub struct Stderr {
    /// Whether lines are wrapped between words at a terminal.
    wraps: bool,
    /// What the line begins with, if with anything.
    priority: Option<u8>,
}

impl Stderr {
    /// `line`, in lines of the terminal that hang from its level, where that is wanted.
    fn wrapped<'a>(&self, line: &'a [u8]) -> Cow<'a, [u8]> {
        let (true, Ok(text)) = (
            self.wraps && io::stderr().is_terminal(),
            str::from_utf8(line),
        ) else {
            return Cow::Borrowed(line);
        };
        Cow::Owned(hung(text, text::width(io::stderr())).into_bytes())
    }
}

/// A line of the log in lines of at most `width` columns.
fn hung(line: &str, width: usize) -> String {
    let (level, said) = line.split_at_checked(LEVEL_LEN).unwrap_or(("", line));
    text::paragraph(level, said.trim_end(), width)
}

/// Columns of a level, and the space behind it.
const LEVEL_LEN: usize = "ERROR ".len();

impl Write for Stderr {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        let mut is_full = IS_FULL.lock().unwrap_or_else(PoisonError::into_inner);
        let patience = if *is_full { Duration::ZERO } else { PATIENCE };
        *is_full = !has_room(patience);
        if *is_full {
            return Ok(line.len());
        }
        let mut stderr = io::stderr().lock();
        if let Some(priority) = self.priority {
            let line = [format!("<{priority}>").as_bytes(), line].concat();
            stderr.write_all(&line)?;
        } else {
            stderr.write_all(&self.wrapped(line))?;
        }
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        io::stderr().flush()
    }
}

/// Whether stderr takes a line without waiting, within `patience`. A pipe that does has room for
/// PIPE_BUF bytes (pipe(7)), which are more than a line; a file always does.
fn has_room(patience: Duration) -> bool {
    let stderr = io::stderr();
    let mut fds = [PollFd::new(&stderr, PollFlags::OUT)];
    let timeout = Timespec::try_from(patience).ok();
    // What cannot be polled is written to.
    poll(&mut fds, timeout.as_ref()).is_ok_and(|ready| ready > 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_of_the_log_hangs_from_its_level() {
        let line = " WARN the send buffer has 208 of 8192 KiB\n";
        assert_eq!(hung(line, 80), line);
        assert_eq!(
            hung(line, 30),
            " WARN the send buffer has 208\n      of 8192 KiB\n"
        );
    }
}
