//! `reflector diagnose` against right, wrong, silent and absent servers, in namespaces; with NAT
//! and filters on the way; and without a target.

mod causes;
mod filters;
mod flows;
mod machine;

use std::fs;
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::process::Output;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use reflector_measure::json::SCHEMA;
use reflector_netlab::naive::{NaiveServer, Wildcard};
use reflector_netlab::topology::{DockerHost, Namespace, in_namespaces};
use reflector_testkit::{LISTEN, PORT, Reflector, at, command, document, on_both_engines};
use serde_json::Value;

/// For questions that are answered: long, since an answer ends the wait.
const PATIENT: [&str; 4] = ["--tries", "1", "--timeout", "10s"];
/// For connected sockets that never get the answer: they wait it out.
const BRIEF: [&str; 4] = ["--tries", "1", "--timeout", "1s"];
/// For what stays silent, however long one waits.
const SHORT: [&str; 4] = ["--tries", "2", "--timeout", "200ms"];

fn run(namespace: &Namespace, args: &[&str]) -> Output {
    let all: Vec<_> = [&["diagnose"], args].concat();
    namespace
        .run(|| command(&all).output())
        .expect("the program starts")
}

/// The exit code and the JSON object of a diagnosis.
fn diagnose(namespace: &Namespace, args: &[&str]) -> (i32, Value) {
    let output = run(namespace, &[args, &["--json"]].concat());
    let stdout = String::from_utf8(output.stdout).unwrap();
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert_eq!(stdout.lines().count(), 1, "{stderr}");
    let object = document("diagnose", &stdout);
    assert_eq!(object["schema"], SCHEMA);
    (output.status.code().unwrap(), object)
}

/// The same for a target, with `options` before it.
fn ask(namespace: &Namespace, target: impl Into<IpAddr>, options: &[&str]) -> (i32, Value) {
    let target = SocketAddr::new(target.into(), PORT).to_string();
    let (exit, object) = diagnose(namespace, &[options, &[&target]].concat());
    assert_eq!(object["type"], "diagnosis");
    assert_eq!(object["asked"], target.as_str());
    (exit, object)
}

fn kinds(object: &Value) -> Vec<&str> {
    let findings = object["findings"].as_array().unwrap();
    findings
        .iter()
        .map(|it| it["kind"].as_str().unwrap())
        .collect()
}

fn outcomes(object: &Value) -> Vec<&str> {
    let attempts = object["attempts"].as_array().unwrap();
    attempts
        .iter()
        .map(|it| it["outcome"].as_str().unwrap())
        .collect()
}

/// A server on `addr` that answers what `respond` makes of a question; it ends when dropped.
struct Responder {
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Responder {
    fn start(
        namespace: &Namespace,
        addr: SocketAddr,
        respond: impl Fn(&[u8]) -> Option<Vec<u8>> + Send + 'static,
    ) -> Self {
        let socket = namespace.run(|| UdpSocket::bind(addr).unwrap());
        socket
            .set_read_timeout(Some(Duration::from_millis(20)))
            .unwrap();
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = Arc::clone(&stop);
        let thread = thread::spawn(move || {
            let mut bytes = [0; 2048];
            while !stopped.load(Ordering::Relaxed) {
                if let Ok((len, peer)) = socket.recv_from(&mut bytes)
                    && let Some(answer) = respond(&bytes[..len])
                {
                    socket.send_to(&answer, peer).unwrap();
                }
            }
        });
        Self {
            stop,
            thread: Some(thread),
        }
    }
}

impl Drop for Responder {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        self.thread.take().unwrap().join().unwrap();
    }
}

on_both_engines! {
    fn the_reflector_answers_from_every_address(engine: Engine) {
        let docker = DockerHost::new().unwrap();
                let reflector = Reflector::start(&docker.host, engine, LISTEN);
        for target in [
            IpAddr::from(DockerHost::HOST),
            DockerHost::DOCKER0.into(),
            DockerHost::HOST_V6.into(),
            DockerHost::DOCKER0_V6.into(),
        ] {
            let (exit, object) = ask(&docker.container, target, &PATIENT);
            assert_eq!((exit, &object["verdict"]), (0, &"answered".into()), "{object}");
            assert_eq!(outcomes(&object), ["answered", "answered"]);
            assert_eq!(object["attempts"][0]["is_expected"], true);
            assert_eq!(object["findings"], serde_json::json!([]));
        }
        reflector.stop();
    }

    fn a_link_local_address_is_asked_by_its_interface(engine: Engine) {
        let docker = DockerHost::new().unwrap();
        let reflector = Reflector::start(&docker.host, engine, &["--listen", "[::]:5151"]);
        let addresses = docker
            .host
            .run(|| fs::read_to_string("/proc/thread-self/net/if_inet6"))
            .unwrap();
        let digits = addresses
            .lines()
            .find(|line| line.starts_with("fe80") && line.ends_with("docker0"))
            .and_then(|line| line.split_whitespace().next())
            .unwrap();
        let groups: Vec<_> = (0..8).map(|i| &digits[4 * i..4 * i + 4]).collect();
        let target = format!("[{}%eth0]:{PORT}", groups.join(":"));
        let (exit, object) = diagnose(&docker.container, &[&PATIENT[..], &[&target]].concat());
        assert_eq!(exit, 0, "{object}");
        assert_eq!(object["route"]["interface"], "eth0");
        reflector.stop();
    }
}

#[test]
fn moby_15127_is_named_and_explained() {
    in_namespaces("moby_15127_is_named_and_explained", || {
        let docker = DockerHost::new().unwrap();
        for (wildcard, asked, seen) in [
            (
                Wildcard::Ipv4,
                IpAddr::from(DockerHost::HOST),
                IpAddr::from(DockerHost::DOCKER0),
            ),
            (
                Wildcard::DualStack,
                DockerHost::HOST.into(),
                DockerHost::DOCKER0.into(),
            ),
            (
                Wildcard::DualStack,
                DockerHost::HOST_V6.into(),
                DockerHost::DOCKER0_V6.into(),
            ),
        ] {
            let _server = NaiveServer::start(&docker.host, wildcard, PORT).unwrap();
            let (exit, object) = ask(&docker.container, asked, &BRIEF);
            assert_eq!(
                (exit, &object["verdict"]),
                (4, &"wrong_source".into()),
                "{object}"
            );
            let seen_at = SocketAddr::new(seen, PORT).to_string();
            assert_eq!(object["seen"], serde_json::json!({&seen_at: 1}));
            assert_eq!(outcomes(&object), ["silent", "answered"]);
            assert_eq!(object["attempts"][1]["from"], seen_at.as_str());
            assert_eq!(object["udp_no_ports"], 1);
            assert_eq!(object["route"]["gateway"], seen.to_string());
            assert_eq!(
                kinds(&object),
                ["gateway", "possible_causes", "connected_socket"]
            );
            let gateway = object["findings"][0]["text"].as_str().unwrap();
            assert!(gateway.contains("docker0"), "{gateway}");
            assert!(gateway.contains(&seen.to_string()) && gateway.contains(&asked.to_string()));
        }
        // Asked at the address that its kernel prefers, it is right by luck.
        let _server = NaiveServer::start(&docker.host, Wildcard::Ipv4, PORT).unwrap();
        assert_eq!(ask(&docker.container, DockerHost::DOCKER0, &PATIENT).0, 0);
    });
}

#[test]
fn people_read_it_in_eighty_columns() {
    in_namespaces("people_read_it_in_eighty_columns", || {
        let docker = DockerHost::new().unwrap();
        let _server = NaiveServer::start(&docker.host, Wildcard::Ipv4, PORT).unwrap();
        let output = run(
            &docker.container,
            &[&BRIEF[..], &["172.16.13.13:5151"]].concat(),
        );
        let text = String::from_utf8(output.stdout).unwrap();
        for part in [
            "172.16.13.13:5151 was asked, and 172.17.0.1:5151 answered instead.\n",
            "from 172.17.0.3 by eth0 through 172.17.0.1.",
            "answered FROM 172.17.0.1:5151 after",
            "docker0's address",
            "  1. See on the host that was asked who has the port",
            "  2. If it is the server: bind the address itself",
            "       reflector --listen 0.0.0.0:5151\n",
            "       conntrack -D -p udp --orig-dst 172.16.13.13 --dport 5151\n",
        ] {
            assert!(text.contains(part), "{part:?} in {text}");
        }
        assert!(
            text.lines().all(|line| line.chars().count() <= 80),
            "{text}"
        );
        assert!(output.stderr.is_empty());
    });
}

#[test]
fn another_address_of_a_neighbour_is_told() {
    in_namespaces("another_address_of_a_neighbour_is_told", || {
        let docker = DockerHost::new().unwrap();
        let _server = NaiveServer::start(&docker.outside, Wildcard::Ipv4, PORT).unwrap();
        let (exit, object) = ask(&docker.host, DockerHost::OUTSIDE_SECOND, &BRIEF);
        assert_eq!(exit, 4, "{object}");
        assert_eq!(
            kinds(&object),
            ["same_network", "possible_causes", "connected_socket"]
        );
    });
}

#[test]
fn a_silent_socket_and_a_closed_port_differ() {
    in_namespaces("a_silent_socket_and_a_closed_port_differ", || {
        let docker = DockerHost::new().unwrap();
        for target in [IpAddr::from(DockerHost::HOST), DockerHost::HOST_V6.into()] {
            let idle = docker.host.run(|| UdpSocket::bind(at(target)).unwrap());
            let (exit, object) = ask(&docker.container, target, &SHORT);
            assert_eq!(
                (exit, &object["verdict"]),
                (3, &"silent".into()),
                "{object}"
            );
            assert_eq!(object["seen_on_interface"], serde_json::json!([]));
            assert_eq!(kinds(&object), ["nothing_seen"]);
            drop(idle);
            let (exit, object) = ask(&docker.container, target, &PATIENT);
            assert_eq!(
                (exit, &object["verdict"]),
                (3, &"refused".into()),
                "{object}"
            );
            assert_eq!(outcomes(&object), ["refused", "refused"]);
            assert_eq!(object["attempts"][0]["by"], target.to_string());
            assert_eq!(kinds(&object), ["refused"]);
        }
    });
}

#[test]
fn a_neighbour_that_is_not_there_is_told() {
    in_namespaces("a_neighbour_that_is_not_there_is_told", || {
        let docker = DockerHost::new().unwrap();
        let (exit, object) = ask(&docker.container, [172, 17, 0, 99], &SHORT);
        assert_eq!(exit, 3, "{object}");
        assert_eq!(kinds(&object), ["neighbour"]);
    });
}

#[test]
fn a_dns_server_is_asked_in_its_own_words() {
    in_namespaces("a_dns_server_is_asked_in_its_own_words", || {
        let docker = DockerHost::new().unwrap();
        let _server = Responder::start(&docker.host, at(DockerHost::HOST), |query| {
            let is_query = query[2] & 0x80 == 0 && query[12..].starts_with(b"\x07example\x03com\0");
            let mut answer = query.to_vec();
            answer[2] |= 0x80;
            is_query.then_some(answer)
        });
        let options = [&PATIENT[..], &["--dns", "example.com"]].concat();
        let (exit, object) = ask(&docker.container, DockerHost::HOST, &options);
        assert_eq!(exit, 0, "{object}");
        assert_eq!(
            (&object["question"], &object["findings"]),
            (&"dns".into(), &serde_json::json!([]))
        );
        assert_eq!(object["attempts"][1]["is_expected"], true);

        // The bug is found in DNS servers as well, and an echo is no DNS server.
        let _server = NaiveServer::start(&docker.host, Wildcard::Ipv4, 5300).unwrap();
        let target = [&BRIEF[..], &["--dns", "example.com", "172.17.0.1:5300"]].concat();
        let (exit, object) = diagnose(&docker.container, &target);
        assert_eq!(
            (exit, kinds(&object)),
            (0, vec!["other_service"]),
            "{object}"
        );
        let target = [&BRIEF[..], &["--dns", "example.com", "172.16.13.13:5300"]].concat();
        assert_eq!(diagnose(&docker.container, &target).0, 4);
    });
}

#[test]
fn any_service_can_be_asked_with_bytes_of_the_users() {
    in_namespaces("any_service_can_be_asked_with_bytes_of_the_users", || {
        let docker = DockerHost::new().unwrap();
        let _server = Responder::start(&docker.host, at(DockerHost::HOST), |question| {
            (question == b"ping").then(|| b"pong".to_vec())
        });
        let options = [&PATIENT[..], &["--payload-hex", "7069 6e67"]].concat();
        let (exit, object) = ask(&docker.container, DockerHost::HOST, &options);
        assert_eq!(
            (exit, &object["question"]),
            (0, &"bytes".into()),
            "{object}"
        );
        assert_eq!(object["findings"], serde_json::json!([]));
    });
}

#[test]
fn bad_input_is_one_sentence_and_an_exit_code() {
    let cases: [(&[&str], i32, &str); 14] = [
        (&["127.0.0.1:"], 2, "not a port"),
        (&["-6", "127.0.0.1"], 2, "has no IPv6 address"),
        (&["-4"], 2, "TARGET"),
        (&["127.0.0.1:0"], 2, "port 0"),
        (&["127.0.0.1:http"], 2, "not a port"),
        (&["::1:53"], 2, "[::1]:53 or [::1:53]:9007"),
        (&["0.0.0.0:53"], 2, "wildcard"),
        (&["[fe80::1]:53"], 2, "needs its interface"),
        (&["127.0.0.1:53", "--payload-hex", "xyz"], 2, "hexadecimal"),
        (&["127.0.0.1:53", "--dns", "a..b"], 2, "label"),
        (&["127.0.0.1:53", "--tries", "0"], 2, "0"),
        (&["127.0.0.1:53", "--timeout", "0s"], 2, "1ms"),
        (&["name.invalid:53"], 1, "cannot resolve name.invalid"),
        (&["[fe80::1%nosuchif]:53"], 1, "nosuchif"),
    ];
    for (args, exit, said) in cases {
        let output = command(&[&["diagnose"], args].concat()).output().unwrap();
        let stderr = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(exit), "{args:?}: {stderr}");
        assert!(stderr.contains(said), "{args:?}: {stderr}");
        assert!(output.stdout.is_empty());
    }
}
