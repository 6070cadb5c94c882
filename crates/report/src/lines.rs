//! Lines of a file, one in memory at a time.

use std::collections::VecDeque;
use std::io::{self, BufRead, Read};

/// Longest line that is read, in bytes: the longest histogram, in base64, many times over.
const LINE_LEN_MAX: u64 = 16 << 20;
/// Bytes of the longest file that is read, and its lines: months of intervals. What has no end, as
/// a pipe may have none, is read no further.
const FILE_LEN_MAX: u64 = 2 << 30;
const LINES_MAX: u64 = 1 << 24;
/// Bytes of lines that are kept while it is found out what a file is.
const AHEAD_LEN_MAX: usize = 1 << 20;
/// Largest document that is read at once, in bytes.
const DOCUMENT_LEN_MAX: usize = 64 << 20;

/// As many as a buffer has.
const ZEROS: [u8; 8 << 10] = [0; 8 << 10];

/// Most of what is said of a fault, in characters: an error may quote the file.
const SAID_LEN_MAX: usize = 300;

/// What is wrong with a file, and where.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Fault(String);

impl Fault {
    /// Wrong as a whole.
    pub(crate) fn new(said: impl Into<String>) -> Self {
        let said = said.into();
        match said.char_indices().nth(SAID_LEN_MAX) {
            Some((end, _)) => Self(format!("{}…", &said[..end])),
            None => Self(said),
        }
    }

    /// Wrong at a line, counted from 1.
    pub(crate) fn at(line: u64, said: impl std::fmt::Display) -> Self {
        Self::new(format!("line {line}: {said}"))
    }

    /// What is wrong.
    pub(crate) fn said(self) -> String {
        self.0
    }
}

/// One line.
#[derive(Clone, Debug)]
pub(crate) struct Line {
    /// Counted from 1.
    pub(crate) number: u64,
    /// Without its end.
    pub(crate) text: String,
    /// Whether it has an end; where a writer was killed, the last one has none.
    pub(crate) is_whole: bool,
}

impl Line {
    /// What is warned of where this line of the file `name` is left out, which could not be read
    /// for what was `said` of it: only the last one may be, where its writer was killed in the
    /// middle of it and there `are_others`.
    ///
    /// # Errors
    /// A whole line that cannot be read, or one that is cut off and the only one.
    pub(crate) fn left_out(
        &self,
        name: &str,
        said: impl std::fmt::Display,
        are_others: bool,
    ) -> Result<String, Fault> {
        let number = self.number;
        if self.is_whole {
            Err(Fault::at(number, said))
        } else if are_others {
            Ok(self.is_left_out(name))
        } else {
            let said = "it is cut off, and it is the only one";
            Err(Fault::at(number, said))
        }
    }

    /// What is warned of where this line of the file `name`, which is cut off, is left out.
    pub(crate) fn is_left_out(&self, name: &str) -> String {
        format!("{name}: line {} is cut off and left out", self.number)
    }
}

/// The lines of a file, which can be peeked at before they are read.
pub(crate) struct Lines<R> {
    reader: R,
    number: u64,
    ahead: VecDeque<Line>,
    /// Bytes of the lines that were peeked at.
    ahead_len: usize,
    /// NUL bytes that were stepped over.
    nul_len: u64,
    /// Bytes that may still be read.
    left: u64,
    lines_max: u64,
}

impl<R: BufRead> Lines<R> {
    /// The lines that `reader` has.
    pub(crate) fn new(reader: R) -> Self {
        Self::up_to(reader, FILE_LEN_MAX, LINES_MAX)
    }

    fn up_to(reader: R, left: u64, lines_max: u64) -> Self {
        Self {
            reader,
            left,
            lines_max,
            number: 0,
            ahead: VecDeque::new(),
            ahead_len: 0,
            nul_len: 0,
        }
    }

    /// The next line; `None` at the end.
    ///
    /// # Errors
    /// `EIO` or `EISDIR`, a line that is not text or too long, a compressed file.
    pub(crate) fn read(&mut self) -> Result<Option<Line>, Fault> {
        match self.ahead.pop_front() {
            Some(line) => Ok(Some(line)),
            None => self.read_on(),
        }
    }

    /// The line after those that were peeked at; `None` at the end, or where they are too many to
    /// be kept.
    ///
    /// # Errors
    /// As [`read`](Self::read).
    pub(crate) fn peek_next(&mut self) -> Result<Option<&Line>, Fault> {
        if self.ahead_len > AHEAD_LEN_MAX {
            return Ok(None);
        }
        let line = self.read_on()?;
        let is_end = line.is_none();
        self.ahead_len += line.as_ref().map_or(0, |line| line.text.len());
        self.ahead.extend(line);
        Ok(self.ahead.back().filter(|_| !is_end))
    }

    /// What is warned of where the file `name` had blocks of NUL bytes.
    pub(crate) fn warning(&self, name: &str) -> Option<String> {
        let count = self.nul_len;
        (count > 0).then(|| {
            format!(
                "{name}: {count} NUL bytes are stepped over: it was emptied while somebody wrote it"
            )
        })
    }

    /// All that is left, as one text.
    ///
    /// # Errors
    /// As [`read`](Self::read), or a document of more than [`DOCUMENT_LEN_MAX`] bytes.
    pub(crate) fn read_all(&mut self) -> Result<String, Fault> {
        let mut text = String::new();
        while let Some(line) = self.read()? {
            text += &line.text;
            text.push('\n');
            if text.len() > DOCUMENT_LEN_MAX {
                let mebibytes = DOCUMENT_LEN_MAX >> 20;
                return Err(Fault::new(format!(
                    "a document of more than {mebibytes} MiB; save its histograms apart"
                )));
            }
        }
        Ok(text)
    }

    /// Steps over NUL bytes at the beginning of a line: a file that was emptied has a block of them
    /// up to where somebody goes on to write.
    fn step_over_nuls(&mut self) -> Result<(), Fault> {
        loop {
            let bytes = match self.reader.fill_buf() {
                Err(e) if e.kind() == io::ErrorKind::Interrupted => continue,
                bytes => bytes.map_err(|e| Fault::new(e.to_string()))?,
            };
            // A file may be gibibytes of them.
            let count = match ZEROS.get(..bytes.len()) {
                Some(zeros) if zeros == bytes => bytes.len(),
                _ => bytes.iter().take_while(|&&byte| byte == 0).count(),
            };
            if count == 0 {
                return Ok(());
            }
            self.reader.consume(count);
            self.nul_len += count as u64;
            self.spend(count)?;
        }
    }

    fn spend(&mut self, len: usize) -> Result<(), Fault> {
        self.left = self.left.checked_sub(len as u64).ok_or_else(|| {
            let gibibytes = FILE_LEN_MAX >> 30;
            Fault::new(format!(
                "it has more than {gibibytes} GiB; split it, and name the pieces"
            ))
        })?;
        Ok(())
    }

    fn read_on(&mut self) -> Result<Option<Line>, Fault> {
        let number = self.number + 1;
        self.step_over_nuls()?;
        let mut bytes = Vec::new();
        let len = (&mut self.reader)
            .take(LINE_LEN_MAX)
            .read_until(b'\n', &mut bytes)
            .map_err(|e| Fault::new(e.to_string()))?;
        if len == 0 {
            return Ok(None);
        }
        self.spend(len)?;
        if number > self.lines_max {
            let said = "lines; split it, and name the pieces";
            return Err(Fault::new(format!(
                "it has more than {} {said}",
                self.lines_max
            )));
        }
        if number == 1 && bytes.starts_with(&GZIP) {
            return Err(Fault::new("it is compressed; gunzip it first"));
        }
        if number == 1 && bytes.starts_with(BOM) {
            bytes.drain(..BOM.len());
        }
        let is_whole = bytes.ends_with(b"\n");
        if !is_whole && len as u64 == LINE_LEN_MAX {
            let mebibytes = LINE_LEN_MAX >> 20;
            let said = format!("it is longer than {mebibytes} MiB, as no line of a saved run is");
            return Err(Fault::at(number, said));
        }
        self.number = number;
        let text = match String::from_utf8(bytes) {
            Ok(text) if !text.contains('\0') => text,
            _ => return Err(Fault::at(number, "it is not text")),
        };
        let mut text = text;
        text.truncate(text.trim_end_matches(['\n', '\r']).len());
        Ok(Some(Line {
            number,
            text,
            is_whole,
        }))
    }
}

/// How a text may begin that some editors save.
const BOM: &[u8] = b"\xef\xbb\xbf";
/// How a gzip file begins (RFC 1952, section 2.3.1).
const GZIP: [u8; 2] = [0x1f, 0x8b];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fault_that_quotes_the_file_is_cut() {
        let said = Fault::at(7, "é".repeat(1 << 20)).said();
        assert!(said.starts_with("line 7: é") && said.ends_with("é…"));
        assert_eq!(said.chars().count(), SAID_LEN_MAX + 1);
        assert_eq!(Fault::new("short").said(), "short");
    }

    #[test]
    fn what_was_peeked_at_is_read_again() {
        let mut lines = Lines::new(&b"a\r\nb\nc"[..]);
        assert_eq!(lines.peek_next().unwrap().unwrap().text, "a");
        assert_eq!(lines.peek_next().unwrap().unwrap().text, "b");
        let read = std::iter::from_fn(|| lines.read().unwrap());
        let read: Vec<_> = read.map(|it| (it.number, it.text, it.is_whole)).collect();
        let expected = [(1, "a", true), (2, "b", true), (3, "c", false)];
        assert_eq!(
            read,
            expected.map(|(n, text, end)| (n, text.to_owned(), end))
        );
        assert!(lines.peek_next().unwrap().is_none());
    }

    #[test]
    fn bytes_that_are_no_text_are_told_by_line() {
        let mut lines = Lines::new(&b"a\n\xff\n"[..]);
        lines.read().unwrap();
        assert_eq!(lines.read().unwrap_err().said(), "line 2: it is not text");
        let mut lines = Lines::new(&b"\x1f\x8b\x08"[..]);
        assert!(lines.read().unwrap_err().said().contains("gunzip"));
    }

    #[test]
    fn blocks_of_nuls_are_stepped_over_and_told() {
        let text = [&[0; 5000][..], b"a\n", &[0; 3], b"b\n", &[0; 2]].concat();
        let mut lines = Lines::new(&text[..]);
        let read = std::iter::from_fn(|| lines.read().unwrap());
        let read: Vec<_> = read.map(|it| (it.number, it.text)).collect();
        assert_eq!(read, [(1, "a".to_owned()), (2, "b".to_owned())]);
        assert!(lines.warning("f").unwrap().starts_with("f: 5005 NUL bytes"));
        let mut lines = Lines::new(&b"a\0b\n"[..]);
        assert_eq!(lines.read().unwrap_err().said(), "line 1: it is not text");
    }

    #[test]
    fn what_has_no_end_is_read_no_further() {
        let all = |byte, lines_max| {
            let reader = io::BufReader::new(io::repeat(byte));
            let mut lines = Lines::up_to(reader, 1 << 20, lines_max);
            loop {
                match lines.read() {
                    Ok(Some(_)) => {}
                    end => break end.unwrap_err().said(),
                }
            }
        };
        for byte in [0, b'\n'] {
            let said = all(byte, u64::MAX);
            assert!(
                said.starts_with("it has more than 2 GiB; split it"),
                "{said}"
            );
        }
        let said = all(b'\n', 1000);
        assert!(said.contains("more than 1000 lines; split it"), "{said}");
    }

    #[test]
    fn a_byte_order_mark_is_none_of_the_text() {
        let mut lines = Lines::new(&b"\xef\xbb\xbf#[a\n"[..]);
        assert_eq!(lines.read().unwrap().unwrap().text, "#[a");
    }

    #[test]
    fn only_a_last_line_among_others_is_left_out() {
        let mut lines = Lines::new(&b"whole\nhal"[..]);
        let [whole, half] = [(); 2].map(|()| lines.read().unwrap().unwrap());
        let left_out = |line: &Line, are_others| line.left_out("f", "it is odd", are_others);
        let said = left_out(&whole, true).unwrap_err().said();
        assert_eq!(said, "line 1: it is odd");
        let warning = left_out(&half, true).unwrap();
        assert_eq!(warning, "f: line 2 is cut off and left out");
        let said = left_out(&half, false).unwrap_err().said();
        assert_eq!(said, "line 2: it is cut off, and it is the only one");
    }
}
