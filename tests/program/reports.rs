//! Reports and logs for programs: JSON lines and histograms.

use std::fs::{self, File};
use std::os::unix::fs::MetadataExt;
use std::{env, process};

use hdrhistogram::Histogram;
use reflector_netlab::topology::{Namespace, in_namespaces, net};
use reflector_testkit::queue::while_stopped;
use reflector_testkit::train;
use reflector_testkit::{
    Client, HistogramLog, Reflector, command, on_both_engines, run_to_end, text,
};
use rustix::process::Signal;
use serde_json::Value;

use super::{FAILED, clients, count, reports};

/// What every report of counts carries.
const COUNTS: [&str; 20] = [
    "seconds",
    "received",
    "replied",
    "in_flight",
    "bytes_received",
    "bytes_replied",
    "dropped",
    "send_errors",
    "kernel_drops",
    "kernel_drops_least",
    "kernel_drops_most",
    "trains_dropped",
    "sndbuf_errors",
    "trains_received",
    "trains_sent",
    "trains_refused",
    "batches",
    "clock_stepped",
    "residence_us",
    "type",
];

#[test]
fn reports_are_json_lines_of_documented_keys() {
    in_namespaces("reports::reports_are_json_lines_of_documented_keys", || {
        let host = Namespace::new().unwrap();
        let args = "--json --listen 127.0.0.1:0 --interval 5ms --duration 50ms --verbose";
        let output = run_to_end(&host, &args.split(' ').collect::<Vec<_>>());
        let reports = reports(&output);
        let types: Vec<_> = reports.iter().map(|it| it["type"].as_str()).collect();
        assert_eq!(types[0], Some("ready"));
        assert_eq!(types[types.len() - 1], Some("summary"));
        let between = &types[1..types.len() - 1];
        assert!(!between.is_empty() && between.iter().all(|it| *it == Some("interval")));
        for report in &reports {
            assert_eq!(report["schema"], 2);
        }
        assert_keys(
            &reports[0],
            &["listen", "workers", "engine", "engine_reason", "mode"],
        );
        assert_eq!(reports[0]["mode"], "echo");
        for report in &reports[1..] {
            assert_keys(report, &COUNTS);
            let residence = ["count", "min", "p50", "p90", "p99", "p99_9", "max"];
            assert_keys(&report["residence_us"], &residence);
            let reasons = [
                "no_pktinfo",
                "truncated",
                "not_unicast",
                "source_port",
                "not_allowed",
            ];
            assert_keys(&report["dropped"], &reasons);
        }
        let summary = reports.last().unwrap();
        let share = [
            "worker",
            "cpu",
            "received",
            "replied",
            "batches",
            "trains_dropped",
        ];
        assert_keys(&summary["per_worker"][0], &share);
        let share = ["listen", "received", "replied", "dropped", "send_errors"];
        assert_keys(&summary["per_listener"][0], &share);
        assert!(summary["seconds"].as_f64().unwrap() >= 0.05);
        // The log has its own place, and something to say.
        assert!(text(&output.stderr).contains("memory budget"));
    });
}

fn assert_keys(object: &Value, keys: &[&str]) {
    for &key in keys {
        assert!(object.get(key).is_some(), "{key} is missing in {object}");
    }
}

#[test]
fn the_log_is_json_lines_where_it_is_asked_for() {
    in_namespaces(
        "reports::the_log_is_json_lines_where_it_is_asked_for",
        || {
            let host = Namespace::new().unwrap();
            let args = "--listen 127.0.0.1:0 --duration 1ms --log-format json -v";
            let output = run_to_end(&host, &args.split(' ').collect::<Vec<_>>());
            assert!(output.status.success());
            assert!(text(&output.stdout).starts_with("ready: "));
            let refused = run_to_end(&host, &["--log-format", "json", "--device", "nope0"]);
            assert_eq!(refused.status.code(), Some(FAILED));
            for (log, level) in [(&output.stderr, "DEBUG"), (&refused.stderr, "ERROR")] {
                let entries: Vec<Value> = text(log)
                    .lines()
                    .map(|line| serde_json::from_str(line).expect("every line is a JSON object"))
                    .collect();
                assert!(
                    entries
                        .iter()
                        .all(|entry| entry["fields"]["message"].is_string())
                );
                assert_eq!(entries.last().unwrap()["level"], level);
            }
        },
    );
}

#[test]
fn the_journal_gets_a_priority_with_each_line() {
    in_namespaces(
        "reports::the_journal_gets_a_priority_with_each_line",
        || {
            let host = Namespace::new().unwrap();
            let path = env::temp_dir().join(format!("reflector-journal-{}", process::id()));
            let log = || {
                let file = File::create(&path).unwrap();
                let id = file.metadata().unwrap();
                (file, format!("{}:{}", id.dev(), id.ino()))
            };
            let said = |args: &[&str], (file, stream): (File, String)| {
                let mut command = command(args);
                command.env("JOURNAL_STREAM", stream).stderr(file);
                host.run(|| command.output()).unwrap();
                fs::read_to_string(&path).unwrap()
            };
            let refused = ["--device", "nope0"];
            assert!(said(&refused, log()).starts_with("<3>ERROR "));
            let served = [
                "--listen",
                "127.0.0.1:0",
                "-d",
                "1ms",
                "-v",
                "--metrics",
                "0",
            ];
            let lines = said(&served, log());
            assert!(lines.contains("<6> INFO metrics at "), "{lines}");
            assert!(lines.contains("<7>DEBUG worker 0 is armed"), "{lines}");
            // Where stderr is something else by now.
            let (file, _) = log();
            assert!(said(&refused, (file, "1:1".to_owned())).starts_with("ERROR "));
            fs::remove_file(path).unwrap();
        },
    );
}

on_both_engines! {
    fn intervals_add_up_to_the_summary(engine: Engine) {
        let host = Namespace::new().unwrap();
        let args = ["--listen", "127.0.0.1:0", "--interval", "10ms"];
        let reflector = Reflector::start(&host, engine, &args);
        let client = Client::connect(&host, reflector.listen(0));
        let mut replied = 0;
        for asked in 1..=3 {
            client.ask(b"ping");
            // A reply may be counted an interval later than its request: it is in flight meanwhile.
            while replied < asked {
                replied += count(&reflector.next_report()["replied"]);
            }
        }
        let summary = reflector.stop();
        assert_eq!((summary["replied"].clone(), replied), (3.into(), 3));
        assert_eq!(summary["bytes_replied"], 12);
    }

    fn what_waits_to_be_answered_is_in_flight(engine: Engine) {
        let host = Namespace::new().unwrap();
        let args = ["--listen", "127.0.0.1:0", "--interval", "10ms", "--coalesce", "10s"];
        let reflector = Reflector::start(&host, engine, &args);
        let client = Client::connect(&host, reflector.listen(0));
        client.send(b"ping");
        reflector.wait_for_report("a datagram in flight", |it| it["in_flight"] == 1);
        // The order to stop ends the wait, and the reply leaves.
        let summary = reflector.stop();
        assert_eq!(summary["replied"], 1);
        assert_eq!(summary["in_flight"], 0);
    }

    fn without_intervals_there_is_only_a_summary(engine: Engine) {
        let host = Namespace::new().unwrap();
        let args = ["--listen", "127.0.0.1:0", "--interval", "0"];
        let reflector = Reflector::start(&host, engine, &args);
        Client::connect(&host, reflector.listen(0)).ask(b"ping");
        reflector.signal(Signal::TERM);
        assert_eq!(reflector.next_report()["type"], "summary");
    }

    fn what_the_kernel_dropped_is_counted(engine: Engine) {
        const SENT: usize = 500;
        let host = Namespace::new().unwrap();
        let args = ["--listen", "127.0.0.1:0", "--cores", "2", "--rcvbuf", "4KiB"];
        let reflector = Reflector::start(&host, engine, &args);
        let clients = clients(&host, reflector.listen(0));
        // While it stands still, its sockets take a few datagrams and no more.
        while_stopped(&reflector, || {
            for client in clients.iter().cycle().take(SENT) {
                client.send(b"one of many");
            }
        });
        let summary = reflector.stop();
        let drops = count(&summary["kernel_drops"]);
        assert!(drops > 0, "{summary}");
        assert_eq!(count(&summary["received"]) + drops, SENT as u64);
        let shares = summary["per_worker"].as_array().unwrap();
        let of_workers = shares.iter().map(|share| count(&share["trains_dropped"]));
        assert!(of_workers.clone().all(|drops| drops > 0), "{summary}");
        assert_eq!(of_workers.sum::<u64>(), drops);
    }

    fn what_the_kernel_dropped_of_trains_is_counted_in_datagrams(engine: Engine) {
        const SENT: u64 = 200 * 32;
        let (host, peer) = (Namespace::new().unwrap(), Namespace::new().unwrap());
        peer.add_veth("eth0", &host, "eth0").unwrap();
        for (namespace, v4, v6) in
            [(&host, "10.9.0.1/24", "fd09::1/64"), (&peer, "10.9.0.2/24", "fd09::2/64")]
        {
            namespace.set_up("eth0").unwrap();
            namespace.add_address("eth0", net(v4)).unwrap();
            namespace.add_address("eth0", net(v6)).unwrap();
        }
        peer.wait_ready("eth0").unwrap();
        for (listen, gro) in
            [("10.9.0.1:5151", "on"), ("10.9.0.1:5151", "off"), ("[fd09::1]:5151", "on")]
        {
            let args = ["--listen", listen, "--rcvbuf", "64KiB", "--gro", gro, "--cores", "1"];
            let reflector = Reflector::start(&host, engine, &args);
            let client = train::Client::any(&peer, reflector.listen(0));
            // While it stands still, its socket takes a few trains and no more.
            while_stopped(&reflector, || {
                for _ in 0..200 {
                    client.send_train(&[7; 3200], 100);
                }
            });
            let summary = reflector.stop();
            let [received, drops, least, most, trains] = [
                "received", "kernel_drops", "kernel_drops_least", "kernel_drops_most",
                "trains_dropped",
            ]
            .map(|key| count(&summary[key]));
            let lost = SENT - received;
            assert!(trains > 0 && least <= lost && lost <= most, "{summary}");
            assert_eq!(drops, lost, "{summary}");
            if gro == "off" {
                assert_eq!(trains, lost, "{summary}");
            } else {
                assert_eq!(32 * trains, lost, "{summary}");
            }
            // In IPv6 there may be a packet of another kind.
            assert!(least == most || listen.starts_with('['), "{summary}");
            assert!(most - least <= 3 * 128, "{summary}");
        }
    }

    fn residence_times_are_logged_for_other_tools(engine: Engine) {
        let host = Namespace::new().unwrap();
        let log = HistogramLog::new(engine.name());
        let args = ["--listen", "127.0.0.1:0", "--interval", "10ms", "--hdr", log.path()];
        let reflector = Reflector::start(&host, engine, &args);
        let client = Client::connect(&host, reflector.listen(0));
        for _ in 0..2 {
            client.ask(b"ping");
            reflector.wait_for_report("something is received", |it| it["received"] != 0);
        }
        // Left for the part of an interval that the end closes.
        client.ask(b"ping");
        let summary = reflector.stop();
        assert_eq!(summary["residence_us"]["count"], 3);

        assert!(log.text().contains("nanoseconds"));
        let intervals = log.intervals();
        let busy = intervals.iter().filter(|interval| !interval.is_empty());
        assert!(busy.count() >= 2, "the intervals are told apart");
        let mut all = Histogram::<u64>::new(3).unwrap();
        intervals.iter().for_each(|interval| all.add(interval).unwrap());
        assert_eq!(summary["replied"], all.len());
        // Nanoseconds in the log, microseconds in the summary.
        let us = |ns: u64| ns as f64 / 1000.0;
        assert_eq!(summary["residence_us"]["p50"], us(all.value_at_quantile(0.5)));
        assert!(all.min() > 0);
        // The next run of the service goes on in the same file, which nobody has emptied.
        let before = log.text();
        Reflector::start(&host, engine, &args).stop();
        assert!(log.text().strip_prefix(&before).is_some_and(|it| it.contains("StartTime")));
    }
}
