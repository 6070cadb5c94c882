//! What becomes of some flows and not of others, and what answers themselves tell; each beside what
//! looks most like it.

use std::cell::RefCell;
use std::net::{IpAddr, Ipv4Addr, UdpSocket};
use std::process::Command;
use std::thread;

use reflector_netlab::naive::{NaiveServer, Wildcard};
use reflector_netlab::topology::{DockerHost, Namespace, in_force, in_namespaces, nft};
use reflector_testkit::{Engine, LISTEN, PORT, Reflector, at, command};
use serde_json::Value;

use super::{PATIENT, Responder, SHORT, ask, kinds};

#[test]
fn loss_on_fresh_ports_is_not_called_stale() {
    let name = "flows::loss_on_fresh_ports_is_not_called_stale";
    in_namespaces(name, || {
        let docker = DockerHost::new().unwrap();
        let rules = nft(
            &docker.host,
            "table inet lossy {
                chain output {
                    type filter hook output priority filter;
                    udp sport 5151 numgen inc mod 2 0 drop;
                }
            }",
        );
        if !in_force(name, rules) {
            return;
        }
        let _server = NaiveServer::bind(&docker.host, at(DockerHost::HOST)).unwrap();
        let (exit, object) = ask(&docker.container, DockerHost::HOST, &SHORT);
        assert_eq!(
            (exit, &object["verdict"]),
            (0, &"partly".into()),
            "{object}"
        );
        assert_eq!(kinds(&object), ["loss"]);
        assert!(
            !object["remedies"].to_string().contains("conntrack -D"),
            "{object}"
        );
        // With a port of the user's among them, it is no other. Every second answer is dropped,
        // so that flow is answered at times.
        let options = [
            "--tries",
            "3",
            "--timeout",
            "200ms",
            "--source-port",
            "40000",
        ];
        let (_, object) = ask(&docker.container, DockerHost::HOST, &options);
        assert_eq!(kinds(&object), ["loss"], "{object}");
    });
}

#[test]
fn a_server_that_mixes_up_its_peers_is_told_from_a_stale_flow() {
    let name = "flows::a_server_that_mixes_up_its_peers_is_told_from_a_stale_flow";
    in_namespaces(name, || {
        let namespace = Namespace::new().unwrap();
        for address in [IpAddr::from(Ipv4Addr::LOCALHOST), "::1".parse().unwrap()] {
            // Each is answered what the one before asked; the first is not answered.
            let before = RefCell::new(None);
            let _server = Responder::start(&namespace, at(address), move |question| {
                before.replace(Some(question.to_vec()))
            });
            let (exit, object) = ask(&namespace, address, &SHORT);
            assert_eq!(
                (exit, &object["verdict"]),
                (3, &"mixed_up".into()),
                "{object}"
            );
            assert_eq!(kinds(&object), ["mixed_up"]);
            let text = object["findings"][0]["text"].as_str().unwrap();
            assert!(
                text.contains("answered another client's question to this one"),
                "{text}"
            );
            assert!(!object.to_string().contains("conntrack -D"), "{object}");
        }
    });
}

/// A server that answers everybody rightly, and the first of each two with what the second asked
/// as well, or twice.
#[test]
fn who_gets_the_answers_of_others_beside_its_own_is_told_from_who_gets_its_own_twice() {
    let name = "flows::\
        who_gets_the_answers_of_others_beside_its_own_is_told_from_who_gets_its_own_twice";
    in_namespaces(name, || {
        let namespace = Namespace::new().unwrap();
        for (second, wanted) in [(1, (3, "mixed_up")), (0, (0, "answered"))] {
            let socket = namespace.run(|| UdpSocket::bind("127.0.0.1:5151").unwrap());
            let server = thread::spawn(move || {
                let questions = [(); 2].map(|()| {
                    let mut bytes = [0; 64];
                    let (len, peer) = socket.recv_from(&mut bytes).unwrap();
                    (bytes[..len].to_vec(), peer)
                });
                for (question, peer) in [(0, 0), (second, 0), (1, 1)] {
                    let (question, peer) = (&questions[question].0, questions[peer].1);
                    socket.send_to(question, peer).unwrap();
                }
            });
            let (exit, object) = ask(&namespace, Ipv4Addr::LOCALHOST, &PATIENT);
            server.join().unwrap();
            let verdict = object["verdict"].as_str().unwrap();
            assert_eq!((exit, verdict), wanted, "{object}");
            assert!(exit == 0 || kinds(&object) == ["mixed_up"], "{object}");
        }
    });
}

#[test]
fn a_port_that_the_reflector_denies_is_named_first() {
    let name = "flows::a_port_that_the_reflector_denies_is_named_first";
    in_namespaces(name, || {
        let docker = DockerHost::new().unwrap();
        let reflector = Reflector::start(&docker.host, Engine::Mmsg, LISTEN);
        let options = [&SHORT[..], &["--source-port", "11211"]].concat();
        let (exit, object) = ask(&docker.container, DockerHost::HOST, &options);
        assert_eq!(
            (exit, &object["verdict"]),
            (3, &"flow_silent".into()),
            "{object}"
        );
        assert_eq!(kinds(&object), ["denied_port"]);
        reflector.stop_with_log();
    });
}

/// A name whose first address does not answer, and the second does.
#[test]
fn a_service_of_one_family_behind_a_name_of_two_is_told() {
    let name = "flows::a_service_of_one_family_behind_a_name_of_two_is_told";
    in_namespaces(name, || {
        let namespace = Namespace::new().unwrap();
        let _server = NaiveServer::start(&namespace, Wildcard::Ipv4, PORT).unwrap();
        let hosts = std::env::temp_dir().join(format!("reflector-hosts-{}", std::process::id()));
        std::fs::write(&hosts, "::1 two.test\n127.0.0.1 two.test\n").unwrap();
        let asked = |options: &[&str]| {
            let program = command(&[]).get_program().to_owned();
            let mut inside = Command::new("unshare");
            inside.args([
                "-m",
                "sh",
                "-c",
                "mount --bind \"$0\" /etc/hosts && exec \"$@\"",
            ]);
            inside
                .arg(&hosts)
                .arg(program)
                .args(["diagnose", "--json", "two.test:5151"]);
            inside.args(SHORT).args(options);
            let output = namespace.run(|| inside.output()).unwrap();
            let object: Value = serde_json::from_slice(&output.stdout)
                .unwrap_or_else(|error| panic!("{error}: {output:?}"));
            (output.status.code(), object)
        };
        let (exit, object) = asked(&[]);
        assert_eq!(
            (exit, &object["verdict"]),
            (Some(3), &"refused".into()),
            "{object}"
        );
        assert_eq!(object["asked"], "[::1]:5151");
        assert_eq!(
            object["also_asked"],
            serde_json::json!({"127.0.0.1:5151": true})
        );
        assert_eq!(kinds(&object), ["refused", "other_address_answers"]);
        assert!(
            object["findings"][1]["text"]
                .as_str()
                .unwrap()
                .contains("`-4`")
        );
        assert_eq!(asked(&["-4"]).0, Some(0));
        // Without anybody, no address is praised.
        drop(_server);
        let (exit, object) = asked(&[]);
        assert_eq!(
            (exit, kinds(&object)),
            (Some(3), vec!["refused"]),
            "{object}"
        );
        std::fs::remove_file(&hosts).unwrap();
    });
}
