//! Thresholds, searches and interrupts: how a run ends.

use std::io::{BufRead, BufReader};
use std::process::Stdio;
use std::thread;
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

use super::{Running, count, load, parse, words};
use reflector_testkit::targets::{Fault, Target};
use reflector_testkit::{command, program};

#[test]
fn thresholds_decide_the_exit_code() {
    let target = Target::start(Fault::DropTenth);
    let options = "--count 100 --rate 1k --timeout 1s --max-loss";
    assert_eq!(load(target.addr, &format!("{options} 50%")).code, 0);
    let ended = load(target.addr, &format!("{options} 5% --max-p99 500ms"));
    assert_eq!(
        (
            ended.code,
            ended.summary()["missed"].as_array().unwrap().len()
        ),
        (5, 2)
    );
}

#[test]
fn the_highest_rate_is_searched_and_the_ladder_is_told() {
    let target = Target::start(Fault::None);
    let options = "--rate 1k --duration 200ms --timeout 5s --find-rate";
    let ended = load(target.addr, &format!("{options} 50%"));
    let found = ended.lines.last().unwrap();
    assert_eq!(
        (ended.code, &found["type"]),
        (0, &"found_rate".into()),
        "{found}"
    );
    // A busy machine may not send all of the 1000: the rate is one that held, as often as it says.
    let rate = found["rate_pps"].as_f64().unwrap();
    assert!(rate > 0.0 && rate <= 1000.0, "{found}");
    assert_eq!(found["confirmations"], 2);
    let ladder = found["ladder"].as_array().unwrap();
    assert_eq!(ladder[0]["offered_pps"], 1000.0, "{found}");
    for step in &ladder[ladder.len() - 2..] {
        assert_eq!(
            (&step["offered_pps"], &step["verdict"]),
            (&rate.into(), &"holds".into()),
            "{found}"
        );
    }

    let target = Target::start(Fault::DropTenth);
    let options = "--rate 1k --duration 100ms --timeout 500ms --find-rate";
    let ended = load(target.addr, &format!("{options} 5%"));
    let found = ended.lines.last().unwrap();
    assert_eq!(
        (ended.code, &found["rate_pps"]),
        (5, &Value::Null),
        "{found}"
    );
    // Once at the floor: of less than 200 datagrams a second, one lost in 100 ms is more than 5 %.
    let steps = ended.lines.iter().filter(|line| line["type"] == "step");
    let asked: Vec<_> = steps.map(|line| line["offered_pps"].as_f64()).collect();
    assert_eq!(asked.first(), Some(&Some(1000.0)), "{found}");
    assert!(asked.iter().flatten().all(|&pps| pps >= 200.0), "{found}");
}

#[test]
fn an_interrupt_prints_what_was_measured() {
    let target = Target::start(Fault::None);
    let running = Running::start(target.addr, "--rate 1k --duration 1h --timeout 5s");
    running.signal(Signal::INT);
    let ended = running.end();
    let summary = ended.summary();
    assert_eq!((ended.code, &summary["interrupted"]), (0, &true.into()));
    assert_eq!(
        (&ended.lines[0]["type"], &ended.lines[1]["type"]),
        (&"ready".into(), &"interval".into())
    );
    // The intervals add up to the whole.
    let intervals = ended.lines.iter().filter(|line| line["type"] == "interval");
    let sent: u64 = intervals.map(|line| count(&line["sent"])).sum();
    assert_eq!(sent, count(&summary["sent"]));
}

#[test]
fn no_signal_loses_what_was_measured() {
    let target = Target::start(Fault::None);
    let options = "--rate 1k --duration 1h --timeout 5s";
    for signal in [
        Signal::HUP,
        Signal::TERM,
        Signal::ALARM,
        Signal::VTALARM,
        Signal::PROF,
        Signal::XCPU,
        Signal::IO,
        Signal::POWER,
        Signal::STKFLT,
    ] {
        let mut running = Running::start(target.addr, options);
        for nothing in [Signal::PIPE, Signal::USR1, Signal::USR2, Signal::XFSZ] {
            running.signal(nothing);
        }
        running.wait_for_report(|line| line["sent"].as_u64() > Some(0));
        running.signal(signal);
        let ended = running.end();
        let summary = ended.summary();
        let end = (ended.code, &summary["interrupted"]);
        assert_eq!(end, (0, &true.into()), "{signal:?}: {summary}");
        assert!(count(&summary["sent"]) > 0, "{signal:?}: {summary}");
    }
}

#[test]
fn a_terminal_that_goes_may_say_so_twice() {
    let target = Target::start(Fault::Silence);
    // It waits for the timeout of what is open.
    let running = Running::start(target.addr, "--rate 1k --duration 1h --timeout 300ms");
    running.signal(Signal::HUP);
    thread::sleep(Duration::from_millis(100));
    running.signal(Signal::HUP);
    let ended = running.end();
    assert_eq!(ended.summary()["interrupted"], true);
}

#[test]
fn what_is_started_to_outlive_its_terminal_does() {
    let target = Target::start(Fault::None);
    let mut shell = std::process::Command::new("sh");
    shell.args(["-c", "trap '' HUP; exec \"$0\" \"$@\""]);
    shell
        .arg(program())
        .arg("load")
        .arg(target.addr.to_string());
    shell.args([
        "--rate",
        "1k",
        "--count",
        "500",
        "--json",
        "--interval",
        "20ms",
    ]);
    let child = shell.stdout(Stdio::piped()).spawn().unwrap();
    let running = Running::attach(child);
    running.signal(Signal::HUP);
    let ended = running.end();
    let summary = ended.summary();
    let whole = (&summary["interrupted"], count(&summary["sent"]));
    assert_eq!(whole, (&false.into(), 500), "{summary}");
}

#[test]
fn an_interrupted_search_keeps_what_held() {
    let target = Target::start(Fault::None);
    let options = "load TARGET --json --rate 100 --duration 200ms --timeout 5s --find-rate 50%";
    let options = options.replace("TARGET", &target.addr.to_string());
    let mut child = command(&words(&options)).spawn().unwrap();
    let mut reports = BufReader::new(child.stdout.take().unwrap()).lines();
    let mut next = || reports.next().map(|line| parse(&line.unwrap()));
    assert_eq!(next().unwrap()["type"], "ready");
    let step = next().unwrap();
    assert_eq!(step["type"], "step");
    kill_process(Pid::from_child(&child), Signal::INT).unwrap();
    let found = std::iter::from_fn(next).last().unwrap();
    assert_eq!(child.wait().unwrap().code(), Some(5), "{found}");
    assert_eq!(found["interrupted"], true, "{found}");
    if step["verdict"] == "holds" {
        assert_eq!(found["rate_pps"], 100.0, "{found}");
    }
}
