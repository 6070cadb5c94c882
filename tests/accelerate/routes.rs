//! Whom a route leads to, and by which device: as the sockets would answer, while that changes.

use std::io::ErrorKind;
use std::net::UdpSocket;

use reflector_netlab::topology::{Namespace, Route, net};
use reflector_testkit::{Client, Engine, LISTEN, Reflector, at, wait_until};

use crate::in_namespaces;
use crate::program::{start, two};
use crate::stage::{bridge_and_port, ip};

const STRANGER: &str = "10.77.0.7";

/// A socket of one who is no neighbour.
fn stranger(peer: &Namespace) -> UdpSocket {
    peer.add_address("wire", net("10.77.0.7/32")).unwrap();
    let socket = peer.run(|| UdpSocket::bind((STRANGER, 0))).unwrap();
    socket.connect(at([10, 9, 0, 1])).unwrap();
    socket.set_nonblocking(true).unwrap();
    socket
}

fn has_answer(socket: &UdpSocket) -> bool {
    match socket.recv(&mut [0; 64]) {
        Ok(_) => true,
        Err(error) if error.kind() == ErrorKind::WouldBlock => false,
        Err(error) => panic!("{error}"),
    }
}

fn filter(server: &Namespace, mode: &str) {
    for device in ["all", "wire"] {
        let name = format!("ipv4/conf/{device}/rp_filter");
        server.set_sysctl(&name, mode).unwrap();
    }
}

/// Without a route a socket receives and cannot reply; with one by another device it replies there,
/// or rp_filter lets it hear nothing.
#[test]
fn who_is_not_reached_by_the_device_is_left_to_the_sockets() {
    in_namespaces("routes::sockets", || {
        for mode in ["0", "1", "2"] {
            let (server, peer) = two();
            filter(&server, mode);
            let socket = stranger(&peer);
            let reflector = start(&server, Engine::Mmsg, &["--interval", "0"]);
            let neighbour =
                Client::connect_from(&peer, "10.9.0.2:0".parse().unwrap(), at([10, 9, 0, 1]));
            for _ in 0..5 {
                socket.send(b"from nowhere").unwrap();
            }
            // What comes behind them has been through.
            neighbour.ask(b"behind");
            assert!(!has_answer(&socket), "rp_filter {mode}");
            let (summary, _) = reflector.stop_with_log();
            let received = if mode == "0" { 5 } else { 0 };
            assert_eq!(summary["received"], received, "rp_filter {mode}: {summary}");
            assert_eq!(summary["replied"], 0, "rp_filter {mode}: {summary}");
            let refused = &summary["dropped"]["not_allowed"];
            assert_eq!(refused, 0, "rp_filter {mode}: {summary}");
            let accelerated = &summary["accelerated"]["datagrams"];
            assert_eq!(accelerated, 1, "rp_filter {mode}: {summary}");
        }
    });
}

#[test]
fn a_route_that_comes_is_followed_and_so_is_one_that_goes() {
    in_namespaces("routes::followed", || {
        let (server, peer) = two();
        filter(&server, "0");
        let socket = stranger(&peer);
        let reflector = start(&server, Engine::Mmsg, &["--interval", "10ms"]);
        let route = Route::to(net("10.77.0.0/24")).via([10, 9, 0, 2].into());
        server.add_route(&route).unwrap();
        let mut in_kernel = 0;
        reflector.wait_for_report("it is answered in the kernel", |interval| {
            socket.send(b"known now").unwrap();
            in_kernel += interval["accelerated"]["datagrams"].as_u64().unwrap();
            in_kernel > 0
        });
        server.delete_route(&route).unwrap();
        wait_until("nobody answers any more", || {
            while has_answer(&socket) {}
            socket.send(b"unknown again").unwrap();
            Client::connect_from(&peer, "10.9.0.2:0".parse().unwrap(), at([10, 9, 0, 1]))
                .ask(b"behind");
            !has_answer(&socket)
        });
        let (summary, _) = reflector.stop_with_log();
        assert!(
            summary["accelerated"]["datagrams"].as_u64() > Some(1),
            "{summary}"
        );
    });
}

/// By which table a reply goes is not known then, so the sockets have all of that family.
#[test]
fn where_there_are_rules_the_sockets_answer() {
    in_namespaces("routes::rules", || {
        let (server, peer) = two();
        ip(&server, "rule add from 10.9.0.1 lookup 100");
        ip(&server, "route add 10.9.0.0/24 dev wire table 100");
        let reflector = start(&server, Engine::Mmsg, &["--interval", "0"]);
        for (source, asked) in [
            ("10.9.0.2:0", "10.9.0.1:5151"),
            ("[fd09::2]:0", "[fd09::1]:5151"),
        ] {
            let client =
                Client::connect_from(&peer, source.parse().unwrap(), asked.parse().unwrap());
            client.ask(b"by whom?");
        }
        let (summary, log) = reflector.stop_with_log();
        assert_eq!(summary["received"], 1, "{summary}");
        assert_eq!(summary["accelerated"]["datagrams"], 1, "{summary}");
        assert!(
            log.contains("who asks by IPv4 is left to the sockets"),
            "{log}"
        );
    });
}

/// At a port of a bridge, which has the routes and whose MAC is asked.
#[test]
fn a_port_answers_for_its_bridge_under_whatever_mac_that_has() {
    in_namespaces("routes::bridge", || {
        let (server, peer) = bridge_and_port();
        let args = [
            LISTEN,
            &["--cores", "1", "--accelerate", "port", "--interval", "10ms"],
        ]
        .concat();
        let reflector = Reflector::start(&server, Engine::Mmsg, &args);
        let any = "10.9.0.2:0".parse().unwrap();
        let client = Client::connect_from(&peer, any, at([10, 9, 0, 1]));
        for last in [1, 2] {
            ip(
                &server,
                &format!("link set br0 address 02:00:00:00:00:0{last}"),
            );
            ip(&peer, "neigh flush dev wire");
            // Intervals of what was asked under the MAC before are over.
            let mut of_now = 0;
            reflector.wait_for_report("the port answers", |interval| {
                client.ask(b"under this MAC");
                let in_kernel = interval["accelerated"]["datagrams"].as_u64() > Some(0);
                of_now = if in_kernel { of_now + 1 } else { 0 };
                of_now == 5
            });
        }
        reflector.stop_with_log();
    });
}
