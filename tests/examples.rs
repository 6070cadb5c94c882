//! Each example, run once as its first lines say, does what they promise; the one of the README is
//! compiled.

use std::env;
use std::fs;
use std::io::{BufRead, BufReader, Read};
use std::net::{SocketAddr, UdpSocket};
use std::path::Path;
use std::process::{Child, ChildStdout, Command, ExitStatus, Stdio};

use reflector_netlab::topology::{DockerHost, Namespace, in_namespaces};
use reflector_testkit::PATIENCE;
use rustix::process::{Pid, Signal, kill_process};

/// The program of an example, which cargo builds beside the tests.
fn example(name: &str) -> Command {
    let test = env::current_exe().expect("a test has a path");
    let profile = test.ancestors().nth(2).expect("PROFILE/deps/TEST");
    let path = profile.join("examples").join(name);
    assert!(
        path.exists(),
        "{} is not there; cargo build --examples makes it",
        path.display()
    );
    Command::new(path)
}

/// A server among the examples. Killed when dropped.
struct Server {
    child: Child,
    stdout: BufReader<ChildStdout>,
    listen: SocketAddr,
}

impl Server {
    /// Starts example `name` on `listen` in `namespace`, and waits until it says, after `before`,
    /// where it listens.
    fn start(namespace: &Namespace, name: &str, listen: &str, before: &str) -> Self {
        let mut command = example(name);
        command.arg(listen).stdout(Stdio::piped());
        Self::attach(
            namespace.run(|| command.spawn()).expect("it starts"),
            before,
        )
    }

    /// Waits until `child`, whose stdout is a pipe, says where it listens, after `before`.
    fn attach(mut child: Child, before: &str) -> Self {
        let stdout = child.stdout.take().expect("stdout is a pipe");
        let mut server = Self {
            child,
            stdout: BufReader::new(stdout),
            listen: SocketAddr::from(([0; 4], 0)),
        };
        let line = server.line();
        let rest = line.strip_prefix(before).expect(&line);
        let addr = rest.split(": ").next().expect("a first part");
        server.listen = addr.parse().expect(&line);
        server
    }

    /// The next line that it prints.
    fn line(&mut self) -> String {
        let mut line = String::new();
        self.stdout.read_line(&mut line).expect("it writes UTF-8");
        line.trim_end().to_owned()
    }

    /// Presses Ctrl-C; returns the last line and the status.
    fn interrupt(mut self) -> (String, ExitStatus) {
        let pid = Pid::from_child(&self.child);
        kill_process(pid, Signal::INT).expect("the child is ours");
        let lines: Result<Vec<String>, _> = self.stdout.by_ref().lines().collect();
        let mut lines = lines.expect("it writes UTF-8");
        let status = self.child.wait().expect("the child is ours");
        (lines.pop().expect("a line"), status)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// What `ask` says in the container, of the host's address that its kernel would not answer from.
fn ask_from_container(docker: &DockerHost, port: u16) -> (String, Option<i32>) {
    let mut command = example("ask");
    command.arg(format!("{}:{port}", DockerHost::HOST));
    let output = docker.container.run(|| command.output());
    let output = output.expect("it starts");
    let said = String::from_utf8(output.stdout).expect("it writes UTF-8");
    (said.trim_end().to_owned(), output.status.code())
}

#[test]
fn echo_answers_from_the_address_asked_and_says_how_many() {
    in_namespaces(
        "echo_answers_from_the_address_asked_and_says_how_many",
        || {
            let docker = DockerHost::new().expect("namespaces are allowed");
            let echo = Server::start(&docker.host, "echo", "0.0.0.0:0", "ready on ");
            let port = echo.listen.port();
            let said = format!("answer from {}:{port}, connected or not", DockerHost::HOST);
            assert_eq!(ask_from_container(&docker, port), (said, Some(0)));
            let (last, status) = echo.interrupt();
            assert!(status.success(), "{status}");
            let said = "ended: 2 received, 2 replied, residence time p99 ";
            assert!(last.starts_with(said), "{last}");
        },
    );
}

#[test]
fn naive_echo_answers_from_another_address_which_only_an_unconnected_socket_hears() {
    in_namespaces(
        "naive_echo_answers_from_another_address_which_only_an_unconnected_socket_hears",
        || {
            let docker = DockerHost::new().expect("namespaces are allowed");
            let echo = Server::start(&docker.host, "naive_echo", "0.0.0.0:0", "listening on ");
            let port = echo.listen.port();
            let said = format!(
                "connected: silence, refused here by ICMP; unconnected: answer from {}:{port}",
                DockerHost::DOCKER0
            );
            assert_eq!(ask_from_container(&docker, port), (said, Some(4)));
        },
    );
}

#[test]
fn slow_echo_answers_and_says_how_slow_it_is() {
    in_namespaces("slow_echo_answers_and_says_how_slow_it_is", || {
        let namespace = Namespace::new().expect("namespaces are allowed");
        let mut command = example("slow_echo");
        command.args(["127.0.0.1:0", "2000"]).stdout(Stdio::piped());
        let child = namespace.run(|| command.spawn()).expect("it starts");
        let server = Server::attach(child, "ready on ");
        let peer = namespace.run(|| UdpSocket::bind("127.0.0.1:0"));
        let peer = peer.expect("the namespace has the address");
        peer.connect(server.listen).expect("there is a route");
        peer.set_read_timeout(Some(PATIENCE)).expect("not zero");
        peer.send(b"slow").expect("there is a route");
        let mut answer = [0; 8];
        assert_eq!(peer.recv(&mut answer).expect("an answer comes"), 4);
    });
}

#[test]
fn responder_tells_the_peer_its_address_and_when_the_question_came() {
    in_namespaces(
        "responder_tells_the_peer_its_address_and_when_the_question_came",
        || {
            let namespace = Namespace::new().expect("namespaces are allowed");
            let server = Server::start(&namespace, "responder", "127.0.0.1:0", "ready on ");
            let peer = namespace.run(|| UdpSocket::bind("127.0.0.1:0"));
            let peer = peer.expect("the namespace has the address");
            peer.connect(server.listen).expect("there is a route");
            peer.set_read_timeout(Some(PATIENCE)).expect("not zero");
            // The first has no room for its answer; the second is answered alone.
            for question in ["who am I?".to_owned(), " ".repeat(192)] {
                peer.send(question.as_bytes()).expect("there is a route");
            }
            let mut answer = [0; 192];
            let len = peer.recv(&mut answer).expect("an answer comes");
            let answer = std::str::from_utf8(&answer[..len]).expect("it answers in UTF-8");
            let own = peer.local_addr().expect("it is bound");
            let before = format!("{own} asked {} at ", server.listen);
            let rest = answer.strip_prefix(&before).expect(answer);
            let time = rest.strip_suffix(", 64 hops left\n").expect(answer);
            let seconds: f64 = time.parse().expect(answer);
            assert!(seconds > 1.7e9, "{answer}");
        },
    );
}

/// The code between two lines of `text`, without what begins each of its lines.
fn code(text: &str, from: &str, to: &str, begin: &str) -> Vec<String> {
    text.lines()
        .skip_while(|line| *line != from)
        .skip(1)
        .take_while(|line| *line != to)
        .map(|line| line.strip_prefix(begin).expect(line).trim().to_owned())
        .collect()
}

#[test]
fn the_readme_shows_the_library_as_its_page_does_where_it_is_compiled() {
    let read = |path| fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(path)).unwrap();
    let mut compiled = code(&read("src/lib.rs"), "//! ```no_run", "//! ```", "//!");
    // What rustdoc compiles and does not show.
    compiled.retain(|line| !line.starts_with('#'));
    assert!(!compiled.is_empty(), "the page has an example");
    let shown = code(&read("README.md"), "```rust,no_run", "```", "");
    assert_eq!(shown, compiled);
}
