//! What it does where the system grants it little: threads, descriptors, a process of its own.

use std::env::consts::ARCH;
use std::process::{self, Stdio};

use reflector_measure::host::kernel_is_at_least;
use reflector_netlab::topology::{Namespace, in_namespaces};
use reflector_testkit::seccomp::spawn_without_threads;
use reflector_testkit::{Reflector, command, io_uring, text, train};
use seccompiler::{TargetArch, apply_filter, compile_from_json};
use serde_json::{Value, json};

use super::FAILED;

/// What each command is asked to do here.
const LINES: [&str; 5] = [
    "--engine mmsg -l 127.0.0.1:0 -d 1ms",
    "--engine auto -l 127.0.0.1:0 -d 1ms",
    "diagnose",
    "diagnose 127.0.0.1:7 -n 1 -t 0.1",
    "load 127.0.0.1:7 -n 10 -t 0.1",
];

fn command_of(line: &str) -> process::Command {
    command(&line.split(' ').collect::<Vec<_>>())
}

#[test]
fn without_a_thread_there_is_a_sentence_and_no_panic() {
    in_namespaces(
        "limits::without_a_thread_there_is_a_sentence_and_no_panic",
        || {
            let host = Namespace::new().unwrap();
            for line in LINES {
                let child = spawn_without_threads(&host, command_of(line));
                let output = child.wait_with_output().unwrap();
                let said = text(&output.stderr);
                assert_eq!(output.status.code(), Some(FAILED), "{line}: {said}");
                assert!(!said.contains("panicked"), "{line}: {said}");
                if line != "diagnose" {
                    let last = said.lines().last().unwrap();
                    assert!(last.starts_with("ERROR cannot "), "{line}: {said}");
                    assert!(last.contains("`ulimit -u`"), "{line}: {said}");
                }
            }
        },
    );
}

/// Whether `status` is what the command `line` ends with where nothing is in its way: nobody
/// answers at port 7.
fn ends_as_elsewhere(line: &str, status: process::ExitStatus) -> bool {
    let code = status.code();
    match line {
        "diagnose" => code == Some(0) || code == Some(FAILED),
        _ if line.contains(":7") => code == Some(3),
        _ => code == Some(0),
    }
}

#[test]
fn without_stdin_stdout_and_stderr_nothing_goes_where_it_does_not_belong() {
    in_namespaces(
        "limits::without_stdin_stdout_and_stderr_nothing_goes_where_it_does_not_belong",
        || {
            let host = Namespace::new().unwrap();
            for line in LINES {
                let mut closed = process::Command::new("sh");
                let command = command_of(line);
                closed.args(["-c", "exec \"$0\" \"$@\" <&- >&- 2>&-"]);
                closed.arg(command.get_program()).args(command.get_args());
                let status = host.run(|| closed.status()).unwrap();
                assert!(ends_as_elsewhere(line, status), "{line}: {status}");
            }
        },
    );
}

#[test]
fn as_the_first_process_of_a_container_it_ends_as_elsewhere() {
    in_namespaces(
        "limits::as_the_first_process_of_a_container_it_ends_as_elsewhere",
        || {
            let host = Namespace::new().unwrap();
            for line in LINES {
                let command = command_of(line);
                let mut first = process::Command::new("unshare");
                first.args(["--pid", "--fork", "--kill-child"]);
                first.arg(command.get_program()).args(command.get_args());
                let output = host.run(|| first.output()).unwrap();
                let said = text(&output.stderr);
                assert!(ends_as_elsewhere(line, output.status), "{line}: {said}");
            }
        },
    );
}

/// As systemd's `ProcSubset=pid` mounts it: no /proc/sys, which says how long trains may be.
#[test]
fn without_proc_sys_trains_are_as_long_as_elsewhere() {
    in_namespaces(
        "limits::without_proc_sys_trains_are_as_long_as_elsewhere",
        || {
            let host = Namespace::new().unwrap();
            let script = "mount -t proc -o subset=pid proc /proc && exec \"$0\" \"$@\"";
            let line = "--engine mmsg -l 127.0.0.1:0 --cores 1 --json -d 20";
            let command = command_of(line);
            let mut apart = process::Command::new("unshare");
            apart.args(["--mount", "sh", "-c", script]);
            apart.arg(command.get_program()).args(command.get_args());
            apart
                .env_remove("REFLECTOR_REQUIRE")
                .stdout(Stdio::piped())
                .stderr(Stdio::piped());
            let reflector = Reflector::attach(host.run(|| apart.spawn()).unwrap());
            let mut client = train::Client::any(&host, reflector.listen(0));
            // Longer than kernels before 6.9 take.
            let train = client.send_train(&[7; 128 * 100], 100);
            client.expect_back(&train);
            let summary = reflector.stop();
            let sent = if kernel_is_at_least(6, 9) { 1 } else { 2 };
            assert_eq!(summary["trains_sent"], sent, "{summary}");
        },
    );
}

/// What the test needs beside the program's own calls, to start it in the place of a container.
const OF_THE_START: [&str; 4] = ["dup2", "pipe2", "vfork", "wait4"];

/// The profile of the containers, in the form that the filter's compiler reads.
fn profile() -> Value {
    let text = include_str!("../../deploy/seccomp.json");
    let profile: Value = serde_json::from_str(text).unwrap();
    let rules = profile["syscalls"].as_array().unwrap().iter();
    let rules = rules.flat_map(|rule| {
        let names = rule["names"].as_array().unwrap().iter();
        names.map(|name| match rule["args"].get(0) {
            None => json!({"syscall": name}),
            Some(arg) => json!({
                "syscall": name,
                "args": [{"index": arg["index"], "type": "dword", "op": "eq", "val": arg["value"]}]
            }),
        })
    });
    let of_the_start = OF_THE_START.map(|name| json!({"syscall": name}));
    let rules: Vec<_> = rules.chain(of_the_start).collect();
    json!({"reflector": {
        "mismatch_action": {"errno": profile["defaultErrnoRet"]},
        "match_action": "allow",
        "filter": rules
    }})
}

#[test]
fn the_profile_of_the_containers_allows_all_that_a_server_does() {
    in_namespaces(
        "limits::the_profile_of_the_containers_allows_all_that_a_server_does",
        || {
            // It names calls that other machines do not have.
            if ARCH != "x86_64" {
                return;
            }
            let host = Namespace::new().unwrap();
            let compiled = compile_from_json(profile().to_string().as_bytes(), TargetArch::x86_64);
            let program = &compiled.unwrap()["reflector"];
            for line in [
                "--engine mmsg -l 127.0.0.1:0 -d 1ms --json",
                "--engine uring -l 127.0.0.1:0 -d 1ms --json",
                "--engine auto -l localhost:0 -l [::1%lo]:0 -d 1ms --coalesce 1ms",
            ] {
                if line.contains("uring") && io_uring().is_err() {
                    continue;
                }
                // Linked dynamically, as a test's program is.
                let mut command = command_of(line);
                let child = host.run(|| {
                    apply_filter(program).unwrap();
                    command.spawn().unwrap()
                });
                let output = child.wait_with_output().unwrap();
                let said = text(&output.stderr);
                assert_eq!(output.status.code(), Some(0), "{line}: {said}");
                assert!(!said.contains("not permitted"), "{line}: {said}");
            }
        },
    );
}
