//! Signals, and the end after a duration.

use std::fs;
use std::net::UdpSocket;
use std::os::unix::process::ExitStatusExt;
use std::process::{Command, Stdio};
use std::time::Duration;

use reflector_netlab::topology::Namespace;
use reflector_testkit::queue::stop;
use reflector_testkit::{Client, Engine, Reflector, on_both_engines, program, wait_until};
use rustix::process::{Pid, Signal, kill_process};

use super::FAILED;

/// Datagrams that take some tens of milliseconds to answer, and fit a receive buffer.
const QUEUED: usize = 8000;

on_both_engines! {
    fn sigint_and_sighup_end_it_as_sigterm_does(engine: Engine) {
        let host = Namespace::new().unwrap();
        for signal in [Signal::INT, Signal::HUP, Signal::XCPU] {
            let reflector = Reflector::start(&host, engine, &["--listen", "127.0.0.1:0"]);
            Client::connect(&host, reflector.listen(0)).ask(b"ping");
            reflector.signal(signal);
            let (summary, _, status) = reflector.wait();
            assert_eq!(status.code(), Some(0), "{signal:?}");
            assert_eq!(summary["type"], "summary");
            assert_eq!(summary["replied"], 1);
        }
    }

    fn with_a_delay_it_goes_on_after_the_first_signal_and_drains_at_the_second(engine: Engine) {
        let host = Namespace::new().unwrap();
        let args = ["--listen", "127.0.0.1:0", "--drain-delay", "1h", "--interval", "10ms"];
        let reflector = Reflector::start(&host, engine, &args);
        let client = Client::connect(&host, reflector.listen(0));
        client.ask(b"before");
        reflector.signal(Signal::TERM);
        for _ in 0..3 {
            // Reports go on as well.
            client.ask(b"after");
            reflector.wait_for_report("an answer", |it| it["replied"] != 0);
        }
        reflector.signal(Signal::TERM);
        let (summary, log, status) = reflector.wait();
        assert_eq!(status.code(), Some(0), "{log}");
        assert_eq!(summary["replied"], 4);
        assert!(log.contains(" INFO stopping in 3600s; a second signal or stop does it now\n"));
    }

    fn a_delay_that_is_over_ends_in_order(engine: Engine) {
        let host = Namespace::new().unwrap();
        let args = ["--listen", "127.0.0.1:0", "--drain-delay", "20ms"];
        let reflector = Reflector::start(&host, engine, &args);
        Client::connect(&host, reflector.listen(0)).ask(b"ping");
        reflector.signal(Signal::TERM);
        let (summary, _, status) = reflector.wait();
        assert_eq!(status.code(), Some(0));
        assert_eq!(summary["replied"], 1);
    }

    fn a_signal_that_means_nothing_to_it_does_not_end_it(engine: Engine) {
        let host = Namespace::new().unwrap();
        let reflector = Reflector::start(&host, engine, &["--listen", "127.0.0.1:0"]);
        let client = Client::connect(&host, reflector.listen(0));
        let signals = [
            Signal::USR1,
            Signal::USR2,
            Signal::ALARM,
            Signal::VTALARM,
            Signal::PROF,
            Signal::IO,
            Signal::STKFLT,
            Signal::POWER,
            Signal::XFSZ,
        ];
        for signal in signals {
            reflector.signal(signal);
            client.ask(b"still there");
        }
        let summary = reflector.stop();
        assert_eq!(summary["replied"], signals.len());
    }

    /// As nohup(1) starts it: the terminal goes, the server stays.
    fn what_was_started_to_ignore_sighup_goes_on_after_it(engine: Engine) {
        let host = Namespace::new().unwrap();
        let mut command = Command::new("sh");
        command.args(["-c", "trap '' HUP; exec \"$0\" \"$@\""]).arg(program());
        command.args(["--json", "--listen", "127.0.0.1:0", "--engine", engine.name()]);
        command.stdout(Stdio::piped()).stderr(Stdio::piped());
        command.env_remove("REFLECTOR_REQUIRE");
        let reflector = Reflector::attach(host.run(|| command.spawn()).unwrap());
        reflector.signal(Signal::HUP);
        Client::connect(&host, reflector.listen(0)).ask(b"still there");
        assert_eq!(reflector.stop()["replied"], 1);
    }

    fn a_second_signal_ends_a_drain_at_once(engine: Engine) {
        let host = Namespace::new().unwrap();
        let args = ["--listen", "127.0.0.1:0", "--cores", "1"];
        let reflector = Reflector::start(&host, engine, &args);
        let client = Client::connect(&host, reflector.listen(0));
        // A drain that is longer than the way of a signal.
        stop(&reflector);
        (0..QUEUED).for_each(|_| client.send(b"ping"));
        // Two of a kind could become one.
        reflector.signal(Signal::TERM);
        reflector.signal(Signal::INT);
        reflector.signal(Signal::CONT);
        let (_, log, status) = reflector.wait();
        assert_eq!(status.code(), Some(FAILED));
        assert_eq!(log, "ERROR the drain was cut short: stopped a second time\n");
    }

    fn it_ends_by_itself_after_its_duration(engine: Engine) {
        let host = Namespace::new().unwrap();
        let args = ["--listen", "127.0.0.1:0", "--duration", "30ms"];
        let reflector = Reflector::start(&host, engine, &args);
        let (summary, log, status) = reflector.wait();
        assert_eq!((status.code(), status.signal()), (Some(0), None));
        assert!(summary["seconds"].as_f64().unwrap() >= 0.03);
        assert_eq!(log, "");
    }

    /// As in a container: there the kernel leaves out signals that nobody handles.
    fn as_process_1_it_serves_and_ends_in_order(engine: Engine) {
        let host = Namespace::new().unwrap();
        let script = "unshare --pid --fork --kill-child \"$0\" \"$@\"";
        let mut command = started_by("sh", &["-c", script], engine);
        let child = host.run(|| command.spawn()).unwrap();
        let client = Asking::new(&host);
        wait_until("it answers", || client.is_answered());
        // The shell, unshare, and what is process 1 inside.
        let inner = children(children(child.id())[0])[0];
        kill_process(Pid::from_raw(inner as i32).unwrap(), Signal::TERM).unwrap();
        assert_eq!(child.wait_with_output().unwrap().status.code(), Some(0));
    }
}

/// The command of the program, started by another one, so that it ends by itself.
fn started_by(starter: &str, args: &[&str], engine: Engine) -> Command {
    let mut command = Command::new(starter);
    command.args(args).arg(program());
    command.args([
        "--listen",
        "127.0.0.1:5151",
        "--duration",
        "20s",
        "--engine",
        engine.name(),
    ]);
    command.stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

/// The processes that `process` has started (proc_pid_task_children(5)).
fn children(process: u32) -> Vec<u32> {
    let path = format!("/proc/{process}/task/{process}/children");
    let text = fs::read_to_string(path).unwrap();
    text.split_whitespace()
        .map(|it| it.parse().unwrap())
        .collect()
}

/// A client of what does not say when it is ready.
struct Asking(UdpSocket);

impl Asking {
    fn new(host: &Namespace) -> Self {
        let socket = host.run(|| UdpSocket::bind("127.0.0.1:0")).unwrap();
        socket
            .set_read_timeout(Some(Duration::from_millis(20)))
            .unwrap();
        Self(socket)
    }

    fn is_answered(&self) -> bool {
        let asked = self.0.send_to(b"ping", "127.0.0.1:5151");
        asked.is_ok() && self.0.recv(&mut [0; 8]).is_ok()
    }
}
