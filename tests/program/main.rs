//! The program as people and programs meet it: what it refuses and how it says so, options and
//! their environment variables, workers, reports, signals.

mod ends;
mod healthcheck;
mod help;
mod kernels;
mod limits;
mod lists;
mod manager;
mod metrics;
mod netns;
mod options;
mod ports;
mod readers;
mod refusals;
mod repeated;
mod reports;
mod sandbox;
mod starter;
mod takeover;
mod tentative;
mod version;
mod workers;

use std::net::SocketAddr;
use std::process::Output;

use reflector_netlab::topology::Namespace;
use reflector_testkit::{Client, document, text};
use serde_json::Value;

/// Documented: something could not be set up, or failed.
const FAILED: i32 = 1;

/// Documented: the command line makes no sense.
const USAGE: i32 = 2;

/// Asserts that `output` is that of a program that did not start: the exit code, nothing but
/// `sentence` to read (and where to find help), no trace of a panic.
fn assert_refused(output: &Output, code: i32, sentence: &str) {
    let said = text(&output.stderr);
    assert_eq!(output.status.code(), Some(code), "{said}");
    assert_eq!(
        text(&output.stdout),
        "",
        "a program that refuses reports nothing"
    );
    let mut lines = said.lines();
    assert_eq!(lines.next(), Some(sentence), "{said}");
    for line in lines.filter(|line| !line.is_empty()) {
        let is_help = [
            "Usage: ",
            "       reflector ",
            "For more information, try '--help'",
            "  [possible values: ",
            "  tip: ",
        ]
        .iter()
        .any(|help| line.starts_with(help));
        assert!(is_help, "more than one sentence: {said}");
    }
}

/// So many peers that each of two sockets gets some, but for a chance of 2⁻⁶³.
const PEERS: usize = 64;

fn clients(namespace: &Namespace, asked: SocketAddr) -> Vec<Client> {
    (0..PEERS)
        .map(|_| Client::connect(namespace, asked))
        .collect()
}

fn count(value: &Value) -> u64 {
    value.as_u64().expect("a count")
}

/// The JSON lines of a run that ended well.
fn reports(output: &Output) -> Vec<Value> {
    assert!(output.status.success(), "{}", text(&output.stderr));
    let parse = |line| document("serve", line);
    text(&output.stdout).lines().map(parse).collect()
}
