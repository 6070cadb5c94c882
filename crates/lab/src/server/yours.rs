//! The user's own server: started by its command, known to listen by its sockets.

use std::io;
use std::net::SocketAddr;
use std::process::{Command, Stdio};
use std::thread;
use std::time::Duration;

use super::command::ServerCommand;
use super::running::{START_TIMEOUT, Server, is_of_family, list};
use crate::output_tail::OutputTail;
use crate::process_group::ProcessGroups;
use reflector_measure::clock;
use reflector_netlab::observe::udp_sockets;
use reflector_netlab::topology::Namespace;

/// Starts `command` in `namespace` and waits until it has a socket on the port of `listen`.
pub(crate) fn start(
    command: &ServerCommand,
    namespace: &Namespace,
    listen: SocketAddr,
    process_groups: &ProcessGroups,
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
    let child = process_groups
        .spawn(namespace, &mut process)
        .map_err(cannot)?;
    // The command holds the writing ends, without which the pipe ends with the process.
    drop(process);
    let mut server = Server::Yours {
        child,
        tail: OutputTail::of(pipe).map_err(cannot)?,
        bound: Vec::new(),
    };
    wait_until_bound(&mut server, command, namespace, listen)?;
    Ok(server)
}

/// How often the sockets of a namespace are polled.
const POLL_INTERVAL: Duration = Duration::from_millis(5);

/// How long a server that has one socket may take to open that of the other family.
const SECOND_SOCKET: Duration = Duration::from_millis(300);

fn wait_until_bound(
    server: &mut Server,
    command: &ServerCommand,
    namespace: &Namespace,
    listen: SocketAddr,
) -> Result<(), String> {
    let port = listen.port();
    let mut deadline = clock::monotonic() + START_TIMEOUT;
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
        thread::sleep(POLL_INTERVAL);
    }
}

fn never_bound(command: &ServerCommand, port: u16, others: &[SocketAddr], saying: &str) -> String {
    let sentence = format!(
        "It runs, but had no UDP socket on port {port} after {} s{saying}.",
        START_TIMEOUT.as_secs()
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

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(line: &str) -> ServerCommand {
        ServerCommand::parse(line).unwrap()
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
