//! Over links: who is answered in the kernel gets what a socket would send, and who is not, too.

use std::net::SocketAddrV4;

use reflector_accelerate::Way;
use reflector_netlab::topology::{Namespace, net};
use reflector_testkit::raw::send_forged;
use reflector_testkit::{Client, Engine, LISTEN, PORT, Reflector, at, join};

use crate::in_namespaces;
use crate::stage::{Accelerated, BRIDGE_MAC, ask_all, bridge_and_port, everybody, rules};

const OWN: [&str; 2] = ["10.9.0.1", "fd09::1"];

fn addr(text: &str) -> SocketAddrV4 {
    text.parse().unwrap()
}

fn two() -> (Namespace, Namespace) {
    let (server, peer) = (Namespace::new().unwrap(), Namespace::new().unwrap());
    join(&server, &peer, "wire");
    (server, peer)
}

/// Both ways of a veth, with no socket behind the program.
#[test]
fn what_is_asked_comes_back_whole_from_where_it_was_asked() {
    in_namespaces("wire::whole", || {
        for way in [Way::Peer, Way::Plain] {
            let (server, peer) = two();
            let accelerated = Accelerated::at(&server, ("wire", way), &OWN, PORT, everybody());
            let mut count = 0;
            for ip in OWN {
                count += ask_all(&peer, ip);
            }
            let counted = accelerated.counted();
            assert_eq!(counted.datagrams, count as u64, "{way:?}");
            assert_eq!(counted.trains, 4, "{way:?}");
            let bytes = 2 * (65 + 1400 + 3200 + 44 * 1400);
            assert_eq!(counted.bytes, bytes, "{way:?}");
            assert!(
                counted.residence_ns().count() > 0,
                "the first frame is timed"
            );
        }
    });
}

/// At the bridge itself, and at a port of it, to which what is for the bridge is a neighbour's.
#[test]
fn a_bridge_and_its_port_answer() {
    in_namespaces("wire::bridge", || {
        let (server, peer) = bridge_and_port();
        let at_bridge = Accelerated::at(
            &server,
            ("br0", Way::Plain),
            &["10.9.0.1"],
            PORT,
            everybody(),
        );
        let count = ask_all(&peer, "10.9.0.1");
        assert_eq!(at_bridge.counted().datagrams, count as u64);
        drop(at_bridge);

        for way in [Way::Peer, Way::Plain] {
            let mut at_port =
                Accelerated::at(&server, ("port", way), &["10.9.0.1"], PORT, everybody());
            at_port.attach("port", way, Some(BRIDGE_MAC));
            let count = ask_all(&peer, "10.9.0.1");
            assert_eq!(at_port.counted().datagrams, count as u64, "{way:?}");
        }
    });
}

/// What the program passes is the sockets' to answer, or to refuse.
#[test]
fn who_is_not_admitted_is_refused_by_the_sockets_and_counted_there() {
    in_namespaces("wire::guard", || {
        let (server, peer) = two();
        peer.add_address("wire", net("10.9.0.66/32")).unwrap();
        let args = [LISTEN, &["--cores", "1", "--deny", "10.9.0.66"]].concat();
        let reflector = Reflector::start(&server, Engine::Mmsg, &args);
        let only = rules(&["10.9.0.0/26"], false);
        let accelerated = Accelerated::at(&server, ("wire", Way::Peer), &OWN, PORT, only);
        let asked = at([10, 9, 0, 1]);
        let denied = Client::connect_from(&peer, "10.9.0.66:0".parse().unwrap(), asked);
        denied.send(b"denied");
        let admitted = Client::connect_from(&peer, "10.9.0.2:0".parse().unwrap(), asked);
        admitted.ask(b"in the kernel");
        // An option of IP is passed, and so is a fragment: the sockets answer.
        let long = vec![7; 3000];
        let mut train = reflector_testkit::train::Client::any(&peer, asked);
        train.send(&long);
        train.expect_back(&[long]);
        assert_eq!(accelerated.counted().datagrams, 1);
        let (summary, _) = reflector.stop_with_log();
        assert_eq!(summary["dropped"]["not_allowed"], 1, "{summary}");
        assert_eq!(summary["replied"], 1, "{summary}");
    });
}

/// Two ends that answer each other's ports would turn one datagram for ever, inside one receive
/// call. The loop guard is there only so that a mistake would end after 64 turns.
#[test]
fn a_datagram_turns_at_most_once_between_two_ends_that_answer() {
    in_namespaces("wire::loop", || {
        for way in [Way::Peer, Way::Plain] {
            for ports in [[PORT, PORT], [PORT, PORT + 1]] {
                let (server, peer) = two();
                let guarded = || rules(&["0.0.0.0/0"], true);
                let here =
                    Accelerated::at(&server, ("wire", way), &["10.9.0.1"], ports[0], guarded());
                let there =
                    Accelerated::at(&peer, ("wire", way), &["10.9.0.2"], ports[1], guarded());
                let source = addr(&format!("10.9.0.2:{}", ports[1]));
                let target = addr(&format!("10.9.0.1:{}", ports[0]));
                send_forged(&peer, source, target, 64, b"once");
                // What comes behind it has been through when it is answered.
                let source = "10.9.0.2:0".parse().unwrap();
                Client::connect_from(&peer, source, at([10, 9, 0, 1])).ask(b"behind");
                let turns = [here.counted().datagrams - 1, there.counted().datagrams];
                let is_equal = ports[0] == ports[1];
                let expected = if is_equal { [0, 0] } else { [1, 0] };
                assert_eq!(turns, expected, "{way:?}, ports {ports:?}");
            }
        }
    });
}

/// This host asks itself, and two reflectors of it answer each other's ports.
#[test]
fn loopback_answers_and_turns_nothing_twice() {
    in_namespaces("wire::loopback", || {
        let host = Namespace::new().unwrap();
        host.set_up("lo").unwrap();
        let own = ["127.0.0.1", "::1"];
        let lo = ("lo", Way::Plain);
        let guarded = || rules(&["127.0.0.0/8", "::1/128"], true);
        let first = Accelerated::at(&host, lo, &own, PORT, guarded());
        let second = Accelerated::at(&host, lo, &own, PORT + 1, guarded());
        for (source, expected) in [(PORT, [0, 0]), (PORT + 1, [1, 0])] {
            let before = [&first, &second].map(|it| it.counted().datagrams);
            let source = addr(&format!("127.0.0.1:{source}"));
            send_forged(
                &host,
                source,
                addr(&format!("127.0.0.1:{PORT}")),
                64,
                b"once",
            );
            Client::connect(&host, at([127, 0, 0, 1])).ask(b"behind");
            let after = [&first, &second].map(|it| it.counted().datagrams);
            let turns = [after[0] - before[0] - 1, after[1] - before[1]];
            assert_eq!(turns, expected, "from {source}");
        }
        drop(second);
        drop(first);
        let alone = Accelerated::at(&host, lo, &own, PORT, everybody());
        let count: usize = own.iter().map(|ip| ask_all(&host, ip)).sum();
        assert_eq!(alone.counted().datagrams, count as u64);
    });
}
