//! Reports and logs for people, and readers that leave.

use std::collections::HashSet;
use std::fs::File;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, UdpSocket};
use std::os::fd::OwnedFd;
use std::process;

use reflector_netlab::topology::{Namespace, in_namespaces};
use reflector_testkit::{
    Client, Engine, HistogramLog, Reflector, command, document, on_both_engines, text,
};
use rustix::fs::{OFlags, fcntl_getfl, fcntl_setfl};
use rustix::process::{Pid, Signal, kill_process};

use super::FAILED;

on_both_engines! {
    fn people_read_columns_and_units(engine: Engine) {
        let host = Namespace::new().unwrap();
        let (mut child, addr, mut reader) = start_for_people(&host, engine, "10ms", &[]);
        // One from a port of its own, and one that --deny-port refuses.
        Client::connect(&host, addr).ask(b"ping");
        host.run(|| UdpSocket::bind("127.0.0.1:19").unwrap().send_to(b"ping", addr)).unwrap();
        let mut lines = (&mut reader).lines().map(Result::unwrap);
        let (header, row) = (lines.next().unwrap(), lines.next().unwrap());
        assert!(header.contains("received/s") && header.contains("Gbit/s"));
        assert!(header.contains("p99 us"));
        let ends = |line: &str| ends_of_words(line).collect::<HashSet<_>>();
        assert!(
            ends(&row).is_subset(&ends(&header)),
            "the columns do not line up:\n{header}\n{row}"
        );

        kill_process(Pid::from_child(&child), Signal::TERM).unwrap();
        assert!(child.wait().unwrap().success());
        let summary: Vec<_> = lines.collect();
        let told = |start: &str| {
            summary
                .iter()
                .find(|line| line.trim_start().starts_with(start))
                .unwrap_or_else(|| panic!("no {start} in {summary:#?}"))
        };
        assert!(told("summary of ").ends_with(" s"));
        assert!(told("received ").ends_with(" 8 bytes"));
        assert!(told("received ").contains(" /s "));
        assert!(told("residence ").contains(" p99.9 "));
        let has_trains = summary.iter().any(|line| line.trim_start().starts_with("trains"));
        assert!(!has_trains, "{summary:#?}");
        assert!(told("worker ").ends_with(" trains dropped"));
        assert!(told("0 ").contains(" 100.0 % "));
        // A name of one word, and the count; counts end in one column.
        let count_end = |start| ends_of_words(told(start)).nth(1);
        for start in ["replied ", "dropped "] {
            assert_eq!(count_end(start), count_end("received "), "{summary:#?}");
        }
    }

    fn a_reader_of_reports_that_leaves_does_not_end_the_service(engine: Engine) {
        let host = Namespace::new().unwrap();
        let (mut child, addr, reader) = start_for_people(&host, engine, "1ms", &["--verbose"]);
        drop(reader);
        let client = Client::connect(&host, addr);
        // Not idle, so that there is something to write.
        client.ask(b"ping");
        let mut log = BufReader::new(child.stderr.take().unwrap()).lines();
        let told = log.find(|line| {
            let line = line.as_ref().unwrap();
            line == "DEBUG nobody reads the reports: Broken pipe (os error 32)"
        });
        assert!(told.is_some());
        client.ask(b"still there");
        kill_process(Pid::from_child(&child), Signal::TERM).unwrap();
        assert!(child.wait().unwrap().success());
    }

    fn a_reader_of_the_log_that_leaves_does_not_end_the_service(engine: Engine) {
        let host = Namespace::new().unwrap();
        let only_one = ["--allow", "127.0.0.1"];
        let (mut child, addr, mut reader) = start_for_people(&host, engine, "1h", &only_one);
        drop(child.stderr.take());
        let source = "127.0.0.2:0".parse().unwrap();
        let stranger = Client::connect_from(&host, source, addr);
        let client = Client::connect(&host, addr);
        // The refusal is logged, to nobody, before the second batch is received.
        stranger.send(b"refused");
        client.ask(b"ping");
        client.ask(b"still there");
        kill_process(Pid::from_child(&child), Signal::TERM).unwrap();
        assert!(child.wait().unwrap().success());
        let mut rest = String::new();
        reader.read_to_string(&mut rest).unwrap();
        assert!(rest.contains("summary of"), "{rest}");
    }

    /// Whoever is asked answers, and the end comes when it is due, whatever the reader does.
    fn a_reader_that_does_not_read_keeps_nobody_waiting(engine: Engine) {
        let host = Namespace::new().unwrap();
        // Not idle, and often, so that the pipe is soon full.
        let (mut child, addr, _reader) = start_for_people(&host, engine, "1ms", &["--json"]);
        let client = Client::connect(&host, addr);
        let mut log = BufReader::new(child.stderr.take().unwrap()).lines();
        let lost = "ERROR nobody takes what is written to stdout: reports are lost";
        assert_eq!(log.next().unwrap().unwrap(), lost);
        client.ask(b"still there");
        kill_process(Pid::from_child(&child), Signal::TERM).unwrap();
        assert_eq!(child.wait().unwrap().code(), Some(FAILED));
        let missing = "ERROR reports are missing in stdout: it did not take them in time";
        assert_eq!(log.next().unwrap().unwrap(), missing);
    }

    fn a_reader_of_the_log_that_does_not_read_keeps_nobody_waiting(engine: Engine) {
        let host = Namespace::new().unwrap();
        let (_reader, writer) = io::pipe().unwrap();
        fill(&writer);
        let args = ["--listen", "127.0.0.1:0", "--allow", "127.0.0.1", "--json"];
        let mut command = command(&[&args[..], &["--engine", engine.name()]].concat());
        command.stderr(writer);
        let mut child = host.run(|| command.spawn()).unwrap();
        let mut reader = BufReader::new(child.stdout.take().unwrap());
        let mut ready = String::new();
        reader.read_line(&mut ready).unwrap();
        let ready = document("serve", &ready);
        let addr = ready["listen"][0].as_str().unwrap().parse().unwrap();
        let source = "127.0.0.2:0".parse().unwrap();
        // The refusal is logged, to nobody.
        Client::connect_from(&host, source, addr).send(b"refused");
        Client::connect(&host, addr).ask(b"ping");
        kill_process(Pid::from_child(&child), Signal::TERM).unwrap();
        assert!(child.wait().unwrap().success());
        let last = reader.lines().last().unwrap().unwrap();
        let summary = document("serve", &last);
        assert_eq!(summary["replied"], 1);
        assert_eq!(summary["dropped"]["not_allowed"], 1);
    }

    fn a_histogram_log_that_fails_does_not_end_the_service_but_its_exit_code_tells(
        engine: Engine
    ) {
        let host = Namespace::new().unwrap();
        // A file that can be written until its reader leaves.
        let hdr = ["--hdr", "/dev/stderr"];
        let (mut child, addr, mut reader) = start_for_people(&host, engine, "5ms", &hdr);
        drop(child.stderr.take());
        let client = Client::connect(&host, addr);
        client.ask(b"ping");
        // The line of the interval is written after its histogram.
        let mut header_and_row = [String::new(), String::new()];
        for line in &mut header_and_row {
            reader.read_line(line).unwrap();
        }
        client.ask(b"still there");
        kill_process(Pid::from_child(&child), Signal::TERM).unwrap();
        assert_eq!(child.wait().unwrap().code(), Some(FAILED));
        let mut rest = String::new();
        reader.read_to_string(&mut rest).unwrap();
        assert!(rest.contains("summary of"), "{rest}");
    }
}

#[test]
fn no_command_complains_of_a_reader_that_has_left() {
    in_namespaces(
        "readers::no_command_complains_of_a_reader_that_has_left",
        || {
            let host = Namespace::new().unwrap();
            let reflector = Reflector::start(&host, Engine::Mmsg, &["-l", "127.0.0.1:9007"]);
            for line in [
                "--version",
                "-h",
                "--help",
                "help",
                "load --help",
                "help lab",
                "man",
                "completions bash",
                "load 127.0.0.1 -n 100",
                "load 127.0.0.1 -n 100 --json",
                "load 127.0.0.1 -r 1k --find-rate 100 -d 0.1",
                "diagnose",
                "diagnose --json",
                "diagnose 127.0.0.1 -n 1",
                "diagnose 127.0.0.1 -n 1 --json",
                "lab --case specific -t 0.1",
                "lab --case specific -t 0.1 --json",
            ] {
                let (reader, stdout) = io::pipe().unwrap();
                drop(reader);
                let args: Vec<_> = line.split(' ').collect();
                let mut command = command(&args);
                command.stdout(stdout);
                let output = host.run(|| command.output()).unwrap();
                let said = text(&output.stderr);
                // This host may be unfit to reflect.
                let is_unfit = line.starts_with("diagnose --json") || line == "diagnose";
                assert!(is_unfit || output.status.success(), "{line}: {said}");
                assert!(
                    !said.contains("pipe") && !said.contains("ERROR"),
                    "{line}: {said}"
                );
            }
            reflector.stop();
        },
    );
}

#[test]
fn a_report_that_cannot_be_written_is_told_once_and_by_the_exit_code() {
    in_namespaces(
        "readers::a_report_that_cannot_be_written_is_told_once_and_by_the_exit_code",
        || {
            let host = Namespace::new().unwrap();
            let log = HistogramLog::new("full");
            let args = "-j -l 127.0.0.1:0 -i 5ms -d 300ms --hdr".split(' ');
            let mut command = command(&args.chain([log.path()]).collect::<Vec<_>>());
            command.stdout(File::create("/dev/full").unwrap());
            let output = host.run(|| command.spawn().unwrap().wait_with_output().unwrap());
            assert_eq!(
                text(&output.stderr),
                "ERROR cannot write the report: No space left on device (os error 28); the service \
                 goes on\n"
            );
            assert_eq!(output.status.code(), Some(FAILED));
            assert!(log.intervals().len() > 2, "it went on");
        },
    );
}

/// Fills the pipe that `writer` leads to.
fn fill(writer: &io::PipeWriter) {
    let mut writer = File::from(OwnedFd::from(writer.try_clone().unwrap()));
    let flags = fcntl_getfl(&writer).unwrap();
    fcntl_setfl(&writer, flags | OFlags::NONBLOCK).unwrap();
    while writer.write(&[b'x'; 4096]).is_ok() {}
    fcntl_setfl(&writer, flags).unwrap();
}

/// The columns at which the words of `line` end.
fn ends_of_words(line: &str) -> impl Iterator<Item = usize> + '_ {
    let is_space = |column: usize| line.as_bytes().get(column).is_none_or(|&byte| byte == b' ');
    (0..line.len()).filter(move |&column| !is_space(column) && is_space(column + 1))
}

/// The program with reports for people, once it is ready: where it listens, and what else it
/// writes to stdout. It ends by itself after a while, so that no reader waits for ever.
fn start_for_people(
    namespace: &Namespace,
    engine: Engine,
    interval: &str,
    args: &[&str],
) -> (process::Child, SocketAddr, BufReader<process::ChildStdout>) {
    let listen = [
        "--listen",
        "127.0.0.1:0",
        "--cores",
        "1",
        "--engine",
        engine.name(),
    ];
    let ends = ["--interval", interval, "--duration", "20s"];
    let mut command = command(&[&listen[..], &ends, args].concat());
    let mut child = namespace.run(|| command.spawn()).unwrap();
    let mut reader = BufReader::new(child.stdout.take().unwrap());
    let mut ready = String::new();
    reader.read_line(&mut ready).unwrap();
    if args.contains(&"--json") {
        let ready = document("serve", &ready);
        let addr = ready["listen"][0].as_str().unwrap().parse().unwrap();
        return (child, addr, reader);
    }
    let rest = ready.strip_prefix("ready: echo on ").expect("it is ready");
    let (addr, rest) = rest.split_once(", ").unwrap();
    assert_eq!(rest, format!("1 worker, engine {}\n", engine.name()));
    (child, addr.parse().unwrap(), reader)
}
