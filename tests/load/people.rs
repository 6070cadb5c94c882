//! What people type wrong, and what they read.

use std::env::consts::ARCH;
use std::net::SocketAddr;
use std::thread;

use reflector_netlab::topology::{Namespace, in_namespaces};
use seccompiler::{
    BpfProgram, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompFilter,
    SeccompRule, apply_filter,
};

use serde_json::Value;

use super::{Ended, load, words};
use reflector_testkit::seccomp::refuse_option;
use reflector_testkit::targets::{Fault, Target};
use reflector_testkit::{command, own_lines};
use rustix::thread::{CapabilitySet, remove_capability_from_bounding_set};

#[test]
fn bad_input_is_one_sentence() {
    for (line, code, words) in [
        ("127.0.0.1:0", 2, "port 0"),
        (":7", 2, "a host is missing"),
        ("-4 [::1]:7", 2, "has no IPv4 address"),
        ("-4 -6 localhost", 2, "cannot be used with"),
        ("127.0.0.1:7 --rate 0", 2, "nothing is sent"),
        ("127.0.0.1:7 --size 39", 2, "a probe has a header of 40"),
        ("127.0.0.1:7 --size 65508", 2, "at most 65507"),
        ("127.0.0.1:7 --size 70000", 2, "no UDP payload is longer"),
        (
            "127.0.0.1:7 --find-rate 1% --max-loss 1%",
            2,
            "cannot be used with",
        ),
        (
            "127.0.0.1:7 --poisson --rate max",
            2,
            "--poisson needs a --rate other than max",
        ),
        ("127.0.0.1:7 --timeout 0s", 2, "--timeout"),
        ("127.0.0.1:7 -d 0", 2, "--duration must be more than 0"),
        ("no-such-host.invalid:7", 1, "getent ahosts"),
        (
            "127.0.0.1:7 --bind 192.0.2.1",
            1,
            "cannot send from 192.0.2.1",
        ),
        (
            "127.0.0.1:7 --hdr /nonexistent/x",
            1,
            "cannot write the histogram log",
        ),
    ] {
        let mut args = vec!["load"];
        args.extend(self::words(line));
        let output = command(&args).output().unwrap();
        let log = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(code), "{line}: {log}");
        assert!(log.contains(words), "{line}: {log}");
    }
}

#[test]
fn an_unreachable_target_is_one_sentence() {
    in_namespaces("people::an_unreachable_target_is_one_sentence", || {
        let namespace = Namespace::new().unwrap();
        for target in ["192.0.2.1:7", "[2001:db8::1]:7"] {
            let ended = namespace.run(|| load(target, ""));
            assert_eq!(ended.code, 1);
            assert!(ended.log.contains("no route leads there"), "{}", ended.log);
            assert_eq!(own_lines(&ended.log).count(), 1, "{}", ended.log);
        }
    });
}

#[test]
fn people_read_a_page_and_a_pipe_has_no_progress() {
    let target = Target::start(Fault::DropTenth);
    let args = format!("load {} --count 200 --rate 1k --timeout 100ms", target.addr);
    let output = command(&words(&args)).output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    assert_eq!(output.status.code(), Some(0), "{text}");
    assert!(!text.contains(['\r', '\x1b']), "{text}");
    assert_eq!(
        own_lines(&String::from_utf8_lossy(&output.stderr)).next(),
        None
    );
    assert!(!text.contains("  p50 "), "{text}");
    for words in [
        "summary of ",
        "lost",
        "percentile",
        "from the scheduled time",
    ] {
        assert!(text.contains(words), "{words}: {text}");
    }
    let longest = text.lines().map(|line| line.chars().count()).max();
    assert!(longest.is_some_and(|len| len <= 80), "{text}");
}

#[test]
fn an_interval_that_was_asked_for_is_printed_to_a_pipe_as_well() {
    let target = Target::start(Fault::None);
    let args = format!("load {} --count 200 --rate 1k --interval 50ms", target.addr);
    let output = command(&words(&args)).output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    let lines = text.lines().filter(|line| line.contains(" s  sent "));
    assert!(lines.count() >= 3, "{text}");
    assert_eq!(
        own_lines(&String::from_utf8_lossy(&output.stderr)).next(),
        None
    );
}

#[test]
fn where_nothing_came_back_there_are_no_round_trips() {
    let target = Target::start(Fault::Silence);
    let args = format!("load {} --count 50 --rate 1k --timeout 100ms", target.addr);
    let output = command(&words(&args)).output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    assert_eq!(output.status.code(), Some(3), "{text}");
    assert!(text.contains("\nround trip: none received\n"), "{text}");
    assert!(!text.contains("percentile"), "{text}");
}

/// A filter under which a process can be started, and no thread.
fn without_threads() -> BpfProgram {
    let thread = libc::CLONE_THREAD as u64;
    let (len, op) = (SeccompCmpArgLen::Qword, SeccompCmpOp::MaskedEq(thread));
    let is_thread = SeccompCondition::new(0, len, op, thread).unwrap();
    let rules = [(
        libc::SYS_clone,
        vec![SeccompRule::new(vec![is_thread]).unwrap()],
    )];
    let refused = SeccompAction::Errno(libc::EAGAIN as u32);
    let arch = || ARCH.try_into().unwrap();
    let filter = SeccompFilter::new(rules.into(), SeccompAction::Allow, refused, arch());
    filter.unwrap().try_into().unwrap()
}

/// The flags of clone3(2) are in memory, where no filter sees them: as if it were not there.
fn without_clone3() -> BpfProgram {
    let rules = [(libc::SYS_clone3, Vec::new())].into();
    let unknown = SeccompAction::Errno(libc::ENOSYS as u32);
    let filter = SeccompFilter::new(
        rules,
        SeccompAction::Allow,
        unknown,
        ARCH.try_into().unwrap(),
    );
    filter.unwrap().try_into().unwrap()
}

#[test]
fn where_no_thread_is_available_it_is_one_sentence() {
    let target = Target::start(Fault::None);
    for options in [
        "--count 10",
        "--count 10 --cores 2",
        "--find-rate 1 --duration 1s",
    ] {
        let line = format!("load {} {options} --json", target.addr);
        // The filters are of the thread and what it starts.
        let output = thread::spawn(move || {
            apply_filter(&without_clone3()).unwrap();
            apply_filter(&without_threads()).unwrap();
            command(&words(&line)).output().unwrap()
        });
        let output = output.join().unwrap();
        let log = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(1), "{options}: {log}");
        assert!(log.contains("cannot start thread 1"), "{options}: {log}");
        assert!(log.contains("ulimit -u"), "{options}: {log}");
        assert_eq!(own_lines(&log).count(), 1, "{options}: {log}");
    }
}

/// Loads `addr` by one flow from a thread that `prepare` has changed for good.
fn load_where(prepare: impl FnOnce() + Send + 'static, addr: SocketAddr) -> Ended {
    let thread = thread::spawn(move || {
        prepare();
        load(addr, "--count 10 --flows 1 --timeout 5s")
    });
    thread.join().unwrap()
}

#[test]
fn socket_buffers_that_are_not_granted_whole_are_said_at_start() {
    let target = Target::start(Fault::None);
    let without = || remove_capability_from_bounding_set(CapabilitySet::NET_ADMIN).unwrap();
    let ended = load_where(without, target.addr);
    assert_eq!(ended.summary()["received"], 10);
    let log: Vec<_> = ended.log.lines().collect();
    for (line, (buffer, limit)) in log.iter().zip([("receive", 'r'), ("send", 'w')]) {
        let start = format!(" WARN each flow's {buffer} buffer has ");
        let remedy = format!("raise net.core.{limit}mem_max, or run with CAP_NET_ADMIN");
        assert!(
            line.starts_with(&start) && line.ends_with(&remedy),
            "{line}"
        );
        assert!(line.contains(" of 16384 KiB: "), "{line}");
    }
    assert_eq!(log.len(), 2, "{log:?}");
}

#[test]
fn an_option_that_the_kernel_refuses_is_done_without() {
    let target = Target::start(Fault::None);
    for (level, option, name) in [
        (libc::SOL_UDP, libc::UDP_GRO, "UDP_GRO"),
        (libc::SOL_SOCKET, libc::SO_TIMESTAMPNS, "SO_TIMESTAMPNS"),
        (libc::SOL_IP, libc::IP_RECVERR, "IP_RECVERR"),
    ] {
        let ended = load_where(move || refuse_option(level, option), target.addr);
        assert_eq!(ended.summary()["received"], 10, "{name}");
        let start = format!(" WARN the kernel refuses {name} (Operation not supported");
        let mut own = own_lines(&ended.log);
        assert!(own.next().is_some_and(|it| it.starts_with(&start)) && own.next().is_none());
    }
}

#[test]
fn ping_pong_is_one_datagram_at_a_time() {
    let target = Target::start(Fault::None);
    let ended = load(target.addr, "--ping-pong --count 50 --timeout 5s");
    let ready = &ended.lines[0];
    let loop_of_one = [&ready["window"], &ready["flows"], &ready["offered_pps"]];
    assert_eq!(loop_of_one, [&1.into(), &1.into(), &Value::Null]);
    assert_eq!(ended.summary()["received"], 50);
    for with in ["--window 2", "--flows 1", "--burst 2", "--find-rate 1"] {
        let line = format!("load {} --ping-pong {with}", target.addr);
        let output = command(&words(&line)).output().unwrap();
        assert_eq!(output.status.code(), Some(2), "{with}");
    }
}

#[test]
fn fewer_threads_than_asked_for_are_told() {
    let target = Target::start(Fault::None);
    let ended = load(target.addr, "--count 10 --flows 2 --cores 8 --timeout 5s");
    assert_eq!(ended.lines[0]["cores"], 2);
    assert!(ended.log.contains("--cores 8 is 2 here"), "{}", ended.log);
}
