//! How much each peer may send.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use reflector_netlab::topology::DockerHost;
use reflector_testkit::raw::send_forged_from;
use reflector_testkit::train::Client;
use reflector_testkit::{at, on_both_engines};

use super::{dropped, ping, start};

on_both_engines! {
    fn of_what_is_beyond_the_limit_the_first_are_answered(engine: Engine) {
        let picture = DockerHost::new().unwrap();
        // A rate at which nothing comes back within the test.
        let args = ["--cores", "1", "--rate-limit", "1/50"];
        let reflector = start(&picture.host, engine, &args);
        for host in [IpAddr::from(DockerHost::HOST), DockerHost::HOST_V6.into()] {
            let mut client = Client::any(&picture.container, at(host));
            let train = client.send_train(&[7; 64 * 40], 64);
            client.expect_back(&train);
            let train = client.send_train(&[8; 64 * 40], 64);
            client.expect_back(&train[..10]);
            client.send(b"beyond");
        }
        let (summary, log) = reflector.stop_with_log();
        assert_eq!(dropped(&summary, "rate_limited"), 2 * 31, "{summary}");
        assert_eq!(summary["replied"], 2 * 50, "{summary}");
        assert!(log.contains("sends more than --rate-limit says"), "{log}");
    }

    fn a_limit_that_is_tried_out_counts_and_refuses_nothing(engine: Engine) {
        let picture = DockerHost::new().unwrap();
        let args = ["--cores", "1", "--rate-limit", "1/10", "--rate-limit-dry-run"];
        let reflector = start(&picture.host, engine, &args);
        let mut client = Client::any(&picture.container, at(IpAddr::from(DockerHost::HOST)));
        let train = client.send_train(&[7; 64 * 40], 64);
        client.expect_back(&train);
        let summary = reflector.stop();
        assert_eq!(dropped(&summary, "rate_limited"), 0, "{summary}");
        assert_eq!(summary["rate_excess"], 30, "{summary}");
    }

    fn forged_sources_cost_a_peer_within_its_limit_nothing(engine: Engine) {
        let picture = DockerHost::new().unwrap();
        let args = ["--cores", "1", "--rate-limit", "1k", "--allow", "any"];
        let reflector = start(&picture.host, engine, &args);
        let mut client = Client::any(&picture.container, at(IpAddr::from(DockerHost::HOST)));
        let forged: Vec<SocketAddr> = (0..5000_u32)
            .map(|number| (Ipv4Addr::from_bits(0x2d00_0000 + number * 7919), 40_000))
            .map(SocketAddr::from)
            .collect();
        for part in forged.chunks(50) {
            send_forged_from(&picture.container, part, at(IpAddr::from(DockerHost::HOST)), 50, 40);
            ping(&mut client);
        }
        let (summary, _) = reflector.stop_with_log();
        assert_eq!(dropped(&summary, "rate_limited"), 0, "{summary}");
        assert_eq!(summary["received"], 5100, "{summary}");
    }
}
