//! `reflector watch`: gaps and their length, losses and their direction, changes, thresholds.

use std::io::{BufRead, BufReader, Lines};
use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::process::{Child, ChildStdout};
use std::time::Duration;

use reflector_measure::clock;
use reflector_netlab::topology::{DockerHost, Namespace, in_force, in_namespaces, nft};
use reflector_testkit::targets::{Fault, Target};
use reflector_testkit::{
    ASKED, Engine, LISTEN, PORT, Reflector, at, command, document, on_both_engines, wait_until,
};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

use super::run;

/// A `reflector watch --json` that goes on.
pub struct Watch {
    child: Child,
    reports: Lines<BufReader<ChildStdout>>,
    events: Vec<Value>,
}

impl Watch {
    /// Starts it, and waits until it has been answered.
    pub fn start(namespace: &Namespace, target: SocketAddr, options: &str) -> Self {
        let target = target.to_string();
        let mut args = vec!["watch", &target, "--json", "--interval", "20ms"];
        args.extend(options.split_whitespace());
        let mut command = command(&args);
        let mut child = namespace.run(move || command.spawn()).unwrap();
        let reports = BufReader::new(child.stdout.take().unwrap()).lines();
        let mut watch = Self {
            child,
            reports,
            events: Vec::new(),
        };
        watch.wait_for_answer();
        watch
    }

    /// Waits until another interval has answers.
    pub fn wait_for_answer(&mut self) {
        while self.next()["received"].as_u64().is_none_or(|it| it == 0) {}
    }

    /// Waits for an interval in which something was sent, and nothing answered.
    fn wait_for_silence(&mut self) {
        loop {
            let report = self.next();
            if report["sent"].as_u64() > Some(0) && report["received"] == 0 {
                return;
            }
        }
    }

    fn next(&mut self) -> Value {
        let line = self.reports.next().expect("it goes on").unwrap();
        let report = document("watch", &line);
        assert_eq!(report["schema"], 2);
        if report["type"] == "gap" || report["type"] == "change" {
            self.events.push(report.clone());
        }
        report
    }

    /// Ends it by Ctrl-C; its exit code and summary.
    pub fn stop(&mut self) -> (i32, Value) {
        kill_process(Pid::from_child(&self.child), Signal::INT).unwrap();
        loop {
            let report = self.next();
            if report["type"] == "summary" {
                let code = self
                    .child
                    .wait()
                    .unwrap()
                    .code()
                    .expect("it ended by itself");
                assert_eq!(report["exit_code"], code, "{report}");
                assert_eq!(report["interrupted"], true);
                return (code, report);
            }
        }
    }

    /// The events of a type, until now.
    pub fn events(&self, name: &str) -> Vec<&Value> {
        self.events.iter().filter(|it| it["type"] == name).collect()
    }
}

/// Runs a watch to its end; its exit code, its lines and, of these, the summary.
fn watch(namespace: &Namespace, target: SocketAddr, options: &str) -> (i32, Vec<Value>, Value) {
    let (code, printed) = run(namespace, &format!("watch {target} --json {options}"));
    let lines: Vec<Value> = printed.lines().map(|it| document("watch", it)).collect();
    let summary = lines.last().expect("a summary").clone();
    assert_eq!(
        (&summary["type"], &summary["exit_code"]),
        (&"summary".into(), &code.into())
    );
    (code, lines, summary)
}

fn seconds(ns: u64) -> f64 {
    ns as f64 / 1e9
}

const DROP: &str = "table inet gap {
    chain input {
        type filter hook input priority filter; policy accept;
        udp sport 5151 drop;
        udp dport 5151 drop;
    }
}";

on_both_engines! {
    /// A rule is put in and taken out, first where the questions come, then where the answers do.
    fn a_gap_is_as_long_as_what_made_it_and_has_its_direction(engine: Engine) {
        const EVERY: f64 = 0.005;
        let picture = DockerHost::new().unwrap();
        let reflector = started(&picture.host, engine);
        let name = "watching::a_gap_is_as_long_as_what_made_it_and_has_its_direction";
        let [v4, v6] = ASKED.map(at);
        for (at_server, asked) in [(true, v4), (false, v4), (true, v6)] {
            let place = if at_server { &picture.host } else { &picture.container };
            let mut watch = Watch::start(&picture.container, asked, "--every 5ms -t 300ms");
            let asked_for = clock::realtime_ns();
            if !in_force(name, nft(place, DROP)) {
                return;
            }
            let begun = clock::realtime_ns();
            watch.wait_for_silence();
            let undone = clock::realtime_ns();
            nft(place, "delete table inet gap").unwrap();
            let over = clock::realtime_ns();
            watch.wait_for_answer();
            let (code, summary) = watch.stop();
            assert_eq!(code, 0, "{summary}");
            let gap = &summary["longest_gap"];
            // Two datagrams are less than two intervals apart, or one of them was skipped.
            let skipped = summary["skipped"].as_u64().unwrap() as f64;
            let step = EVERY * (2.0 + skipped);
            let within = |at: &Value, from: u64, to: u64| {
                let at = at.as_f64().unwrap();
                at >= seconds(from) - 1e-5 && at <= seconds(to) + step
            };
            for (key, from, to) in [
                ("start_unix_seconds", asked_for, begun),
                ("end_unix_seconds", undone, over),
            ] {
                assert!(within(&gap[key], from, to), "{key}: {gap}, {from} to {to}");
            }
            let told = &summary["told"];
            let key = if at_server { "lost_there" } else { "lost_back" };
            assert_eq!(told[key], summary["unanswered"], "{summary}");
            assert_eq!(told["lost_unknown"], 0, "{summary}");
            assert_eq!(told["local"], asked.to_string(), "{summary}");
            assert_eq!(told["changes"], 0, "{summary}");
            assert!(watch.events("gap").iter().any(|it| it["length_ms"] == gap["length_ms"]));
        }
        reflector.stop();
    }

    /// The next one counts anew, and what was lost around it has no direction.
    fn a_restart_is_told(engine: Engine) {
        let picture = DockerHost::new().unwrap();
        let asked = at(ASKED[0]);
        let first = started(&picture.host, engine);
        let mut watch = Watch::start(&picture.container, asked, "--every 5ms -t 300ms");
        first.stop();
        watch.wait_for_silence();
        let second = started(&picture.host, engine);
        watch.wait_for_answer();
        // Two intervals of answers, so that what the second counted is told.
        watch.wait_for_answer();
        let (code, summary) = watch.stop();
        assert_eq!(code, 0, "{summary}");
        let changes = watch.events("change");
        assert_eq!((changes.len(), &changes[0]["what"]), (1, &"count".into()), "{changes:?}");
        assert!(summary["icmp"]["port_unreachable"].as_u64() > Some(0), "{summary}");
        assert!(summary["told"]["lost_unknown"].as_u64() > Some(0), "{summary}");
        second.stop();
    }
}

fn started(host: &Namespace, engine: Engine) -> Reflector {
    Reflector::start(
        host,
        engine,
        &[LISTEN, &["--echo-info", "--cores", "1"]].concat(),
    )
}

#[test]
fn each_fault_is_told() {
    in_namespaces("watching::each_fault_is_told", || {
        let host = Namespace::new().unwrap();
        for (fault, expected, figures) in [
            (
                Fault::None,
                0,
                [("received", 40), ("gaps", 0), ("unanswered", 0)],
            ),
            (
                Fault::Duplicate,
                0,
                [("received", 40), ("duplicated", 40), ("gaps", 0)],
            ),
            (
                Fault::Swap,
                0,
                [("received", 40), ("reordered", 20), ("gaps", 0)],
            ),
            (
                Fault::DropTenth,
                0,
                [("received", 36), ("gaps", 4), ("unanswered", 4)],
            ),
            (
                Fault::CorruptTenth,
                0,
                [("received", 36), ("corrupt", 4), ("gaps", 4)],
            ),
            (
                Fault::Foreign,
                3,
                [("received", 0), ("foreign", 40), ("gaps", 1)],
            ),
            (
                Fault::Silence,
                3,
                [("received", 0), ("unanswered", 40), ("gaps", 1)],
            ),
            (
                Fault::OtherPort,
                4,
                [("received", 0), ("unanswered", 40), ("gaps", 1)],
            ),
        ] {
            let target = host.run(|| Target::start(fault));
            let (code, lines, summary) = watch(&host, target.addr, "-n 40 --every 2ms -t 2s");
            assert_eq!(code, expected, "{fault:?}: {summary}");
            for (key, figure) in figures {
                assert_eq!(summary[key], figure, "{fault:?}, {key}: {summary}");
            }
            assert_eq!(summary["sent"], 40, "{summary}");
            assert_eq!(summary["told"], Value::Null, "it is no reflector");
            let gaps = lines.iter().filter(|it| it["type"] == "gap").count();
            assert_eq!(summary["gaps"], gaps, "{lines:?}");
            if fault == Fault::OtherPort {
                assert_eq!(summary["wrong_source"]["total"], 40, "{summary}");
                let seen = &summary["wrong_source"]["seen"];
                assert_eq!(seen[target.other_addr.to_string()], 40, "{summary}");
            }
        }
    });
}

#[test]
fn who_refuses_is_told() {
    in_namespaces("watching::who_refuses_is_told", || {
        let host = Namespace::new().unwrap();
        let closed = SocketAddr::from((Ipv4Addr::LOCALHOST, PORT));
        let (code, _, summary) = watch(&host, closed, "-n 20 --every 2ms -t 300ms");
        assert_eq!((code, &summary["unanswered"]), (3, &20.into()), "{summary}");
        assert!(
            summary["icmp"]["port_unreachable"].as_u64() > Some(0),
            "{summary}"
        );
        assert_eq!(summary["longest_gap"]["is_open"], true, "{summary}");
    });
}

#[test]
fn thresholds_have_an_exit_code_and_short_gaps_are_not_told() {
    let name = "watching::thresholds_have_an_exit_code_and_short_gaps_are_not_told";
    in_namespaces(name, || {
        let host = Namespace::new().unwrap();
        for (options, expected, missed) in [
            ("--max-lost 3 --max-gap 60s", 0, 0),
            ("--max-lost 2", 5, 1),
            ("--max-gap 1ms", 5, 1),
            ("--max-lost 0 --max-gap 0s", 5, 2),
        ] {
            let target = host.run(|| Target::start(Fault::DropTenth));
            let options = format!("-n 30 --every 5ms -t 2s {options}");
            let (code, lines, summary) = watch(&host, target.addr, &options);
            assert_eq!(code, expected, "{options}: {summary}");
            assert_eq!(
                summary["missed"].as_array().unwrap().len(),
                missed,
                "{summary}"
            );
            let told = lines.iter().any(|it| it["type"] == "gap");
            assert_eq!(told, !options.contains("60s"), "{lines:?}");
            assert_eq!(summary["gaps"], 3, "{summary}");
        }
    });
}

#[test]
fn people_read_what_it_comes_to() {
    in_namespaces("watching::people_read_what_it_comes_to", || {
        let host = Namespace::new().unwrap();
        let target = host.run(|| Target::start(Fault::DropTenth));
        let line = format!("watch {} -n 20 --every 2ms -t 2s --max-lost 1", target.addr);
        let (code, page) = run(&host, &line);
        assert_eq!(code, 5, "{page}");
        for said in [
            "watch on 127.0.0.1:",
            "a datagram each 2 ms from port ",
            "gap of ",
            "1 unanswered",
            "\nsummary of ",
            "  sent              20\n",
            "missed: 2 are unanswered, --max-lost allows 1\n",
        ] {
            assert!(page.contains(said), "{said}: {page}");
        }
    });
}

#[test]
fn the_source_is_what_was_asked_for() {
    in_namespaces("watching::the_source_is_what_was_asked_for", || {
        let host = Namespace::new().unwrap();
        let server = host.run(|| UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap());
        server
            .set_read_timeout(Some(Duration::from_secs(60)))
            .unwrap();
        let asked = server.local_addr().unwrap();
        let line = "-n 1 -t 1ms --source-port 40123 --bind 127.0.0.9";
        let (_, lines, _) = watch(&host, asked, line);
        assert_eq!(lines[0]["source_port"], 40_123);
        let mut from = None;
        wait_until("it has been asked", || {
            from = server.recv_from(&mut [0; 200]).ok().map(|it| it.1);
            from.is_some()
        });
        assert_eq!(from, Some("127.0.0.9:40123".parse().unwrap()));
    });
}
