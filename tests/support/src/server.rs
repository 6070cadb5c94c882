//! The program under test as a server, and what it reports.

use std::fs;
use std::io::{BufRead, BufReader, Read};
use std::net::SocketAddr;
use std::process::{Child, ExitStatus};
use std::sync::mpsc::{Receiver, channel};
use std::thread;

use reflector_netlab::topology::Namespace;
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

use crate::{Engine, PATIENCE, command, document, wait_until};

/// The program under test, listening. Killed when dropped.
pub struct Reflector {
    child: Child,
    lines: Receiver<Value>,
    /// The `ready` object.
    pub ready: Value,
    stderr: Option<thread::JoinHandle<String>>,
}

impl Reflector {
    /// Starts `reflector --engine ENGINE --json ARGS…` in `namespace` and waits until it is ready.
    pub fn start(namespace: &Namespace, engine: Engine, args: &[&str]) -> Self {
        let mut all = vec!["--engine", engine.name(), "--json"];
        all.extend(args);
        let child = namespace
            .run(|| command(&all).spawn())
            .expect("the program starts");
        let reflector = Self::attach(child);
        assert_eq!(reflector.ready["engine"], engine.name());
        reflector
    }

    /// Waits until `child`, started with `--json`, is ready.
    pub fn attach(mut child: Child) -> Self {
        let (sender, lines) = channel();
        let stdout = BufReader::new(child.stdout.take().expect("stdout is a pipe"));
        thread::spawn(move || {
            for line in stdout.lines().map_while(Result::ok) {
                if sender.send(document("serve", &line)).is_err() {
                    break;
                }
            }
        });
        let mut stderr = child.stderr.take().expect("stderr is a pipe");
        let stderr = thread::spawn(move || {
            let mut text = String::new();
            stderr
                .read_to_string(&mut text)
                .map_or_else(|e| e.to_string(), |_| text)
        });
        let Ok(ready) = lines.recv_timeout(PATIENCE) else {
            let _ = child.kill();
            panic!(
                "not ready; stderr: {}",
                stderr.join().expect("the reader does not panic")
            );
        };
        assert_eq!(ready["type"], "ready");
        Self {
            child,
            lines,
            ready,
            stderr: Some(stderr),
        }
    }

    /// The address that it listens on, of the socket at `index`.
    pub fn listen(&self, index: usize) -> SocketAddr {
        let text = self.ready["listen"][index]
            .as_str()
            .expect("listen is a list of addresses");
        text.parse().expect("an address and a port")
    }

    /// Its process id.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// How many rings of io_uring it has open.
    pub fn rings(&self) -> usize {
        fs::read_dir(format!("/proc/{}/fd", self.pid()))
            .expect("the child is ours")
            .filter_map(|fd| fs::read_link(fd.ok()?.path()).ok())
            .filter(|target| target.as_os_str() == "anon_inode:[io_uring]")
            .count()
    }

    /// Sends it `signal`.
    pub fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.child), signal).expect("the child is ours");
    }

    /// The next object that it reports.
    pub fn next_report(&self) -> Value {
        self.lines.recv_timeout(PATIENCE).expect("a report comes")
    }

    /// Waits for the report of an interval that `is_wanted`. `what` says in words which that is.
    #[track_caller]
    pub fn wait_for_report(&self, what: &str, mut is_wanted: impl FnMut(&Value) -> bool) -> Value {
        let mut report = Value::Null;
        wait_until(what, || {
            report = self.next_report();
            assert_eq!(report["type"], "interval");
            is_wanted(&report)
        });
        report
    }

    /// Ends it by SIGTERM; returns the summary, whose counts must add up. That it has warned of
    /// nothing is asserted too.
    #[track_caller]
    pub fn stop(self) -> Value {
        let (summary, log) = self.stop_with_log();
        assert_no_warning(&log);
        summary
    }

    /// The same where a warning is expected, or may be: the summary, and what went to stderr.
    #[track_caller]
    pub fn stop_with_log(self) -> (Value, String) {
        self.signal(Signal::TERM);
        let (summary, log, status) = self.wait();
        assert!(
            status.success(),
            "SIGTERM ends with 0, not {status}; stderr: {log}"
        );
        (summary, log)
    }

    /// Waits for its end, however it comes: the last report, stderr, the status.
    pub fn wait(mut self) -> (Value, String, ExitStatus) {
        let mut last = Value::Null;
        while let Ok(report) = self.lines.recv_timeout(PATIENCE) {
            last = report;
        }
        let status = self.child.wait().expect("the child is ours");
        let log = self
            .stderr
            .take()
            .expect("taken once")
            .join()
            .expect("no panic in the reader");
        if last["type"] == "summary" {
            assert_counts_add_up(&last);
        }
        (last, log, status)
    }
}

impl Drop for Reflector {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The lines of `log`, but for those that a machine brings about which has fewer CPUs than workers,
/// or a user who may not have as large socket buffers.
pub fn own_lines(log: &str) -> impl Iterator<Item = &str> {
    let is_machines =
        |line: &str| line.contains(" workers share ") || line.contains(" buffer has ");
    log.lines().filter(move |line| !is_machines(line))
}

/// Asserts that `log` has no line of level WARN or ERROR of its [own](own_lines).
#[track_caller]
fn assert_no_warning(log: &str) {
    let is_warning = |line: &&str| line.starts_with(" WARN ") || line.starts_with("ERROR ");
    let unexpected = own_lines(log).find(is_warning);
    assert_eq!(unexpected, None, "not expected in the log: {log}");
}

/// `received = replied + Σ dropped + Σ send_errors`, since nothing is in flight at the end.
pub(crate) fn assert_counts_add_up(summary: &Value) {
    let count = |value: &Value| value.as_u64().expect("a count");
    let sum = |value: &Value| {
        value
            .as_object()
            .expect("counts")
            .values()
            .map(count)
            .sum::<u64>()
    };
    let ended =
        count(&summary["replied"]) + sum(&summary["dropped"]) + sum(&summary["send_errors"]);
    assert_eq!(count(&summary["received"]), ended, "{summary}");
    assert_eq!(summary["in_flight"], 0, "{summary}");
    assert_eq!(summary["unaccounted"], 0, "{summary}");
}
