//! Programs that people have, in the container, ask the host's other address: the reflector's
//! answer reaches them, the naive server's does not.

use std::env;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{IpAddr, SocketAddr};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

use reflector_netlab::naive::Wildcard;
use reflector_netlab::topology::{DockerHost, Namespace, skip};
use reflector_testkit::asking::{beside_naive_server, no_ports, watch_packets};
use reflector_testkit::{Engine, LISTEN, PORT, Reflector, on_both_engines, wait_until};

/// The host's other addresses, and the ones that the naive server answers from.
const ASKED: [(IpAddr, IpAddr); 2] = [
    (
        IpAddr::V4(DockerHost::HOST),
        IpAddr::V4(DockerHost::DOCKER0),
    ),
    (
        IpAddr::V6(DockerHost::HOST_V6),
        IpAddr::V6(DockerHost::DOCKER0_V6),
    ),
];

on_both_engines! {
    fn socat_gets_its_answer(engine: Engine) {
        if is_installed("socat_gets_its_answer", "socat") {
            prove_for_a_talker(engine, |asked| {
                let family = if asked.is_ipv4() { "UDP4" } else { "UDP6" };
                let mut socat = Command::new("socat");
                // Gives up after 20 s without a datagram, and at the end of its input at once.
                socat.args(["-T20", "-t0", "-", &format!("{family}:{asked}")]);
                socat
            });
        }
    }

    fn nc_gets_its_answer(engine: Engine) {
        if is_installed("nc_gets_its_answer", "nc") {
            prove_for_a_talker(engine, |asked| {
                let mut nc = Command::new("nc");
                let (ip, port) = (asked.ip().to_string(), asked.port().to_string());
                nc.args(["-u", "-w20", "-q0", &ip, &port]);
                nc
            });
        }
    }

    /// It looks at the wire itself, and prints whom an answer came from.
    fn nping_sees_the_answer_come_from_the_address_asked(engine: Engine) {
        if !is_installed("nping_sees_the_answer", "nping") {
            return;
        }
        let docker = DockerHost::new().unwrap();
        let right = format!("UDP {}:{PORT} > ", DockerHost::HOST);
        let is_right = |line: &String| line.contains(&right);
        let answers = beside_naive_server(&docker.host, Wildcard::Ipv4, PORT, || {
            nping(&docker.container)
        });
        assert!(!answers.iter().any(is_right), "{answers:?}");
        let reflector = Reflector::start(&docker.host, engine, LISTEN);
        let answers = nping(&docker.container);
        assert!(!answers.is_empty(), "no answer");
        assert!(answers.iter().all(is_right), "{answers:?}");
        assert_eq!(reflector.stop()["replied"], answers.len());
    }
}

/// What nping in `namespace` says of the UDP datagrams it got after asking the host once.
fn nping(namespace: &Namespace) -> Vec<String> {
    let asked = DockerHost::HOST.to_string();
    // From port 53, which is its default.
    let arguments = "--udp --dest-port 5151 --count 1 --data-string ping";
    let mut nping = Command::new("nping");
    nping.args(arguments.split(' ')).arg(&asked);
    let output = namespace.run(|| nping.output()).unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(text.contains("SENT"), "{output:?}");
    let answers = text
        .lines()
        .filter(|line| line.starts_with("RCVD") && line.contains(" UDP "));
    answers.map(str::to_owned).collect()
}

/// A program that sends its input as a datagram and prints what comes back asks both families of
/// the naive server, in vain, and of the reflector.
fn prove_for_a_talker(engine: Engine, command: impl Fn(SocketAddr) -> Command) {
    let docker = DockerHost::new().unwrap();
    for (asked, naive) in ASKED {
        let command = || command(SocketAddr::new(asked, PORT));
        let (said, sources) = sources_of_replies(&docker, || {
            beside_naive_server(&docker.host, Wildcard::DualStack, PORT, || {
                let before = no_ports(&docker.container, asked);
                let talker = Talker::start(&docker.container, command());
                wait_until("the container has no such port", || {
                    no_ports(&docker.container, asked) > before
                });
                talker.end()
            })
        });
        assert_eq!((said.as_str(), sources), ("", vec![naive]));

        let reflector = Reflector::start(&docker.host, engine, LISTEN);
        let (said, sources) = sources_of_replies(&docker, || {
            let mut talker = Talker::start(&docker.container, command());
            let line = talker.next_line();
            line + &talker.end()
        });
        assert_eq!((said.as_str(), sources), ("ping\n", vec![asked]));
        assert_eq!(reflector.stop()["replied"], 1);
    }
}

/// What `body` returns, and whom the replies on the wire came from meanwhile.
fn sources_of_replies<T>(docker: &DockerHost, body: impl FnOnce() -> T) -> (T, Vec<IpAddr>) {
    let (result, packets) = watch_packets(&docker.host, "docker0", body);
    let replies = packets.iter().map(|packet| packet.source);
    let replies = replies.filter(|source| source.port() == PORT);
    (result, replies.map(|source| source.ip()).collect())
}

/// A program that has sent `ping` and may print an answer. Killed when dropped.
struct Talker {
    child: Child,
    stdin: Option<ChildStdin>,
    stdout: BufReader<ChildStdout>,
}

impl Talker {
    fn start(namespace: &Namespace, mut command: Command) -> Self {
        command.stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = namespace.run(|| command.spawn()).unwrap();
        let mut stdin = child.stdin.take().unwrap();
        stdin.write_all(b"ping\n").unwrap();
        Self {
            stdin: Some(stdin),
            stdout: BufReader::new(child.stdout.take().unwrap()),
            child,
        }
    }

    /// What it prints next; nothing when it has given up.
    fn next_line(&mut self) -> String {
        let mut line = String::new();
        self.stdout.read_line(&mut line).unwrap();
        line
    }

    /// Ends its input, and so the program: what it still had to print.
    fn end(mut self) -> String {
        drop(self.stdin.take());
        let mut rest = String::new();
        self.stdout.read_to_string(&mut rest).unwrap();
        rest
    }
}

impl Drop for Talker {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Whether `program` is there; a test that is without it says so, or fails where `clients` are
/// required.
fn is_installed(test_name: &str, program: &str) -> bool {
    let path = env::var_os("PATH").unwrap_or_default();
    let is_there = env::split_paths(&path).any(|folder| folder.join(program).is_file());
    if !is_there {
        let reason = format!("the program {program} is missing; install it, Debian has a package");
        skip(test_name, "clients", &reason);
    }
    is_there
}
