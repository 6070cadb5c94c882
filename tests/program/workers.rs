//! Workers: how many, on which CPUs, and when they are ready.

use std::fs;
use std::io::{self, Read};
use std::path::Path;
use std::thread;
use std::time::Duration;

use reflector_netlab::topology::{Namespace, in_namespaces};
use reflector_testkit::{Client, Reflector, command, on_both_engines, queue, text, threads};
use rustix::process::Signal;
use rustix::thread::{CapabilitySet, remove_capability_from_bounding_set};

use super::{FAILED, PEERS, clients, count};

on_both_engines! {
    fn more_workers_than_cpus_run_with_a_warning(engine: Engine) {
        let host = Namespace::new().unwrap();
        let cpus = core_affinity::get_core_ids().unwrap().len();
        let workers = (cpus + 1).to_string();
        let args = ["--cores", &workers, "--listen", "127.0.0.1:0"];
        let reflector = Reflector::start(&host, engine, &args);
        assert_eq!(reflector.ready["workers"], cpus + 1);
        let clients = clients(&host, reflector.listen(0));
        clients.iter().for_each(|client| client.ask(b"ping"));
        let (summary, log) = reflector.stop_with_log();
        assert_eq!(summary["replied"], PEERS);
        assert_eq!(summary["per_worker"].as_array().unwrap().len(), cpus + 1);
        let warning = format!(" WARN {workers} workers share {cpus} CPU");
        assert!(log.starts_with(&warning), "{log}");
        assert_eq!(log.lines().count(), 1, "{log}");
    }

    fn two_workers_share_the_peers(engine: Engine) {
        let host = Namespace::new().unwrap();
        let args = ["--cores", "2", "--listen", "127.0.0.1:0"];
        let reflector = Reflector::start(&host, engine, &args);
        let clients = clients(&host, reflector.listen(0));
        clients.iter().for_each(|client| client.ask(b"ping"));
        let summary = reflector.stop();
        let shares = summary["per_worker"].as_array().unwrap();
        assert_eq!(shares.len(), 2);
        for (worker, share) in shares.iter().enumerate() {
            assert_eq!(share["worker"], worker);
            assert!(count(&share["received"]) > 0, "{summary}");
        }
        for key in ["received", "replied", "batches", "trains_dropped"] {
            let sum: u64 = shares.iter().map(|share| count(&share[key])).sum();
            assert_eq!(summary[key], sum, "{key}: {summary}");
        }
        assert_eq!(summary["replied"], PEERS);
    }

    fn workers_run_on_the_cpus_named(engine: Engine) {
        let host = Namespace::new().unwrap();
        let last = core_affinity::get_core_ids().unwrap().last().unwrap().id;
        let args = ["--cpus", &last.to_string(), "--listen", "127.0.0.1:0"];
        let reflector = Reflector::start(&host, engine, &args);
        assert_eq!(reflector.ready["workers"], 1);
        let allowed = status_of(&threads::workers(&reflector)[0], "Cpus_allowed_list");
        assert_eq!(allowed, last.to_string());
        let summary = reflector.stop();
        assert_eq!(summary["per_worker"][0]["cpu"], last);
    }

    fn a_cpu_named_twice_has_two_workers_and_a_warning(engine: Engine) {
        let host = Namespace::new().unwrap();
        let cpu = core_affinity::get_core_ids().unwrap()[0].id;
        let args = ["--cpus", &format!("{cpu},{cpu}"), "--listen", "127.0.0.1:0"];
        let reflector = Reflector::start(&host, engine, &args);
        assert_eq!(reflector.ready["workers"], 2);
        let (_, log) = reflector.stop_with_log();
        let warning = " WARN 2 workers share 1 CPU: they take turns, which costs latency\n";
        assert_eq!(log, warning);
    }

    fn ready_is_said_when_every_worker_is_armed(engine: Engine) {
        let host = Namespace::new().unwrap();
        // Log and reports through one pipe, so that their order is seen.
        let (mut reader, writer) = io::pipe().unwrap();
        let args = ["--engine", engine.name(), "--listen", "127.0.0.1:0", "--cores", "16"];
        let mut command = command(&[&args[..], &["--verbose", "--duration", "1ms"]].concat());
        command.stdout(writer.try_clone().unwrap()).stderr(writer);
        let mut child = host.run(|| command.spawn()).unwrap();
        // It holds the other end of the pipe as well.
        drop(command);
        let mut said = String::new();
        reader.read_to_string(&mut said).unwrap();
        assert!(child.wait().unwrap().success());
        let before_ready = said.lines().take_while(|line| !line.starts_with("ready: "));
        let armed = before_ready.filter(|line| line.ends_with(" is armed"));
        assert_eq!(armed.count(), 16, "{said}");
    }

    /// Its share of the peers would be unheard for as long as the debugger wants.
    fn a_worker_that_is_stopped_ends_the_process_with_the_reason(engine: Engine) {
        let host = Namespace::new().unwrap();
        // Without reports, whose counters would be asked for.
        let args = ["--cores", "2", "--listen", "127.0.0.1:0", "--interval", "0"];
        let reflector = Reflector::start(&host, engine, &args);
        Client::connect(&host, reflector.listen(0)).ask(b"ping");
        threads::stop(&threads::workers(&reflector)[1]);
        let (summary, log, status) = reflector.wait();
        assert_eq!(
            log,
            " WARN the summary lacks what worker 1 has counted since the last report: it has not \
             ended\n\
             ERROR worker 1 does not answer: its thread is stopped, by a signal or a debugger; \
             all stop, since its share of the peers would be left without an answer\n"
        );
        assert_eq!(status.code(), Some(FAILED));
        assert_eq!(summary["type"], "summary");
    }

    fn a_drain_does_not_wait_for_a_worker_that_is_stopped(engine: Engine) {
        let host = Namespace::new().unwrap();
        let args = ["--cores", "2", "--listen", "127.0.0.1:0"];
        let reflector = Reflector::start(&host, engine, &args);
        threads::stop(&threads::workers(&reflector)[0]);
        reflector.signal(Signal::TERM);
        let (_, log, status) = reflector.wait();
        let error = "\nERROR worker 0 does not answer: ";
        assert!(log.starts_with(" WARN the summary lacks ") && log.contains(error), "{log}");
        assert_eq!(status.code(), Some(FAILED));
    }

    /// What has missed nothing is not given up: all of it stood still, the server as well.
    fn a_process_that_was_stopped_as_a_whole_goes_on(engine: Engine) {
        let host = Namespace::new().unwrap();
        let reflector = Reflector::start(&host, engine, &["--listen", "127.0.0.1:0"]);
        queue::stop(&reflector);
        // Longer than a worker may be silent.
        thread::sleep(Duration::from_millis(1200));
        reflector.signal(Signal::CONT);
        Client::connect(&host, reflector.listen(0)).ask(b"ping");
        assert_eq!(reflector.stop()["replied"], 1);
    }

    fn what_is_sent_once_it_is_ready_is_answered(engine: Engine) {
        let host = Namespace::new().unwrap();
        // So many workers that some would be late to start on any machine.
        let args = ["--cores", "16", "--listen", "127.0.0.1:0"];
        let reflector = Reflector::start(&host, engine, &args);
        let clients = clients(&host, reflector.listen(0));
        clients.iter().for_each(|client| client.send(b"at once"));
        clients.iter().for_each(|client| client.expect(b"at once"));
        assert_eq!(reflector.stop()["replied"], PEERS);
    }
}

/// A line of a task's status file (proc_pid_status(5)).
fn status_of(task: &Path, key: &str) -> String {
    let status = fs::read_to_string(task.join("status")).unwrap();
    let value = status
        .lines()
        .find_map(|line| line.strip_prefix(key)?.strip_prefix(':'));
    value.expect("a known key").trim().to_owned()
}

#[test]
fn a_socket_buffer_that_is_not_granted_whole_is_said_at_start() {
    in_namespaces(
        "workers::a_socket_buffer_that_is_not_granted_whole_is_said_at_start",
        || {
            let host = Namespace::new().unwrap();
            let args = ["-l", "127.0.0.1:0", "-d", "1ms", "--engine", "mmsg"];
            let args = [&args[..], &["--rcvbuf", "1GiB", "--sndbuf", "1GiB"]].concat();
            let output = host.run(|| {
                remove_capability_from_bounding_set(CapabilitySet::NET_ADMIN).unwrap();
                command(&args).output().unwrap()
            });
            assert!(output.status.success());
            let log: Vec<_> = text(&output.stderr).lines().collect();
            for (line, (buffer, limit)) in log.iter().zip([("receive", "r"), ("send", "w")]) {
                let start = format!(" WARN the {buffer} buffer has ");
                assert!(line.starts_with(&start), "{log:?}");
                assert!(line.contains(" of 1048576 KiB: "), "{log:?}");
                let remedy = format!("raise net.core.{limit}mem_max, or run with CAP_NET_ADMIN");
                assert!(line.ends_with(&remedy), "{log:?}");
            }
            assert_eq!(log.len(), 2, "{log:?}");
        },
    );
}
