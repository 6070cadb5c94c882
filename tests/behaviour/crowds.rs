//! Peers whose replies wait in the kernel cost others none of theirs.

use std::net::SocketAddr;

use reflector_netlab::topology::{Namespace, net};
use reflector_testkit::raw::send_forged_from;
use reflector_testkit::train::Client;
use reflector_testkit::{LISTEN, PORT, Reflector, join, on_both_engines, tc};

use super::{dropped, ping};

/// Datagrams that sources which answer no ARP, and no neighbour solicitation, send: replies to them
/// fill the send buffer.
const UNHEARD: usize = 4 * 1500;

on_both_engines! {
    fn peers_that_do_not_resolve_cost_others_no_reply(engine: Engine) {
        let wildcards = ["--listen", "0.0.0.0:5151", "--listen", "[::]:5151"];
        let specific = ["--listen", "10.9.0.1:5151", "--listen", "[fd09::1]:5151"];
        let dual_stack = ["--listen", "[::]:5151", "--dual-stack"];
        let device = ["--listen", "0.0.0.0:5151", "--listen", "[::]:5151", "--device", "v0"];
        for listen in [&wildcards[..], &specific, &dual_stack, &device] {
            for (server, silent) in [("10.9.0.1", "10.9.0.10"), ("fd09::1", "fd09::10")] {
                let link = Link::new();
                let args = [listen, &["--cores", "1", "--sndbuf", "256KiB"]].concat();
                let reflector = Reflector::start(&link.server, engine, &args);
                let server = asked(server);
                let silent: Vec<SocketAddr> = (1..=4)
                    .map(|it| SocketAddr::new(format!("{silent}{it}").parse().unwrap(), 40_000))
                    .collect();
                let mut client = Client::any(&link.peer, server);
                ping(&mut client);
                send_forged_from(&link.peer, &silent, server, UNHEARD, 64);
                for _ in 0..20 {
                    ping(&mut client);
                    let train = client.send_train(&[7; 40 * 100], 100);
                    client.expect_back(&train);
                }
                let summary = reflector.stop();
                assert!(dropped(&summary, "unresolved") > 0, "{summary}");
                assert_eq!(summary["sndbuf_errors"], 0, "{summary}");
                assert_eq!(summary["send_errors"], serde_json::json!({}), "{summary}");
            }
        }
    }

    fn a_slow_device_costs_peers_of_another_no_reply(engine: Engine) {
        let link = Link::new();
        let slow = Namespace::new().unwrap();
        link.server.add_veth("v1", &slow, "v0").unwrap();
        link.server.add_address("v1", net("10.8.0.1/24")).unwrap();
        slow.add_address("v0", net("10.8.0.2/24")).unwrap();
        link.server.set_up("v1").unwrap();
        slow.set_up("v0").unwrap();
        slow.wait_ready("v0").unwrap();
        let queue = "qdisc add dev v1 root tbf rate 80kbit burst 2k limit 100m";
        if !tc("a_slow_device_costs_peers_of_another_no_reply", &link.server, queue) {
            return;
        }
        let args = [LISTEN, &["--cores", "1", "--sndbuf", "256KiB"]].concat();
        let reflector = Reflector::start(&link.server, engine, &args);
        let mut client = Client::any(&link.peer, asked("10.9.0.1"));
        ping(&mut client);
        let mut waiting = Client::any(&slow, asked("10.8.0.1"));
        ping(&mut waiting);
        (0..2000).for_each(|_| waiting.send(&[7; 1000]));
        for _ in 0..20 {
            ping(&mut client);
        }
        let (summary, _) = reflector.stop_with_log();
        let refused = summary["send_errors"]["EAGAIN"].as_u64();
        assert!(refused.is_some_and(|refused| refused > 1000), "{summary}");
        assert_eq!(dropped(&summary, "unresolved"), 0, "{summary}");
    }

    fn what_the_queue_of_a_device_drops_is_told(engine: Engine) {
        let link = Link::new();
        let queue = "qdisc add dev v0 root tbf rate 80kbit burst 3k limit 3k";
        if !tc("what_the_queue_of_a_device_drops_is_told", &link.server, queue) {
            return;
        }
        let args = [LISTEN, &["--cores", "1"]].concat();
        let reflector = Reflector::start(&link.server, engine, &args);
        let client = Client::any(&link.peer, asked("10.9.0.1"));
        (0..40).for_each(|_| client.send(&[7; 1000]));
        reflector.wait_for_report("all are received", {
            let mut received = 0;
            move |report| {
                received += report["received"].as_u64().unwrap();
                received == 40
            }
        });
        let summary = reflector.stop();
        let drops = summary["queue_drops"].as_u64().unwrap();
        assert!((20..=40).contains(&drops), "{summary}");
    }
}

fn asked(ip: &str) -> SocketAddr {
    SocketAddr::new(ip.parse().unwrap(), PORT)
}

/// A server and a peer at the two ends of a link.
struct Link {
    server: Namespace,
    peer: Namespace,
}

impl Link {
    fn new() -> Self {
        let (server, peer) = (Namespace::new().unwrap(), Namespace::new().unwrap());
        join(&server, &peer, "v0");
        Self { server, peer }
    }
}
