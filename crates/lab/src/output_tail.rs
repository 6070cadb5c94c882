//! The last that a process has written, to tell why it ended.

use std::io::{self, Read};
use std::sync::mpsc::{Receiver, channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::Duration;

/// The tail of what a process writes to a pipe: its stderr, or all of its output.
#[derive(Debug)]
pub(crate) struct OutputTail {
    tail: Arc<Mutex<Vec<u8>>>,
    end: Receiver<()>,
}

impl OutputTail {
    /// Bytes that are kept.
    const TAIL_LEN: usize = 2048;

    /// Reads from `pipe` until its end, on a thread of its own, so that the writer never waits.
    ///
    /// # Errors
    /// EAGAIN where the system has no room for a thread.
    pub(crate) fn of(mut pipe: impl Read + Send + 'static) -> io::Result<Self> {
        let tail = Arc::new(Mutex::new(Vec::new()));
        let shared = Arc::clone(&tail);
        let (at_end, end) = channel();
        let read = move || {
            let mut buffer = [0; 4096];
            while let Ok(len @ 1..) = pipe.read(&mut buffer) {
                let mut tail = shared.lock().unwrap_or_else(PoisonError::into_inner);
                tail.extend_from_slice(&buffer[..len]);
                let excess = tail.len().saturating_sub(Self::TAIL_LEN);
                tail.drain(..excess);
            }
            drop(at_end);
        };
        let thread = thread::Builder::new().name("output-tail".to_owned());
        thread.spawn(read)?;
        Ok(Self { tail, end })
    }

    /// Its last three lines in one; empty if it said nothing. Meant for a process that has ended:
    /// what it wrote last is waited for, shortly.
    pub(crate) fn text(&self) -> String {
        // Nothing is ever sent; the channel closes when the pipe does.
        let _ = self.end.recv_timeout(Duration::from_millis(200));
        let tail = self.tail.lock().unwrap_or_else(PoisonError::into_inner);
        let text = String::from_utf8_lossy(&tail);
        let printable = |line: &str| line.replace(|c: char| c.is_control(), " ");
        let lines: Vec<String> = text
            .lines()
            .map(|line| printable(line).trim().to_owned())
            .filter(|line| !line.is_empty())
            .collect();
        lines[lines.len().saturating_sub(3)..].join(" / ")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_lines_are_kept() {
        let said = "one\ntwo\n\n  three \nfour\u{7}\n".as_bytes();
        assert_eq!(OutputTail::of(said).unwrap().text(), "two / three / four");
        assert_eq!(OutputTail::of(io::empty()).unwrap().text(), "");
        let tail = OutputTail::of(io::repeat(b'x').take(1 << 20)).unwrap();
        assert_eq!(tail.text().len(), OutputTail::TAIL_LEN);
    }
}
