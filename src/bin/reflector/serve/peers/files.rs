//! Lists of prefixes in files.

use std::io::{self, Read};
use std::path::{Path, PathBuf};

use clap::Args;
use ipnet::IpNet;
use reflector_measure::error::Error;
use reflector_measure::file;
use reflector_measure::text::shortened;

use super::prefix::prefix;

/// The longest list that is read, in bytes: a million prefixes and their remarks fit in.
const LEN_MAX: u64 = 64 << 20;
/// Prefixes of all lists that are allowed, or denied: more than the Internet routes.
const PREFIXES_MAX: usize = 1 << 21;
/// Of a line that makes no sense, the most that is quoted, in characters.
const QUOTED_LEN_MAX: usize = 60;

// A doc comment on it would become the program's description.

#[derive(Args, Clone, Debug, Default)]
pub struct Files {
    /// Reply also to peers in the prefixes of this file; repeatable, as --allow
    ///
    /// One prefix, address, 'private' or 'any' a line; a remark begins with '#'. Files are read
    /// again at SIGHUP, which then does not end the reflector: no datagram is lost meanwhile, and
    /// where one makes no sense everything stays as it is.
    #[arg(long, value_name = "FILE")]
    allow_file: Vec<PathBuf>,
    /// Never reply to peers in the prefixes of this file; repeatable, as --deny
    #[arg(long, value_name = "FILE")]
    deny_file: Vec<PathBuf>,
}

impl Files {
    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.allow_file.is_empty() && self.deny_file.is_empty()
    }

    /// Where they are.
    pub fn paths(&self) -> impl Iterator<Item = &PathBuf> {
        self.allow_file.iter().chain(&self.deny_file)
    }

    /// The prefixes to allow, `None` where no file says which.
    ///
    /// # Errors
    /// As [`read_all`].
    pub fn allowed(&self) -> Result<Option<Vec<IpNet>>, Error> {
        let is_named = !self.allow_file.is_empty();
        is_named.then(|| read_all(&self.allow_file)).transpose()
    }

    /// The prefixes to deny.
    ///
    /// # Errors
    /// As [`read_all`].
    pub fn denied(&self) -> Result<Vec<IpNet>, Error> {
        read_all(&self.deny_file)
    }
}

/// The prefixes of all `files`.
///
/// # Errors
/// ENOENT, EACCES and the like; what is no regular file; too much of it; the first line that is no
/// prefix.
fn read_all(files: &[PathBuf]) -> Result<Vec<IpNet>, Error> {
    let mut nets = Vec::new();
    for path in files {
        let cannot = || format!("cannot read the list {}", path.display());
        let text = read(path).map_err(|error| {
            let cannot = Error::system(cannot(), &error);
            cannot.try_this(match error.kind() {
                io::ErrorKind::PermissionDenied => {
                    "a list that has moved to another directory since the start needs a new start"
                }
                _ => "a list is a regular file of text, since it is read again at SIGHUP",
            })
        })?;
        if text.len() as u64 > LEN_MAX {
            let said = format!("it has more than {} MiB", LEN_MAX >> 20);
            return Err(Error::new(cannot(), said).try_this("shorter prefixes stand for many"));
        }
        parse(&text, &mut nets, PREFIXES_MAX).map_err(|said| Error::new(cannot(), said))?;
    }
    Ok(nets)
}

/// The text of a file, up to one byte more than is taken.
fn read(path: &Path) -> io::Result<String> {
    let mut text = String::new();
    let file = file::open_regular(path)?;
    file.take(LEN_MAX + 1).read_to_string(&mut text)?;
    Ok(text)
}

/// Adds the prefixes of `text` to `nets`, of which there may be `count_max`.
pub(super) fn parse(text: &str, nets: &mut Vec<IpNet>, count_max: usize) -> Result<(), String> {
    for (number, line) in (1..).zip(text.lines()) {
        let entry = line.split('#').next().unwrap_or_default().trim();
        if entry.is_empty() {
            continue;
        }
        let prefix = prefix(entry).map_err(|said| {
            // A terminal obeys control characters.
            let quoted = shortened(entry, QUOTED_LEN_MAX).replace(char::is_control, "\u{fffd}");
            format!("line {number}: '{quoted}': {said}")
        })?;
        nets.extend(prefix.nets());
        if nets.len() > count_max {
            return Err(format!(
                "line {number}: there are more than {count_max} prefixes; shorter ones stand for \
                 many"
            ));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(text: &str) -> Result<Vec<IpNet>, String> {
        let mut nets = Vec::new();
        parse(text, &mut nets, 20)?;
        Ok(nets)
    }

    #[test]
    fn short_lines_that_stand_for_many_prefixes_are_counted() {
        assert_eq!(parsed("private").unwrap().len(), 11);
        let said = parsed("private\nprivate\n").unwrap_err();
        assert_eq!(
            said,
            "line 2: there are more than 20 prefixes; shorter ones stand for many"
        );
    }

    #[test]
    fn a_line_is_quoted_in_short_and_commands_no_terminal() {
        let said = parsed(&format!("\u{1b}[2J{}", "x".repeat(1 << 20))).unwrap_err();
        assert!(
            said.len() < 200 && said.starts_with("line 1: '…xx"),
            "{said}"
        );
        let said = parsed("a\u{1b}[2J").unwrap_err();
        assert!(
            said.starts_with("line 1: 'a\u{fffd}[2J': expected"),
            "{said}"
        );
    }

    #[test]
    fn a_list_has_remarks_and_names_and_says_which_line_makes_no_sense() {
        let text = "# our networks\n10.0.0.0/8\n\n  192.0.2.1 # a host\r\nfd00::/8";
        let nets: Vec<String> = parsed(text)
            .unwrap()
            .iter()
            .map(ToString::to_string)
            .collect();
        assert_eq!(nets, ["10.0.0.0/8", "192.0.2.1/32", "fd00::/8"]);
        assert_eq!(parsed("any").unwrap().len(), 2);
        assert_eq!(parsed("").unwrap(), []);
        for (text, said) in [
            (
                "10.0.0.0/8\n10.0.0.5/8",
                "line 2: '10.0.0.5/8': it is no prefix",
            ),
            ("# \n\nnonsense", "line 3: 'nonsense': expected a prefix"),
            ("10.0.0.0/8, 11.0.0.0/8", "line 1: "),
        ] {
            let error = parsed(text).unwrap_err();
            assert!(error.starts_with(said), "{error}");
        }
    }
}
