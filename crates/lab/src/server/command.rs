//! The command line of the user's own server.

use std::env;
use std::fmt;
use std::net::SocketAddr;
use std::path::Path;

/// A command with `{addr}`, `{port}` and `{listen}` in it, in words.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ServerCommand(Vec<String>);

impl ServerCommand {
    /// The words of `line`, split as a shell does; no shell is run.
    ///
    /// # Errors
    /// A sentence, for an open quote or no word at all.
    pub(crate) fn parse(line: &str) -> Result<Self, String> {
        let words = shell_words::split(line).map_err(|error| error.to_string())?;
        match words.first() {
            Some(program) if !program.is_empty() => Ok(Self(words)),
            _ => Err("it names no program".to_owned()),
        }
    }

    /// The program, if it is nowhere: neither at its path nor, named without one, in PATH.
    pub(crate) fn missing_program(&self) -> Option<&str> {
        let program = self.0[0].as_str();
        let is_there = match env::var_os("PATH") {
            // Only the address and port make it a name.
            _ if program.contains('{') => true,
            _ if program.contains('/') => Path::new(program).exists(),
            Some(folders) => env::split_paths(&folders).any(|it| it.join(program).exists()),
            // Where a program is looked for then is up to the system.
            None => true,
        };
        (!is_there).then_some(program)
    }

    /// The words with the address and port of `listen` in place.
    pub(crate) fn filled(&self, listen: SocketAddr) -> Vec<String> {
        let fill = |word: &String| {
            word.replace("{addr}", &listen.ip().to_string())
                .replace("{port}", &listen.port().to_string())
                .replace("{listen}", &listen.to_string())
        };
        self.0.iter().map(fill).collect()
    }

    /// Whether it is told the port.
    pub(crate) fn has_port(&self) -> bool {
        let names_it = |word: &String| word.contains("{port}") || word.contains("{listen}");
        self.0.iter().any(names_it)
    }
}

impl fmt::Display for ServerCommand {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&shell_words::join(&self.0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(line: &str) -> ServerCommand {
        ServerCommand::parse(line).unwrap()
    }

    #[test]
    fn commands_are_split_and_filled() {
        let command = parse("serve --listen '{listen}' \"{addr} {port}\"");
        let words = command.filled("[::]:9007".parse().unwrap());
        assert_eq!(words, ["serve", "--listen", "[::]:9007", ":: 9007"]);
        assert!(command.has_port() && !parse("serve {addr}").has_port());
    }

    #[test]
    fn a_program_is_looked_for_at_its_path_or_in_all_paths() {
        for line in ["sh -c true", "/bin/sh"] {
            assert_eq!(parse(line).missing_program(), None);
        }
        for line in ["/nonexistent/sh", "no-such-program-of-any-name"] {
            assert_eq!(parse(line).missing_program(), Some(line));
        }
    }

    #[test]
    fn no_command_is_refused() {
        for line in ["", "  ", "''", "serve 'open"] {
            ServerCommand::parse(line).unwrap_err();
        }
    }
}
