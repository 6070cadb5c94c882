//! The command line of the user's own server.

use std::fmt;
use std::net::SocketAddr;

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
    fn no_command_is_refused() {
        for line in ["", "  ", "''", "serve 'open"] {
            ServerCommand::parse(line).unwrap_err();
        }
    }
}
