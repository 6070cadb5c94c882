//! A watch through a NAT that forgets it: the server tells of the port it has from then on.

use std::net::SocketAddr;

use reflector_netlab::topology::{DockerHost, in_force, nft};
use reflector_testkit::conntrack;
use reflector_testkit::{LISTEN, PORT, Reflector, on_both_engines};
use serde_json::Value;

use super::watching::Watch;

/// Ports are chosen anew for each flow.
const NAT: &str = "table ip nat {
    chain postrouting {
        type nat hook postrouting priority srcnat;
        ip saddr 172.17.0.0/16 oifname eth0 masquerade fully-random;
    }
}";

on_both_engines! {
    fn a_nat_that_rebinds_is_told(engine: Engine) {
        let name = "rebinding::a_nat_that_rebinds_is_told";
        let picture = DockerHost::new().unwrap();
        if !in_force(name, nft(&picture.host, NAT)) {
            return;
        }
        let args = [LISTEN, &["--echo-info", "--cores", "1"]].concat();
        let reflector = Reflector::start(&picture.outside, engine, &args);
        let asked = SocketAddr::from((DockerHost::OUTSIDE, PORT));
        let mut watch = Watch::start(&picture.container, asked, "--every 5ms -t 300ms");
        // By chance, once in some 64000 times, it is the same port again.
        let mut change = None;
        for _ in 0..3 {
            if !conntrack::forget(name, &picture.host, PORT) {
                return;
            }
            // Two intervals of answers, the second of which was asked for after that.
            watch.wait_for_answer();
            watch.wait_for_answer();
            change = watch.events("change").first().map(|it| Value::clone(it));
            if change.is_some() {
                break;
            }
        }
        let change = change.expect("another port");
        let (code, summary) = watch.stop();
        assert_eq!(code, 0, "{summary}");
        assert_eq!(change["what"], "peer", "{change}");
        let nat = DockerHost::HOST.to_string();
        for key in ["from", "to"] {
            let peer: SocketAddr = change[key].as_str().unwrap().parse().unwrap();
            assert_eq!(peer.ip().to_string(), nat, "{change}");
        }
        assert_ne!(change["from"], change["to"]);
        reflector.stop();
    }
}
