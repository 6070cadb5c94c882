//! Replies that are longer than the MTU of their route, on a device that would take them whole.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use reflector_netlab::observe::{counter, counter6};
use reflector_netlab::topology::{Mtu, Namespace, Route, net};
use reflector_testkit::queue::while_stopped;
use reflector_testkit::raw::{Icmp, send_forged_icmp};
use reflector_testkit::train::Client;
use reflector_testkit::{LISTEN, PORT, Reflector, join, on_both_engines, wait_until};

use super::start;

/// Longer than a frame of 1500 bytes, shorter than one of 9000.
const LONG: usize = 4000;

on_both_engines! {
    fn replies_leave_in_fragments_of_their_route_s_mtu(engine: Engine) {
        let specific = ["--listen", "10.9.0.1:5151", "--listen", "[fd09::1]:5151"];
        let dual_stack = ["--listen", "[::]:5151", "--dual-stack"];
        for (kind, listen) in [
            (Mtu::Discovered, LISTEN),
            (Mtu::Locked, LISTEN),
            (Mtu::Discovered, &specific),
            (Mtu::Discovered, &dual_stack),
        ] {
            let wide = Wide::new();
            wide.add_routes(kind);
            let args = [listen, &["--cores", "1"]].concat();
            let reflector = Reflector::start(&wide.server, engine, &args);
            for host in [asked("10.9.0.1"), asked("fd09::1")] {
                let mut client = Client::any(&wide.peer, host);
                assert_eq!(wide.fragments_of(&mut client, LONG), 3, "{kind:?}");
                // Datagrams of one batch would leave as a train, of which none arrives.
                let sent: Vec<_> = (0..5).map(|byte| vec![byte; 2000]).collect();
                while_stopped(&reflector, || sent.iter().for_each(|it| client.send(it)));
                client.expect_back(&sent);
                // What the route takes is a train as ever.
                let train = client.send_train(&[7; 5 * 1400], 1400);
                client.expect_back(&train);
            }
            let summary = reflector.stop();
            assert_eq!(summary["send_errors"], serde_json::json!({}), "{summary}");
            // Only those of IPv6 have been tried, and refused, as trains.
            assert_eq!(summary["trains_refused"], 1, "{summary}");
            assert_eq!(summary["trains_sent"], 2, "{summary}");
        }
    }

    fn an_mtu_that_a_route_gets_later_counts(engine: Engine) {
        let wide = Wide::new();
        let reflector = start(&wide.server, engine, &["--cores", "1"]);
        assert!(!wide.is_long_answered(), "the device takes it whole, and the peer does not");
        wide.add_routes(Mtu::Discovered);
        wait_until("the route's MTU counts", || wide.is_long_answered());
        wide.server.delete_route(&Wide::routes(Mtu::Discovered)[0]).unwrap();
        wait_until("it counts no more", || !wide.is_long_answered());
        reflector.stop();
    }

    /// Neither where the route has an MTU, nor where it has none.
    fn a_forged_fragmentation_needed_makes_no_fragment_smaller(engine: Engine) {
        let wide = Wide::new();
        let reflector = start(&wide.server, engine, &["--cores", "1"]);
        let host = asked("10.9.0.1");
        let mut client = Client::any(&wide.peer, host);
        let peer = client.addr();
        let forge = || {
            for mtu in [0, 68, 552, 1000] {
                let icmp = Icmp::new(3, 4, mtu);
                send_forged_icmp(&wide.peer, peer.ip(), host.ip(), icmp, host, peer);
            }
        };
        forge();
        assert_eq!(wide.fragments_of(&mut client, 1400), 0);
        wide.add_routes(Mtu::Discovered);
        wait_until("the route's MTU counts", || wide.is_long_answered());
        forge();
        assert_eq!(wide.fragments_of(&mut client, LONG), 3);
        assert_eq!(wide.fragments_of(&mut client, 1400), 0);
        reflector.stop();
    }

    fn with_df_nothing_is_fragmented_whatever_the_route_says(engine: Engine) {
        let wide = Wide::new();
        wide.add_routes(Mtu::Discovered);
        let reflector = start(&wide.server, engine, &["--cores", "1", "--df"]);
        assert!(!wide.is_long_answered());
        let mut client = Client::any(&wide.peer, asked("10.9.0.1"));
        assert_eq!(wide.fragments_of(&mut client, 1400), 0);
        assert_eq!(reflector.stop()["replied"], 2);
    }
}

/// A server whose device takes 9000 bytes, and a peer whose device takes 1500.
struct Wide {
    server: Namespace,
    peer: Namespace,
}

impl Wide {
    fn new() -> Self {
        let (server, peer) = (Namespace::new().unwrap(), Namespace::new().unwrap());
        join(&server, &peer, "v0");
        server.set_mtu("v0", 9000).unwrap();
        Self { server, peer }
    }

    /// Routes of the server to the peer with an MTU of 1500.
    fn routes(kind: Mtu) -> [Route; 2] {
        let to = |peer: &str| Route::to(net(peer)).device("v0").mtu(1500, kind);
        [to("10.9.0.2/32"), to("fd09::2/128")]
    }

    fn add_routes(&self, kind: Mtu) {
        for route in Self::routes(kind) {
            self.server.add_route(&route).unwrap();
        }
    }

    /// Whether a long datagram is answered within a moment, over IPv4.
    fn is_long_answered(&self) -> bool {
        let client = Client::any(&self.peer, asked("10.9.0.1"));
        let moment = Duration::from_millis(50);
        client.socket.set_read_timeout(Some(moment)).unwrap();
        client.send(&[7; LONG]);
        client.socket.recv(&mut [0; LONG]).is_ok()
    }

    /// In how many fragments the reply to a datagram of `len` bytes arrives; 0 for none.
    fn fragments_of(&self, client: &mut Client, len: usize) -> u64 {
        let is_ipv4 = client.addr().is_ipv4();
        let arrived = || match is_ipv4 {
            true => counter(&self.peer, "Ip", "ReasmReqds").unwrap(),
            false => counter6(&self.peer, "Ip6ReasmReqds").unwrap(),
        };
        let before = arrived();
        client.send(&vec![7; len]);
        client.expect_back(&[vec![7; len]]);
        arrived() - before
    }
}

/// Where the peer asks the server at `ip`.
fn asked(ip: &str) -> SocketAddr {
    SocketAddr::new(ip.parse::<IpAddr>().unwrap(), PORT)
}
