//! The reply leaves from the address that was asked, as `source_address` has it of the sockets: at
//! Docker's bridge and at the port of it that a container is behind, where a naive server is wrong.

use std::net::IpAddr;

use reflector_netlab::naive::Wildcard;
use reflector_netlab::topology::{DockerHost, Route, net};
use reflector_testkit::asking::{Question, assert_refuses, beside_naive_server, watch};
use reflector_testkit::{Engine, LISTEN, PORT, Reflector};

use crate::{engines, in_namespaces};

/// The devices of the host by which the container's datagrams come.
const DEVICES: [&str; 2] = ["docker0", "veth1"];
const DUAL_STACK: &[&str] = &["--dual-stack", "--listen", "[::]:5151"];

fn ip(literal: &str) -> IpAddr {
    literal.parse().unwrap()
}

/// A host with more addresses than one of each kind: its own, a second one of docker0, and those of
/// nets that are its own as a whole.
fn host() -> (DockerHost, Vec<IpAddr>) {
    let docker = DockerHost::new().unwrap();
    for address in ["172.17.0.8/16", "fd17::8/64", "fe80::13/64"] {
        docker.host.add_address("docker0", net(address)).unwrap();
    }
    let asked = [
        DockerHost::HOST.into(),
        DockerHost::HOST_V6.into(),
        DockerHost::DOCKER0.into(),
        DockerHost::DOCKER0_V6.into(),
        ip("172.17.0.8"),
        ip("fd17::8"),
        ip("fe80::13"),
    ];
    (docker, asked.to_vec())
}

/// The control: asked at the host's other address it answers from docker0's, and is refused.
fn assert_naive_is_wrong(docker: &DockerHost) {
    beside_naive_server(&docker.host, Wildcard::Ipv4, PORT, || {
        let (client, naive) = (&docker.container, DockerHost::DOCKER0.into());
        let ask = || Question::ask(client, DockerHost::HOST, PORT);
        assert_refuses(client, (client, "eth0"), naive, ask);
    });
}

/// Each is asked once: one reply, from the address asked, and nothing else at the container's end,
/// where redirected frames are seen as well.
fn assert_answers(docker: &DockerHost, asked: &[IpAddr]) {
    let (expected, wire) = watch(&docker.container, "eth0", || {
        let exchange = |&ip| {
            let question = Question::ask(&docker.container, ip, PORT);
            question.assert_answered();
            [question.request(), question.reply()]
        };
        asked.iter().flat_map(exchange).collect::<Vec<_>>()
    });
    assert_eq!(wire, expected);
}

#[test]
fn a_container_is_answered_from_the_address_asked() {
    in_namespaces("source::container", || {
        for engine in engines("source::container") {
            for device in DEVICES {
                for listen in [LISTEN, DUAL_STACK] {
                    let (docker, asked) = host();
                    assert_naive_is_wrong(&docker);
                    let args = [listen, &["--cores", "1", "--accelerate", device]].concat();
                    let reflector = Reflector::start(&docker.host, engine, &args);
                    assert_answers(&docker, &asked);
                    let (summary, _) = reflector.stop_with_log();
                    // At the port, the bridge's link-local address is another device's.
                    let by_sockets = usize::from(device == "veth1");
                    let in_kernel = &summary["accelerated"]["datagrams"];
                    assert_eq!(
                        in_kernel,
                        asked.len() - by_sockets,
                        "at {device}: {summary}"
                    );
                    assert_eq!(summary["replied"], by_sockets, "at {device}: {summary}");
                }
            }
        }
    });
}

/// Addresses that no device has, since a route alone makes them the host's, are the sockets' to
/// answer; and so is who asks from such an address, which the kernel takes from nobody outside.
#[test]
fn nets_that_are_local_by_a_route_are_left_to_the_sockets() {
    in_namespaces("source::anyip", || {
        for device in DEVICES {
            let (docker, _) = host();
            let (near, far) = (net("198.18.0.0/24"), net("198.18.0.9/24"));
            docker.host.add_route(&Route::local(near)).unwrap();
            let back = Route::to(near).via(DockerHost::DOCKER0.into());
            docker.container.add_route(&back).unwrap();
            let args = [LISTEN, &["--cores", "1", "--accelerate", device]].concat();
            let reflector = Reflector::start(&docker.host, Engine::Mmsg, &args);
            assert_answers(&docker, &[ip("198.18.0.7")]);
            docker
                .container
                .add_address("lo", net("198.18.0.9/32"))
                .unwrap();
            let refused = Question::ask_from(&docker.container, far.addr(), ip("172.17.0.1"), PORT);
            // What comes behind it has been through.
            assert_answers(&docker, &[DockerHost::HOST.into()]);
            assert!(refused.is_unanswered(), "at {device}");
            let (summary, _) = reflector.stop_with_log();
            let accelerated = &summary["accelerated"]["datagrams"];
            assert_eq!(
                (accelerated, &summary["replied"]),
                (&1.into(), &1.into()),
                "{summary}"
            );
        }
    });
}
