//! `reflector load` against real targets: whole ones, and such with one known fault.
//!
//! Counts are asserted, and times only where a bound holds on a busy machine as well. What depends
//! on an idle one is ignored here, and run by its name.

mod addresses;
mod answers;
mod ends;
mod metrics;
mod missing;
mod neighbours;
mod people;
mod search;
mod times;

use std::io::{BufRead, BufReader, Lines};
use std::process::{Child, ChildStdout, Output};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

use reflector_testkit::{command, document};

/// How a run of `reflector load --json` ended.
struct Ended {
    code: i32,
    lines: Vec<Value>,
    log: String,
}

impl Ended {
    fn new(output: &Output) -> Self {
        let text = String::from_utf8(output.stdout.clone()).expect("reports are text");
        Self {
            code: output.status.code().expect("it ended by itself"),
            lines: text.lines().map(parse).collect(),
            log: String::from_utf8_lossy(&output.stderr).into_owned(),
        }
    }

    /// The summary, whose counters must add up.
    fn summary(&self) -> &Value {
        let summary = self
            .lines
            .last()
            .unwrap_or_else(|| panic!("no report: {}", self.log));
        assert_eq!(
            (&summary["type"], &summary["schema"]),
            (&"summary".into(), &2.into())
        );
        let [sent, received, lost] = ["sent", "received", "lost"].map(|key| count(&summary[key]));
        assert_eq!(sent, received + lost, "{summary}");
        assert_eq!(summary["exit_code"], self.code, "{summary}");
        let errors = summary["send_errors"].as_object().expect("counts");
        let refused: u64 = errors.values().map(count).sum();
        assert_eq!(count(&summary["refused"]), refused, "{summary}");
        assert_eq!(count(&summary["rtt_us"]["count"]), sent, "{summary}");
        summary
    }
}

fn parse(line: &str) -> Value {
    document("load", line)
}

/// A `reflector load --json` that goes on.
struct Running {
    child: Child,
    reports: Lines<BufReader<ChildStdout>>,
    lines: Vec<Value>,
}

impl Running {
    /// Starts it, and waits until it has sent something.
    fn start(target: impl ToString, options: &str) -> Self {
        let target = target.to_string();
        let mut args = vec!["load", &target, "--json", "--interval", "20ms"];
        args.extend(words(options));
        Self::attach(command(&args).spawn().expect("the program starts"))
    }

    /// Waits until `child`, started with `--json` and short intervals, has sent something.
    fn attach(mut child: Child) -> Self {
        let reports = child.stdout.take().expect("its reports are piped");
        let mut running = Self {
            child,
            reports: BufReader::new(reports).lines(),
            lines: Vec::new(),
        };
        running.wait_for_report(|line| line["sent"].as_u64().is_some_and(|sent| sent > 0));
        running
    }

    /// Waits for a report.
    fn wait_for_report(&mut self, mut is_wanted: impl FnMut(&Value) -> bool) {
        loop {
            let line = self.reports.next().expect("it goes on");
            self.lines.push(parse(&line.expect("reports are text")));
            if is_wanted(self.lines.last().expect("there is one")) {
                return;
            }
        }
    }

    fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.child), signal).expect("the child is ours");
    }

    /// Waits for its end.
    fn end(mut self) -> Ended {
        for line in self.reports.by_ref() {
            self.lines.push(parse(&line.expect("reports are text")));
        }
        let output = self.child.wait_with_output().expect("it is our child");
        Ended {
            code: output.status.code().expect("it ended by itself"),
            lines: self.lines,
            log: String::from_utf8_lossy(&output.stderr).into_owned(),
        }
    }
}

fn count(value: &Value) -> u64 {
    value
        .as_u64()
        .unwrap_or_else(|| panic!("{value} is no count"))
}

fn words(line: &str) -> Vec<&str> {
    line.split_whitespace().collect()
}

/// Runs `reflector load TARGET --json OPTIONS`.
fn load(target: impl ToString, options: &str) -> Ended {
    let target = target.to_string();
    let mut args = vec!["load", &target, "--json"];
    args.extend(words(options));
    Ended::new(&command(&args).output().expect("the program starts"))
}
