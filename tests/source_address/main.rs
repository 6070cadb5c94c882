//! The reply leaves from the address that was asked: seen on the wire, with a naive server that
//! fails the same test.

mod addresses;
mod changes;
mod comeback;
mod firewalls;
mod interfaces;
mod interleaved;

use std::net::IpAddr;

use reflector_netlab::naive::Wildcard;
use reflector_netlab::topology::DockerHost;
use reflector_testkit::asking::{self, Question, beside_naive_server, no_ports, watch};
use reflector_testkit::{Engine, PORT, Reflector};

/// Ways to listen on everything, besides [`LISTEN`](reflector_testkit::LISTEN).
const IPV4: &[&str] = &["--listen", "0.0.0.0:5151"];
const DUAL_STACK: &[&str] = &["--dual-stack", "--listen", "[::]:5151"];

/// An address of the host that the container asks, and the one that the naive server answers from.
#[derive(Clone, Copy)]
struct Asked {
    ip: IpAddr,
    naive: IpAddr,
}

/// The address `ip`, on a host that would rather answer from docker0's.
fn other_than_docker0(ip: impl Into<IpAddr>) -> Asked {
    let ip = ip.into();
    let naive = match ip {
        IpAddr::V4(_) => DockerHost::DOCKER0.into(),
        IpAddr::V6(_) => DockerHost::DOCKER0_V6.into(),
    };
    Asked { ip, naive }
}

fn ip(literal: &str) -> IpAddr {
    literal.parse().unwrap()
}

/// The container asks each of `asked`: a naive server on the host answers from elsewhere and is
/// refused, and the reflector with `args` is right.
fn prove(engine: Engine, docker: &DockerHost, args: &[&str], asked: &[Asked]) {
    naive_is_wrong(docker, asked);
    let asked: Vec<IpAddr> = asked.iter().map(|asked| asked.ip).collect();
    reflector_is_right(engine, docker, args, &asked);
}

/// Each is asked once: a reply from the wrong address, and the container's kernel refuses it.
fn naive_is_wrong(docker: &DockerHost, asked: &[Asked]) {
    for &Asked { ip, naive } in asked {
        let wildcards: &[Wildcard] = match ip {
            IpAddr::V4(_) => &[Wildcard::Ipv4, Wildcard::DualStack],
            IpAddr::V6(_) => &[Wildcard::DualStack],
        };
        for &wildcard in wildcards {
            let ask = || Question::ask(&docker.container, ip, PORT);
            beside_naive_server(&docker.host, wildcard, PORT, || {
                assert_refuses(docker, naive, ask);
            });
        }
    }
}

/// The container asks, and its kernel refuses the reply, which comes from `naive`.
fn assert_refuses(docker: &DockerHost, naive: IpAddr, ask: impl FnOnce() -> Question) {
    asking::assert_refuses(&docker.container, (&docker.host, "docker0"), naive, ask);
}

/// Each is asked once of a reflector with `args` on the host, which answers all of them.
fn reflector_is_right(engine: Engine, docker: &DockerHost, args: &[&str], asked: &[IpAddr]) {
    let reflector = Reflector::start(&docker.host, engine, args);
    assert_answers(docker, &reflector, asked);
    let summary = reflector.stop();
    assert_eq!(summary["replied"], asked.len(), "{summary}");
}

/// Each is asked once: one reply, from the address asked, and nothing else on the wire.
fn assert_answers(docker: &DockerHost, reflector: &Reflector, asked: &[IpAddr]) {
    let refused = || {
        [
            DockerHost::CONTAINER.into(),
            DockerHost::CONTAINER_V6.into(),
        ]
        .map(|ip| no_ports(&docker.container, ip))
    };
    let before = refused();
    let port = reflector.listen(0).port();
    let (expected, wire) = watch(&docker.host, "docker0", || {
        let exchange = |&ip| {
            let question = Question::ask(&docker.container, ip, port);
            question.assert_answered();
            [question.request(), question.reply()]
        };
        asked.iter().flat_map(exchange).collect::<Vec<_>>()
    });
    assert_eq!(wire, expected);
    assert_eq!(refused(), before);
}
