//! The servers that are asked: the naive one, the user's, and `reflector` itself as a child.

use std::fmt;
use std::io::{self, BufRead, BufReader, Read};
use std::net::SocketAddr;
use std::process::{Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::process_group::{Household, LastWords, Servant};
use reflector_measure::clock;
use reflector_netlab::naive::NaiveServer;
use reflector_netlab::observe::udp_sockets;
use reflector_netlab::topology::Namespace;

/// Which server is asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Contestant {
    /// `recvfrom` and `sendto` on a wildcard socket, as most servers do.
    Naive,
    /// The user's own.
    Yours(ServerCommand),
    /// This program, on the engine of that name.
    Reflector(&'static str),
}

impl Contestant {
    /// Its name for people.
    pub fn title(&self) -> &'static str {
        match self {
            Contestant::Naive => "naive server",
            Contestant::Yours(_) => "your server",
            Contestant::Reflector(_) => "reflector",
        }
    }

    /// Its name in JSON.
    pub fn name(&self) -> &'static str {
        match self {
            Contestant::Naive => "naive",
            Contestant::Yours(_) => "yours",
            Contestant::Reflector(_) => "reflector",
        }
    }

    /// It, listening on `listen` in `namespace`.
    ///
    /// The calling thread must be in `namespace` and must stay until the server is dropped.
    ///
    /// # Errors
    /// A sentence that says why there is no server.
    pub fn start(
        &self,
        namespace: &Namespace,
        listen: SocketAddr,
        household: &Household,
    ) -> Result<Server, String> {
        match self {
            Contestant::Naive => {
                let server = NaiveServer::bind(namespace, listen).map_err(|e| e.to_string())?;
                Ok(Server::Naive { _server: server })
            }
            Contestant::Yours(command) => yours(command, namespace, listen, household),
            Contestant::Reflector(engine) => reflector(engine, namespace, listen, household),
        }
    }
}

/// A command line with `{addr}`, `{port}` and `{listen}` in it, in words.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServerCommand(Vec<String>);

impl ServerCommand {
    /// The words of `line`, split as a shell does; no shell is run.
    ///
    /// # Errors
    /// A sentence, for an open quote or no word at all.
    pub fn parse(line: &str) -> Result<Self, String> {
        let words = shell_words::split(line).map_err(|error| error.to_string())?;
        match words.first() {
            Some(program) if !program.is_empty() => Ok(Self(words)),
            _ => Err("it names no program".to_owned()),
        }
    }

    /// The words with the address and port of `listen` in place.
    fn filled(&self, listen: SocketAddr) -> Vec<String> {
        let fill = |word: &String| {
            word.replace("{addr}", &listen.ip().to_string())
                .replace("{port}", &listen.port().to_string())
                .replace("{listen}", &listen.to_string())
        };
        self.0.iter().map(fill).collect()
    }

    fn has_port(&self) -> bool {
        let names_it = |word: &String| word.contains("{port}") || word.contains("{listen}");
        self.0.iter().any(names_it)
    }
}

impl fmt::Display for ServerCommand {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&shell_words::join(&self.0))
    }
}

/// A server that listens. Ended when dropped.
#[derive(Debug)]
pub enum Server {
    /// On a thread of ours.
    Naive {
        /// Stops when dropped.
        _server: NaiveServer,
    },
    /// The user's.
    Yours {
        /// Its process.
        servant: Servant,
        /// What it wrote last.
        words: LastWords,
        /// Its UDP sockets on the port.
        bound: Vec<SocketAddr>,
    },
    /// This program.
    Reflector {
        /// Its process.
        servant: Servant,
        /// What it wrote to stderr last.
        words: LastWords,
        /// The engine that it runs on.
        engine: String,
    },
}

/// How long a server may take until it listens, or `reflector` until it has ended.
const PATIENCE: Duration = Duration::from_secs(5);

/// How long the user's server may take to end by SIGTERM.
const FAREWELL: Duration = Duration::from_millis(500);

impl Server {
    /// The engine that moves its datagrams, where it says.
    pub fn engine(&self) -> Option<&str> {
        match self {
            Server::Reflector { engine, .. } => Some(engine),
            Server::Naive { .. } | Server::Yours { .. } => None,
        }
    }

    /// Its UDP sockets on the port, as far as they are not known beforehand.
    pub fn bound(&self) -> &[SocketAddr] {
        match self {
            Server::Yours { bound, .. } => bound,
            Server::Naive { .. } | Server::Reflector { .. } => &[],
        }
    }

    /// Why it has no socket that a question to `asked` could reach by its family; `None` if it may
    /// have.
    pub fn lacks_family_of(&self, asked: SocketAddr) -> Option<String> {
        let bound = self.bound();
        if bound.is_empty() || bound.iter().any(|socket| is_of_family(socket, asked)) {
            return None;
        }
        let family = if asked.is_ipv4() { "IPv4" } else { "IPv6" };
        let all = list(bound);
        Some(format!("It serves no {family}: it is bound to {all} only."))
    }

    /// The same for an IPv4 question that was refused: then its `[::]` is not for IPv4.
    pub fn is_ipv6_only(&self, asked: SocketAddr) -> Option<String> {
        let is_ipv6 = |socket: &SocketAddr| match socket {
            SocketAddr::V4(_) => false,
            SocketAddr::V6(v6) => v6.ip().to_ipv4_mapped().is_none(),
        };
        let bound = self.bound();
        if bound.is_empty() || asked.is_ipv6() || !bound.iter().all(is_ipv6) {
            return None;
        }
        let all = list(bound);
        Some(format!(
            "It serves no IPv4: {all} is for IPv6 only (IPV6_V6ONLY)."
        ))
    }

    /// Its end, which must be a good one for `reflector`; the user's may end as it likes.
    ///
    /// # Errors
    /// A sentence that says how it ended.
    pub fn stop(self) -> Result<(), String> {
        let cannot = |error: io::Error| format!("cannot stop the server: {error}");
        match self {
            Server::Naive { .. } => Ok(()),
            Server::Yours { mut servant, .. } => servant.stop(FAREWELL).map(drop).map_err(cannot),
            Server::Reflector {
                mut servant, words, ..
            } => match servant.stop(PATIENCE).map_err(cannot)? {
                status if status.success() => Ok(()),
                status => Err(format!("It ended with {status}{}.", saying(&words))),
            },
        }
    }

    fn saying(&self) -> String {
        match self {
            Server::Naive { .. } => String::new(),
            Server::Yours { words, .. } | Server::Reflector { words, .. } => saying(words),
        }
    }

    /// How it has ended, if it has, though nobody asked it to.
    pub fn sudden_end(&mut self) -> Option<String> {
        let (Server::Yours { servant, words, .. } | Server::Reflector { servant, words, .. }) =
            self
        else {
            return None;
        };
        match servant.ended() {
            Ok(None) => None,
            Ok(Some(status)) => Some(format!("It ended with {status}{}.", saying(words))),
            Err(error) => Some(format!("What became of it is not known: {error}.")),
        }
    }
}

fn is_of_family(socket: &SocketAddr, asked: SocketAddr) -> bool {
    match socket {
        SocketAddr::V4(_) => asked.is_ipv4(),
        // A wildcard may be dual-stack.
        SocketAddr::V6(v6) if v6.ip().is_unspecified() => true,
        SocketAddr::V6(v6) => v6.ip().to_ipv4_mapped().is_some() == asked.is_ipv4(),
    }
}

/// The addresses in words.
pub fn list(sockets: &[SocketAddr]) -> String {
    let names: Vec<String> = sockets.iter().map(SocketAddr::to_string).collect();
    names.join(", ")
}

fn saying(words: &LastWords) -> String {
    match words.hear() {
        text if text.is_empty() => String::new(),
        text => format!(", saying: {}", text.trim_end_matches('.')),
    }
}

fn yours(
    command: &ServerCommand,
    namespace: &Namespace,
    listen: SocketAddr,
    household: &Household,
) -> Result<Server, String> {
    let words = command.filled(listen);
    let cannot = |error: io::Error| format!("Cannot start {}: {error}.", words[0]);
    let (pipe, writer) = io::pipe().map_err(cannot)?;
    let mut process = Command::new(&words[0]);
    process
        .args(&words[1..])
        .env("ADDR", listen.ip().to_string())
        .env("PORT", listen.port().to_string())
        .env("LISTEN", listen.to_string())
        .stdin(Stdio::null())
        .stdout(writer.try_clone().map_err(cannot)?)
        .stderr(writer);
    let servant = household
        .spawn(namespace, &mut process)
        .map_err(|error| match error.kind() {
            io::ErrorKind::NotFound => format!("Cannot start {}: no such program.", words[0]),
            _ => cannot(error),
        })?;
    // The command holds the writing ends, without which the pipe ends with the process.
    drop(process);
    let mut server = Server::Yours {
        servant,
        words: LastWords::of(pipe).map_err(cannot)?,
        bound: Vec::new(),
    };
    wait_until_bound(&mut server, command, namespace, listen)?;
    Ok(server)
}

/// How often the sockets of a namespace are looked at.
const LOOK: Duration = Duration::from_millis(5);

/// How long a server that has one socket may take to open that of the other family.
const SECOND_SOCKET: Duration = Duration::from_millis(300);

fn wait_until_bound(
    server: &mut Server,
    command: &ServerCommand,
    namespace: &Namespace,
    listen: SocketAddr,
) -> Result<(), String> {
    let port = listen.port();
    let mut deadline = clock::monotonic() + PATIENCE;
    let mut others = Vec::new();
    loop {
        let sockets = udp_sockets(namespace).map_err(|error| error.to_string())?;
        let (on_port, elsewhere): (Vec<_>, Vec<_>) =
            sockets.into_iter().partition(|s| s.port() == port);
        others = if elsewhere.is_empty() {
            others
        } else {
            elsewhere
        };
        let Server::Yours { bound, .. } = server else {
            return Ok(());
        };
        if bound.is_empty() && !on_port.is_empty() {
            deadline = deadline.min(clock::monotonic() + SECOND_SOCKET);
        }
        *bound = on_port;
        // Sockets that share a port by SO_REUSEPORT are one for us.
        bound.dedup();
        let is_complete = bound.iter().any(|socket| is_of_family(socket, listen));
        let is_late = clock::monotonic() >= deadline;
        if is_complete || is_late && !bound.is_empty() {
            return Ok(());
        }
        if let Some(end) = server.sudden_end() {
            return Err(format!("{end} It had no UDP socket on port {port}."));
        }
        if is_late {
            return Err(never_bound(command, port, &others, &server.saying()));
        }
        thread::sleep(LOOK);
    }
}

fn never_bound(command: &ServerCommand, port: u16, others: &[SocketAddr], saying: &str) -> String {
    let sentence = format!(
        "It runs, but had no UDP socket on port {port} after {} s{saying}.",
        PATIENCE.as_secs()
    );
    let remedy = if let Some(other) = others.first() {
        let (all, port) = (list(others), other.port());
        format!(" It is bound to {all}: give --port {port}, or put {{port}} into the command.")
    } else if command.has_port() {
        String::new()
    } else {
        " Put {port} or {listen} where the command takes them, or let it read PORT or LISTEN from \
         its environment."
            .to_owned()
    };
    sentence + &remedy
}

fn reflector(
    engine: &str,
    namespace: &Namespace,
    listen: SocketAddr,
    household: &Household,
) -> Result<Server, String> {
    let cannot = |error: io::Error| format!("Cannot start reflector: {error}.");
    let mut process = Command::new("/proc/self/exe");
    // The user's settings for a reflector are not meant for this one.
    for (name, _) in std::env::vars_os() {
        if name.to_string_lossy().starts_with("REFLECTOR_") {
            process.env_remove(name);
        }
    }
    process
        .args(["--listen", &listen.to_string(), "--engine", engine])
        .args(["--cores", "1", "--interval", "0s", "--json"])
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    if listen.is_ipv6() && listen.ip().is_unspecified() {
        process.arg("--dual-stack");
    }
    let mut servant = household.spawn(namespace, &mut process).map_err(cannot)?;
    let (Some(stdout), Some(stderr)) = servant.take_pipes() else {
        unreachable!("both were piped a moment ago");
    };
    let lines = lines_of(stdout).map_err(cannot)?;
    let words = LastWords::of(stderr).map_err(cannot)?;
    let ready = first_line(&lines, clock::monotonic() + PATIENCE)
        .and_then(|line| serde_json::from_str::<Value>(&line).ok());
    match ready.as_ref().and_then(|ready| ready["engine"].as_str()) {
        Some(engine) => Ok(Server::Reflector {
            servant,
            words,
            engine: engine.to_owned(),
        }),
        None => Err(format!("reflector was not ready{}.", saying(&words))),
    }
}

/// The lines of `pipe`, read to its end whether or not anybody wants them.
fn lines_of(pipe: impl Read + Send + 'static) -> io::Result<Receiver<String>> {
    let (sender, lines) = channel();
    let listen = move || {
        for line in BufReader::new(pipe).lines().map_while(Result::ok) {
            // Nobody wants the summary; it must be read all the same.
            let _ = sender.send(line);
        }
    };
    thread::Builder::new()
        .name("reflector-out".to_owned())
        .spawn(listen)?;
    Ok(lines)
}

fn first_line(lines: &Receiver<String>, deadline: Instant) -> Option<String> {
    let left = deadline.saturating_duration_since(clock::monotonic());
    lines.recv_timeout(left).ok()
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

    #[test]
    fn a_socket_is_of_a_family() {
        let serves = |socket: &str, asked: &str| {
            is_of_family(&socket.parse().unwrap(), asked.parse().unwrap())
        };
        assert!(serves("0.0.0.0:1", "10.0.0.1:1") && !serves("0.0.0.0:1", "[fd00::1]:1"));
        assert!(serves("[::]:1", "10.0.0.1:1") && serves("[::]:1", "[fd00::1]:1"));
        assert!(serves("[::ffff:10.0.0.1]:1", "10.0.0.1:1"));
        assert!(!serves("[fd00::1]:1", "10.0.0.1:1"));
    }

    #[test]
    fn a_server_on_another_port_is_told_so() {
        let others = ["0.0.0.0:7".parse().unwrap()];
        let sentence = never_bound(&parse("serve"), 9007, &others, "");
        assert!(sentence.contains("--port 7"), "{sentence}");
        let sentence = never_bound(&parse("serve"), 9007, &[], "");
        assert!(sentence.contains("{port}"), "{sentence}");
    }
}
