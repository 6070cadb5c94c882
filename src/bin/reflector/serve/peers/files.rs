//! Lists of prefixes in files.

use std::fs;
use std::path::{Path, PathBuf};

use clap::Args;
use ipnet::IpNet;
use reflector_measure::error::Error;

use super::prefix::prefix;

/// The longest list that is read, in bytes: a million prefixes and their remarks fit in.
const LEN_MAX: u64 = 64 << 20;

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

    /// The prefixes to allow, `None` where no file says which.
    ///
    /// # Errors
    /// As [`read`].
    pub fn allowed(&self) -> Result<Option<Vec<IpNet>>, Error> {
        let is_named = !self.allow_file.is_empty();
        is_named.then(|| read_all(&self.allow_file)).transpose()
    }

    /// The prefixes to deny.
    ///
    /// # Errors
    /// As [`read`].
    pub fn denied(&self) -> Result<Vec<IpNet>, Error> {
        read_all(&self.deny_file)
    }
}

fn read_all(files: &[PathBuf]) -> Result<Vec<IpNet>, Error> {
    let mut nets = Vec::new();
    for file in files {
        nets.extend(read(file)?);
    }
    Ok(nets)
}

/// The prefixes of a file.
///
/// # Errors
/// ENOENT, EACCES and the like; a file that is too long; the first line that is no prefix.
fn read(file: &Path) -> Result<Vec<IpNet>, Error> {
    let cannot = || format!("cannot read the list {}", file.display());
    let len = fs::metadata(file).map_or(0, |it| it.len());
    if len > LEN_MAX {
        let said = format!("it has {len} bytes");
        return Err(Error::new(cannot(), said).try_this(format!("{LEN_MAX} are the most")));
    }
    let text = fs::read_to_string(file).map_err(|error| Error::system(cannot(), &error))?;
    parse(&text).map_err(|said| Error::new(cannot(), said))
}

fn parse(text: &str) -> Result<Vec<IpNet>, String> {
    let mut nets = Vec::new();
    for (number, line) in (1..).zip(text.lines()) {
        let entry = line.split('#').next().unwrap_or_default().trim();
        if !entry.is_empty() {
            let read = prefix(entry);
            let prefix = read.map_err(|said| format!("line {number}: '{entry}': {said}"))?;
            nets.extend(prefix.nets());
        }
    }
    Ok(nets)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_list_has_remarks_and_names_and_says_which_line_makes_no_sense() {
        let text = "# our networks\n10.0.0.0/8\n\n  192.0.2.1 # a host\r\nfd00::/8";
        let nets: Vec<String> = parse(text)
            .unwrap()
            .iter()
            .map(ToString::to_string)
            .collect();
        assert_eq!(nets, ["10.0.0.0/8", "192.0.2.1/32", "fd00::/8"]);
        assert_eq!(parse("any").unwrap().len(), 2);
        assert_eq!(parse("").unwrap(), []);
        for (text, said) in [
            (
                "10.0.0.0/8\n10.0.0.5/8",
                "line 2: '10.0.0.5/8': it is no prefix",
            ),
            ("# \n\nnonsense", "line 3: 'nonsense': expected a prefix"),
            ("10.0.0.0/8, 11.0.0.0/8", "line 1: "),
        ] {
            let error = parse(text).unwrap_err();
            assert!(error.starts_with(said), "{error}");
        }
    }
}
