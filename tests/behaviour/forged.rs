//! ICMP errors that a stranger has written cost no reply.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use reflector_netlab::topology::DockerHost;
use reflector_testkit::raw::{Icmp, send_forged_icmp};
use reflector_testkit::train::Client;
use reflector_testkit::{PORT, at, on_both_engines};

use super::start;

/// Every code of "destination unreachable" (RFC 792, RFC 1122, RFC 1812).
const CODES_V4: u8 = 16;
/// Every code of the same in ICMPv6 (RFC 4443, RFC 8883).
const CODES_V6: u8 = 9;

on_both_engines! {
    fn forged_icmp_errors_cost_no_reply(engine: Engine) {
        let picture = DockerHost::new().unwrap();
        let reflector = start(&picture.host, engine, &["--cores", "1"]);
        let addresses: [(IpAddr, IpAddr, IpAddr); 2] = [
            (
                DockerHost::HOST.into(),
                Ipv4Addr::LOCALHOST.into(),
                Ipv4Addr::new(192, 0, 0, 8).into(),
            ),
            (
                DockerHost::HOST_V6.into(),
                Ipv6Addr::LOCALHOST.into(),
                Ipv6Addr::new(0x100, 0, 0, 0, 0, 0, 0, 1).into(),
            ),
        ];
        for (host, loopback, dummy) in addresses {
            let mut client = Client::any(&picture.container, at(host));
            let peer = client.addr();
            let from = peer.ip();
            // About what the kernel of the host may have sent: by the reflector to this client, by
            // any socket to itself, by the socket that replies leave by.
            let ends = [
                (SocketAddr::new(host, PORT), peer),
                (SocketAddr::new(loopback, PORT), SocketAddr::new(loopback, PORT)),
                (SocketAddr::new(dummy, PORT), peer),
                (SocketAddr::new(dummy, PORT), SocketAddr::new(dummy, PORT)),
            ];
            for icmp in errors(host) {
                for (source, destination) in ends {
                    send_forged_icmp(&picture.container, from, host, icmp, source, destination);
                }
                client.send(b"single");
                let train = client.send_train(&[7; 64 * 40], 64);
                client.expect_back(&[vec![b"single".to_vec()], train].concat());
            }
            assert!(client.leftover().is_empty());
        }
        let summary = reflector.stop();
        assert_eq!(summary["send_errors"], serde_json::json!({}), "{summary}");
        assert_eq!(summary["receive_errors"], serde_json::json!({}), "{summary}");
        assert_eq!(summary["trains_refused"], 0, "{summary}");
    }
}

/// Every unreachable, and packets that are too big for paths of several widths.
fn errors(host: IpAddr) -> Vec<Icmp> {
    if host.is_ipv4() {
        let unreachable = (0..CODES_V4).map(|code| Icmp::new(3, code, 0));
        let too_big = [0, 68, 552].map(|mtu| Icmp::new(3, 4, mtu));
        unreachable.chain(too_big).collect()
    } else {
        let unreachable = (0..CODES_V6).map(|code| Icmp::new(1, code, 0));
        let too_big = [0, 68, 1280].map(|mtu| Icmp::new(2, 0, mtu));
        unreachable.chain(too_big).collect()
    }
}
