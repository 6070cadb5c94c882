//! Stderr that keeps nobody waiting.

use std::io::{self, Write};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};

/// How long a line waits for a reader that is behind.
const PATIENCE: Duration = Duration::from_millis(100);

/// Whether the last line was lost: then the next one waits for nobody. One line at a time, so that
/// two do not rely on the same room.
static IS_FULL: Mutex<bool> = Mutex::new(false);

/// Writes each line that stderr takes at once or soon; one that it does not take is lost. A reader
/// that has stopped reading must not stop a server, nor keep it from ending.
pub struct Stderr;

impl Write for Stderr {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        let mut is_full = IS_FULL.lock().unwrap_or_else(PoisonError::into_inner);
        let patience = if *is_full { Duration::ZERO } else { PATIENCE };
        *is_full = !has_room(patience);
        if *is_full {
            return Ok(line.len());
        }
        io::stderr().write(line)
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
