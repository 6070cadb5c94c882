//! This program as a server, started as a child.

use std::io::{self, BufRead, BufReader, Read};
use std::net::SocketAddr;
use std::process::{Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::thread;
use std::time::Instant;

use serde_json::Value;

use super::running::{START_TIMEOUT, Server, saying};
use crate::output_tail::OutputTail;
use crate::process_group::ProcessGroups;
use reflector_measure::clock;
use reflector_netlab::topology::Namespace;

/// Starts this program in `namespace` on `listen`, and waits until it says that it is ready.
pub(crate) fn start(
    engine: &str,
    namespace: &Namespace,
    listen: SocketAddr,
    process_groups: &ProcessGroups,
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
    let mut child = process_groups
        .spawn(namespace, &mut process)
        .map_err(cannot)?;
    let (Some(stdout), Some(stderr)) = child.take_pipes() else {
        unreachable!("both were piped a moment ago");
    };
    let lines = lines_of(stdout).map_err(cannot)?;
    let tail = OutputTail::of(stderr).map_err(cannot)?;
    let ready = first_line(&lines, clock::monotonic() + START_TIMEOUT)
        .and_then(|line| serde_json::from_str::<Value>(&line).ok());
    match ready.as_ref().and_then(|ready| ready["engine"].as_str()) {
        Some(engine) => Ok(Server::Reflector {
            child,
            tail,
            engine: engine.to_owned(),
        }),
        None => Err(format!("reflector was not ready{}.", saying(&tail))),
    }
}

/// The lines of `pipe`, read to its end whether or not anybody wants them.
fn lines_of(pipe: impl Read + Send + 'static) -> io::Result<Receiver<String>> {
    let (sender, lines) = channel();
    let read = move || {
        for line in BufReader::new(pipe).lines().map_while(Result::ok) {
            // Nobody wants the summary; it must be read all the same.
            let _ = sender.send(line);
        }
    };
    thread::Builder::new()
        .name("reflector-out".to_owned())
        .spawn(read)?;
    Ok(lines)
}

fn first_line(lines: &Receiver<String>, deadline: Instant) -> Option<String> {
    let left = deadline.saturating_duration_since(clock::monotonic());
    lines.recv_timeout(left).ok()
}
