//! `reflector probe`, `wait` and `watch` against real services: whole ones, and such with one
//! known fault.
//!
//! Words, counts and exit codes are asserted, and times only where a bound holds on a busy machine
//! as well.

mod figures;
mod rebinding;
mod verdicts;
mod waiting;
mod watching;

use reflector_netlab::topology::Namespace;
use reflector_testkit::{document, run_to_end, text};
use serde_json::Value;

/// Runs the program in `namespace`; its exit code and what it printed.
fn run(namespace: &Namespace, line: &str) -> (i32, String) {
    let args: Vec<_> = line.split_whitespace().collect();
    let output = run_to_end(namespace, &args);
    let code = output.status.code().expect("it ended by itself");
    assert_eq!(text(&output.stderr), "", "{line}");
    (code, text(&output.stdout).to_owned())
}

/// The same, with `--json`.
fn run_json(namespace: &Namespace, line: &str) -> (i32, Value) {
    let (code, printed) = run(namespace, &format!("{line} --json"));
    let mut lines = printed.lines();
    let command = line.split(' ').next().expect("a command");
    let object = document(command, lines.next().expect("an object"));
    assert_eq!(lines.next(), None, "one object");
    assert_eq!(object["exit_code"], code, "{object}");
    (code, object)
}
