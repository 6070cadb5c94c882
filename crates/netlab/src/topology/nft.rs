//! NAT and filter rules, which the program `nft` puts in force.

use std::fmt;
use std::io::{self, Write};
use std::process::{Command, Output, Stdio};

use super::namespace::Namespace;
use reflector_udp::attempting;

/// Why an nft ruleset is not in force.
#[derive(Debug)]
pub enum NftError {
    /// There is no `nft` program: not in `PATH`, not in `/usr/sbin`.
    Missing,
    /// It could not be run, or it refused the ruleset; the message holds what it said.
    Io(io::Error),
}

impl fmt::Display for NftError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            NftError::Missing => {
                write!(
                    f,
                    "the program nft is missing; install the package nftables"
                )
            }
            NftError::Io(error) => error.fmt(f),
        }
    }
}

impl std::error::Error for NftError {}

impl From<NftError> for io::Error {
    fn from(error: NftError) -> io::Error {
        match error {
            NftError::Missing => io::Error::new(io::ErrorKind::NotFound, error),
            NftError::Io(error) => error,
        }
    }
}

/// Puts `ruleset` in force in `namespace` by the program `nft` (nft(8), `nft -f -`).
///
/// All of it or nothing. Statements end with `;` or a line end. Rules with `ct state` and NAT
/// chains also start connection tracking there (see [`crate::observe::conntrack`]).
pub fn nft(namespace: &Namespace, ruleset: &str) -> Result<(), NftError> {
    let output = ["nft", "/usr/sbin/nft"]
        .into_iter()
        .map(|program| namespace.run(|| pipe_into(program, ruleset)))
        .find(|result| !matches!(result, Err(error) if error.kind() == io::ErrorKind::NotFound))
        .ok_or(NftError::Missing)?
        .map_err(|error| NftError::Io(attempting("run nft")(error)))?;
    if output.status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&output.stderr);
    Err(NftError::Io(io::Error::other(format!(
        "nft refused a ruleset: {}",
        said.trim_end()
    ))))
}

fn pipe_into(program: &str, ruleset: &str) -> io::Result<Output> {
    let mut child = Command::new(program)
        .args(["-f", "-"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()?;
    let mut stdin = child.stdin.take().expect("stdin was piped");
    // A program that gives up early says why on stderr, which is the better message.
    let _ = stdin.write_all(ruleset.as_bytes());
    drop(stdin);
    child.wait_with_output()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::topology::require::{in_force, in_namespaces};

    #[test]
    fn a_refused_ruleset_is_quoted() {
        in_namespaces("topology::nft::tests::a_refused_ruleset_is_quoted", || {
            let namespace = Namespace::new().unwrap();
            if in_force(
                "a_refused_ruleset_is_quoted",
                nft(&namespace, "table ip empty {}"),
            ) {
                let error = nft(&namespace, "table ip nonsense { chain").unwrap_err();
                assert!(error.to_string().contains("syntax error"), "{error}");
            }
        });
    }
}
