//! What is answered, what is not, and how it ends.

mod answers;
mod crowds;
mod drain;
mod echo_info;
mod forged;
mod limits;
mod lists;
mod loops;
mod responders;
mod route_mtu;
mod rules;
mod takeover;
mod unanswered;

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV6, UdpSocket};

use reflector_netlab::topology::{DockerHost, Namespace};
use reflector_testkit::train::Client;
use reflector_testkit::{Engine, LISTEN, PORT, Reflector};
use serde_json::Value;

fn start(namespace: &Namespace, engine: Engine, args: &[&str]) -> Reflector {
    let args: Vec<_> = LISTEN.iter().chain(args).copied().collect();
    Reflector::start(namespace, engine, &args)
}

/// Asks and gets the answer. What was sent before has been received by then, by the same worker.
fn ping(client: &mut Client) {
    client.send(b"ping");
    client.expect_back(&[b"ping".to_vec()]);
}

fn dropped(summary: &Value, reason: &str) -> u64 {
    summary["dropped"][reason].as_u64().expect("a count")
}

/// Addresses that reach the host and every other: directed and limited broadcast, all hosts of
/// both families.
const EVERYBODY: [IpAddr; 4] = [
    IpAddr::V4(Ipv4Addr::new(172, 17, 255, 255)),
    IpAddr::V4(Ipv4Addr::BROADCAST),
    IpAddr::V4(Ipv4Addr::new(224, 0, 0, 1)),
    IpAddr::V6(Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 1)),
];

/// Sends from the container to each of `everybody`; how many those are.
fn shout(picture: &DockerHost, everybody: &[IpAddr]) -> u64 {
    let interface = picture.container.interface_index("eth0").unwrap();
    for ip in everybody {
        let (to, wildcard) = match *ip {
            IpAddr::V4(ip) => ((ip, PORT).into(), "0.0.0.0:0"),
            IpAddr::V6(ip) => (SocketAddrV6::new(ip, PORT, 0, interface).into(), "[::]:0"),
        };
        let to: SocketAddr = to;
        let socket = picture.container.run(|| UdpSocket::bind(wildcard).unwrap());
        socket.set_broadcast(true).unwrap();
        socket.send_to(b"everybody", to).unwrap();
    }
    everybody.len() as u64
}
