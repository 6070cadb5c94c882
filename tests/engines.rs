//! Which engine runs, proven by what the kernel sees of it: the program is started under seccomp
//! filters that kill it for a system call of io_uring, or refuse the call as container runtimes
//! do.
//!
//! `kernel.io_uring_disabled`, old kernels and locked memory are settings of the whole machine,
//! which other tests share: how they are told apart is tested in `engine::probe`.

use std::fs;
use std::os::unix::process::ExitStatusExt;
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::Duration;

use reflector_netlab::topology::{Namespace, in_namespaces, skip};
use reflector_testkit::seccomp::{spawn_under, spawn_without};
use reflector_testkit::{
    Client, Engine, Reflector, command, on_both_engines, program, text, wait_until,
};
use rustix::process::Signal;
use rustix::thread::{CapabilitySet, remove_capability_from_bounding_set};
use seccompiler::{SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompRule};

/// The system calls of io_uring(7).
const IO_URING: [i64; 3] = [
    libc::SYS_io_uring_setup,
    libc::SYS_io_uring_enter,
    libc::SYS_io_uring_register,
];

/// Starts `command` in `namespace` under a filter that does `action` to each call of io_uring.
fn spawn_filtered(namespace: &Namespace, action: SeccompAction, command: Command) -> Child {
    spawn_without(namespace, &IO_URING, action, command)
}

/// Refused as the default profiles of container runtimes do.
const REFUSED: SeccompAction = SeccompAction::Errno(libc::EPERM as u32);
/// Refused as if the kernel had never heard of it.
const UNKNOWN: SeccompAction = SeccompAction::Errno(libc::ENOSYS as u32);

const REFUSED_REASON: &str = "a seccomp profile refuses it (EPERM), as those of Docker, \
                              containerd and Podman do by default";
const REFUSED_REMEDY: &str = "run the container with --security-opt seccomp=deploy/seccomp.json";
const UNKNOWN_REASON: &str = "the kernel has no io_uring, or a seccomp profile hides it (ENOSYS)";
const UNKNOWN_REMEDY: &str = "run a kernel with CONFIG_IO_URING, or allow io_uring_setup, \
                              io_uring_enter and io_uring_register in the seccomp profile \
                              (deploy/seccomp.json does)";

fn command_of(engine: &str) -> Command {
    command_with(engine, "2")
}

fn command_with(engine: &str, cores: &str) -> Command {
    let listen = ["--listen", "127.0.0.1:0", "--cores", cores];
    // The end, should it start although it must not.
    let rest = ["--json", "--duration", "20s", "--engine", engine];
    command(&[&listen[..], &rest].concat())
}

#[test]
fn mmsg_makes_no_system_call_of_io_uring() {
    in_namespaces("mmsg_makes_no_system_call_of_io_uring", || {
        let host = Namespace::new().unwrap();
        let deadly = SeccompAction::KillProcess;
        let child = spawn_filtered(&host, deadly, command_of("mmsg"));
        let reflector = Reflector::attach(child);
        assert_eq!(reflector.ready["engine"], "mmsg");
        // Chosen, not fallen back to.
        assert_eq!(reflector.ready["engine_reason"], serde_json::Value::Null);
        Client::connect(&host, reflector.listen(0)).ask(b"ping");
        let (summary, log) = reflector.stop_with_log();
        assert_eq!(summary["replied"], 1);
        assert_eq!(log, "");
    });
}

#[test]
fn the_filter_that_mmsg_survives_kills_the_others() {
    in_namespaces("the_filter_that_mmsg_survives_kills_the_others", || {
        let host = Namespace::new().unwrap();
        for engine in ["uring", "auto"] {
            let deadly = SeccompAction::KillProcess;
            let child = spawn_filtered(&host, deadly, command_of(engine));
            let output = child.wait_with_output().unwrap();
            assert_eq!(
                output.status.signal(),
                Some(Signal::SYS.as_raw()),
                "{engine}"
            );
            assert_eq!(text(&output.stdout), "");
        }
    });
}

/// Runs `body` where the machine itself has no objection to io_uring, which would be named first.
fn where_io_uring_is_allowed(test_name: &str, body: impl FnOnce()) {
    match reflector_testkit::io_uring() {
        Ok(_) => in_namespaces(test_name, body),
        Err(blocker) => skip(test_name, "uring", &blocker.what),
    }
}

#[test]
fn auto_falls_back_to_mmsg_and_says_why_and_what_to_do() {
    where_io_uring_is_allowed(
        "auto_falls_back_to_mmsg_and_says_why_and_what_to_do",
        || {
            let host = Namespace::new().unwrap();
            for (action, reason, remedy) in [
                (REFUSED, REFUSED_REASON, REFUSED_REMEDY),
                (UNKNOWN, UNKNOWN_REASON, UNKNOWN_REMEDY),
            ] {
                let child = spawn_filtered(&host, action, command_of("auto"));
                let reflector = Reflector::attach(child);
                assert_eq!(reflector.ready["engine"], "mmsg");
                assert_eq!(reflector.ready["engine_reason"], reason);
                Client::connect(&host, reflector.listen(0)).ask(b"ping");
                let (summary, log) = reflector.stop_with_log();
                assert_eq!(summary["replied"], 1);
                let warning = format!(
                    " WARN io_uring is not available: {reason}; serving with recvmmsg and \
                     sendmmsg; {remedy}\n"
                );
                assert_eq!(log, warning);
            }
        },
    );
}

#[test]
fn uring_ends_where_it_is_refused_and_says_why_and_what_to_do() {
    where_io_uring_is_allowed(
        "uring_ends_where_it_is_refused_and_says_why_and_what_to_do",
        || {
            let host = Namespace::new().unwrap();
            for (action, reason, remedy) in [
                (REFUSED, REFUSED_REASON, REFUSED_REMEDY),
                (UNKNOWN, UNKNOWN_REASON, UNKNOWN_REMEDY),
            ] {
                let child = spawn_filtered(&host, action, command_of("uring"));
                let output = child.wait_with_output().unwrap();
                assert_eq!(output.status.code(), Some(1));
                assert_eq!(text(&output.stdout), "");
                let sentence = format!("ERROR cannot use io_uring: {reason}; {remedy}\n");
                assert_eq!(text(&output.stderr), sentence);
            }
        },
    );
}

/// The program as `ulimit -l` lets it be: 64 KiB of memory that may be locked, which is enough to
/// try a ring out, and not for one of each worker.
fn with_little_locked_memory(host: &Namespace, engine: &str) -> Child {
    let mut command = Command::new("sh");
    command
        .args(["-c", "ulimit -l 64 && exec \"$0\" \"$@\""])
        .arg(program());
    command.args(command_with(engine, "16").get_args());
    command.stdout(Stdio::piped()).stderr(Stdio::piped());
    host.run(|| {
        // Root may lock what it likes, unless it has lost the capability.
        remove_capability_from_bounding_set(CapabilitySet::IPC_LOCK).unwrap();
        command.spawn().unwrap()
    })
}

#[test]
fn auto_falls_back_to_mmsg_where_a_worker_finds_no_memory_for_its_ring() {
    where_io_uring_is_allowed(
        "auto_falls_back_to_mmsg_where_a_worker_finds_no_memory_for_its_ring",
        || {
            let host = Namespace::new().unwrap();
            let reflector = Reflector::attach(with_little_locked_memory(&host, "auto"));
            let reason = "the limit on locked memory is too low for a ring (ENOMEM)";
            assert_eq!(reflector.ready["engine"], "mmsg");
            assert_eq!(reflector.ready["engine_reason"], reason);
            // Of those that had one.
            wait_until("the rings are gone", || reflector.rings() == 0);
            for _ in 0..100 {
                Client::connect(&host, reflector.listen(0)).ask(b"ping");
            }
            let (summary, log) = reflector.stop_with_log();
            assert_eq!(summary["replied"], 100);
            assert!(
                log.contains(&format!(" WARN io_uring is not available: {reason}; ")),
                "{log}"
            );
        },
    );
}

#[test]
fn uring_ends_where_a_worker_finds_no_memory_for_its_ring() {
    where_io_uring_is_allowed(
        "uring_ends_where_a_worker_finds_no_memory_for_its_ring",
        || {
            let host = Namespace::new().unwrap();
            let output = with_little_locked_memory(&host, "uring")
                .wait_with_output()
                .unwrap();
            assert_eq!(output.status.code(), Some(1));
            assert_eq!(text(&output.stdout), "");
            let said = text(&output.stderr);
            assert!(said.contains("ERROR cannot start worker "), "{said}");
            assert!(said.contains("Cannot allocate memory"), "{said}");
        },
    );
}

/// A socket that cannot be received from is not served: nobody is told that it is.
#[test]
fn mmsg_is_not_ready_where_receiving_is_refused() {
    in_namespaces("mmsg_is_not_ready_where_receiving_is_refused", || {
        let host = Namespace::new().unwrap();
        let refused = SeccompAction::Errno(libc::EACCES as u32);
        let child = spawn_without(&host, &[libc::SYS_recvmmsg], refused, command_of("mmsg"));
        let output = child.wait_with_output().unwrap();
        assert_eq!(output.status.code(), Some(1));
        assert_eq!(text(&output.stdout), "");
        let said = text(&output.stderr);
        let sentence = "cannot be received from: Permission denied (os error 13) (EACCES)";
        assert!(
            said.starts_with("ERROR cannot start worker ") && said.contains(sentence),
            "{said}"
        );
    });
}

/// A thread that a filter ends is never heard of again; it does not count as finished either.
#[test]
fn auto_falls_back_to_mmsg_where_io_uring_ends_the_thread() {
    where_io_uring_is_allowed(
        "auto_falls_back_to_mmsg_where_io_uring_ends_the_thread",
        || {
            let host = Namespace::new().unwrap();
            let deadly = SeccompAction::KillThread;
            let child = spawn_filtered(&host, deadly, command_of("auto"));
            let reflector = Reflector::attach(child);
            assert_eq!(reflector.ready["engine"], "mmsg");
            Client::connect(&host, reflector.listen(0)).ask(b"ping");
            let (summary, log) = reflector.stop_with_log();
            assert_eq!(summary["replied"], 1);
            assert!(
                log.contains("a seccomp profile ends whoever calls it"),
                "{log}"
            );
        },
    );
}

/// The process would live on without it, and its share of the peers be unheard.
#[test]
fn a_worker_whose_thread_a_filter_ends_ends_the_process() {
    in_namespaces(
        "a_worker_whose_thread_a_filter_ends_ends_the_process",
        || {
            let host = Namespace::new().unwrap();
            // Not the call of the proof at the start, which sends nothing.
            let sends = SeccompCondition::new(2, SeccompCmpArgLen::Dword, SeccompCmpOp::Ge, 1);
            let sends = SeccompRule::new(vec![sends.expect("an argument that there is")]);
            let rule = (libc::SYS_sendmmsg, vec![sends.expect("it has a condition")]);
            let deadly = SeccompAction::KillThread;
            let child = spawn_under(&host, [rule], deadly, command_of("mmsg"));
            let reflector = Reflector::attach(child);
            let client = Client::connect(&host, reflector.listen(0));
            client.send(b"ping");
            let (summary, log, status) = reflector.wait();
            assert_eq!(status.code(), Some(1), "{log}");
            assert!(
                log.contains("does not answer: its thread was killed"),
                "{log}"
            );
            assert_eq!(summary["type"], "summary");
        },
    );
}

on_both_engines! {
    fn it_is_not_ready_where_a_call_that_it_needs_is_refused(engine: Engine) {
        let host = Namespace::new().unwrap();
        for (call, name) in [(libc::SYS_sendmmsg, "sendmmsg"), (libc::SYS_sendmsg, "sendmsg")] {
            let child = spawn_without(&host, &[call], REFUSED, command_of(engine.name()));
            let output = child.wait_with_output().unwrap();
            assert_eq!(output.status.code(), Some(1));
            assert_eq!(text(&output.stdout), "");
            let said = text(&output.stderr);
            assert!(said.starts_with("ERROR cannot start worker "), "{said}");
            assert!(said.contains(&format!("may not call {name}, ")), "{said}");
            assert!(said.contains("(EPERM)"), "{said}");
        }
    }

    /// Alarms fire at it: a wait by io_uring_enter(2) counts as one for I/O unless asked otherwise.
    fn an_idle_worker_does_not_wait_for_io(engine: Engine) {
        if !does_without_iowait() {
            let reason = "waits for no I/O are new in Linux 6.15";
            return skip("an_idle_worker_does_not_wait_for_io", "no-iowait", reason);
        }
        let host = Namespace::new().unwrap();
        let reflector = start_idle(&host, engine);
        let does_nobody_wait = || {
            let stat = fs::read_to_string("/proc/stat").unwrap();
            stat.lines().any(|line| line == "procs_blocked 0")
        };
        // Others may wait for a disk, but not all the time; a worker is awake for a moment only.
        wait_until("nobody waits for I/O", || {
            (0..5).all(|_| {
                thread::sleep(Duration::from_millis(2));
                does_nobody_wait()
            })
        });
        reflector.stop();
    }

    fn there_is_a_ring_for_each_worker_of_uring_and_none_of_mmsg(engine: Engine) {
        let host = Namespace::new().unwrap();
        let reflector = start_idle(&host, engine);
        Client::connect(&host, reflector.listen(0)).ask(b"ping");
        let expected = match engine {
            Engine::Uring => 2,
            Engine::Mmsg => 0,
        };
        assert_eq!(reflector.rings(), expected);
        reflector.stop();
    }
}

fn start_idle(host: &Namespace, engine: Engine) -> Reflector {
    Reflector::start(host, engine, &["--listen", "127.0.0.1:0", "--cores", "2"])
}

/// Whether this kernel is Linux 6.15 or newer.
fn does_without_iowait() -> bool {
    let uname = rustix::system::uname();
    let release = uname.release().to_string_lossy().into_owned();
    let mut numbers = release
        .split(['.', '-'])
        .map_while(|it| it.parse::<u32>().ok());
    (numbers.next(), numbers.next()) >= (Some(6), Some(15))
}

#[test]
fn auto_takes_io_uring_where_it_is_allowed() {
    where_io_uring_is_allowed("auto_takes_io_uring_where_it_is_allowed", || {
        let host = Namespace::new().unwrap();
        let child = host.run(|| command_of("auto").spawn()).unwrap();
        let reflector = Reflector::attach(child);
        assert_eq!(reflector.ready["engine"], "uring");
        assert_eq!(reflector.ready["engine_reason"], serde_json::Value::Null);
        // Those of the workers: that of the probe has gone.
        assert_eq!(reflector.rings(), 2);
        let (_, log) = reflector.stop_with_log();
        assert_eq!(log, "");
    });
}
