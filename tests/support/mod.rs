//! What the tests of the program share: the program under test, started in a namespace, and the
//! macro that runs a test on each engine.

#![allow(dead_code, reason = "each test program uses its own part of this")]

pub mod asking;
pub mod frames;
pub mod in_process;
pub mod queue;
pub mod random;
pub mod raw;
pub mod train;
pub mod wire;

use std::fs;
use std::io::{BufRead, BufReader, Read};
use std::net::{SocketAddr, UdpSocket};
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::sync::OnceLock;
use std::sync::mpsc::{Receiver, channel};
use std::thread;
use std::time::Duration;

use reflector::probe::{self, Abilities, Blocker};
use reflector_netlab::topology::{Namespace, skip};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

/// Longer than anything here takes, also on a busy machine.
pub const PATIENCE: Duration = Duration::from_secs(20);

/// The engine that a test runs on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Engine {
    Uring,
    Mmsg,
}

impl Engine {
    pub fn name(self) -> &'static str {
        match self {
            Self::Uring => "uring",
            Self::Mmsg => "mmsg",
        }
    }

    /// Whether it can be had; a test that cannot have it says so, or fails where it is required.
    pub fn is_available(self, test_name: &str) -> bool {
        match (self, io_uring()) {
            (Self::Uring, Err(blocker)) => {
                skip(test_name, "uring", &blocker.what);
                false
            }
            _ => true,
        }
    }
}

/// Whether io_uring can be had, tried once.
pub fn io_uring() -> &'static Result<Abilities, Blocker> {
    static PROBED: OnceLock<Result<Abilities, Blocker>> = OnceLock::new();
    PROBED.get_or_init(probe::probe)
}

/// Makes two tests of each function, one for each engine, inside namespaces.
///
/// ```ignore
/// on_both_engines! {
///     fn replies_come_from_the_address_asked(engine: Engine) { … }
/// }
/// ```
#[macro_export]
macro_rules! on_both_engines {
    ($($(#[$meta:meta])* fn $name:ident($engine:ident: Engine) $body:block)*) => {$(
        $(#[$meta])*
        mod $name {
            #[allow(unused_imports, reason = "not every test needs what its file imports")]
            use super::*;

            fn body($engine: $crate::support::Engine) $body

            fn run(engine: $crate::support::Engine) {
                let name = format!("{}::{}", stringify!($name), engine.name());
                if engine.is_available(&name) {
                    reflector_netlab::topology::in_namespaces(&name, || body(engine));
                }
            }

            #[test]
            fn uring() {
                run($crate::support::Engine::Uring);
            }

            #[test]
            fn mmsg() {
                run($crate::support::Engine::Mmsg);
            }
        }
    )*};
}

/// The program under test, listening. Killed when dropped.
pub struct Reflector {
    child: Child,
    lines: Receiver<Value>,
    /// The `ready` object.
    pub ready: Value,
    stderr: Option<thread::JoinHandle<String>>,
}

/// The program's command with `args`, not started; environment options of the caller left out.
pub fn command(args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_reflector"));
    for (name, _) in std::env::vars_os() {
        if name.to_string_lossy().starts_with("REFLECTOR_") {
            command.env_remove(name);
        }
    }
    command
        .args(args)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    command
}

/// Runs the program with `args` in `namespace` to its end, which comes by itself even where it
/// should have refused to start.
pub fn run_to_end(namespace: &Namespace, args: &[&str]) -> Output {
    to_end(namespace, command(args))
}

/// The same, of a command with more to it than arguments.
pub fn to_end(namespace: &Namespace, mut command: Command) -> Output {
    if command
        .get_envs()
        .all(|(name, _)| name != "REFLECTOR_DURATION")
    {
        command.env("REFLECTOR_DURATION", "3s");
    }
    namespace
        .run(|| command.output())
        .expect("the program starts")
}

/// What a program wrote, as text.
pub fn text(bytes: &[u8]) -> &str {
    std::str::from_utf8(bytes).expect("the program writes UTF-8")
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
                let value: Value =
                    serde_json::from_str(&line).expect("every line is a JSON object");
                if sender.send(value).is_err() {
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

    pub fn signal(&self, signal: Signal) {
        let pid = Pid::from_raw(self.child.id() as i32).expect("a child has a process id");
        kill_process(pid, signal).expect("the child is ours");
    }

    /// The next object that it reports.
    pub fn next_report(&self) -> Value {
        self.lines.recv_timeout(PATIENCE).expect("a report comes")
    }

    /// Ends it by SIGTERM; returns the summary, whose books must close.
    pub fn stop(self) -> Value {
        self.stop_with_log().0
    }

    /// The same, and what it wrote to stderr.
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
            assert_books_close(&last);
        }
        (last, log, status)
    }
}

/// A client connected to the address that it asks, so that an answer from any other is no answer.
pub struct Client(UdpSocket);

impl Client {
    /// A client in `namespace`, by a fresh port.
    pub fn connect(namespace: &Namespace, asked: SocketAddr) -> Self {
        Self::connect_from(namespace, SocketAddr::new(asked.ip(), 0), asked)
    }

    /// The same, from an address of its own.
    pub fn connect_from(namespace: &Namespace, source: SocketAddr, asked: SocketAddr) -> Self {
        let socket = namespace
            .run(|| UdpSocket::bind(source))
            .expect("the namespace has the address");
        socket.connect(asked).expect("there is a route");
        socket
            .set_read_timeout(Some(PATIENCE))
            .expect("it is not zero");
        Self(socket)
    }

    pub fn send(&self, payload: &[u8]) {
        self.0.send(payload).expect("the kernel takes a datagram");
    }

    /// Waits for an answer, which must be `payload`.
    pub fn expect(&self, payload: &[u8]) {
        let mut bytes = [0; 2048];
        let len = self.0.recv(&mut bytes).expect("an answer comes");
        assert_eq!(&bytes[..len], payload);
    }

    pub fn ask(&self, payload: &[u8]) {
        self.send(payload);
        self.expect(payload);
    }
}

impl Drop for Reflector {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// `received = replied + Σ dropped + Σ send_errors`, since nothing is in flight at the end.
pub fn assert_books_close(summary: &Value) {
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
}
