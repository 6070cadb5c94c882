//! Two reflectors do not keep each other busy.

use std::net::{IpAddr, SocketAddrV4};

use reflector_netlab::capture::Capture;
use reflector_netlab::topology::DockerHost;
use reflector_testkit::queue::Delivered;
use reflector_testkit::raw::send_forged;
use reflector_testkit::train::Client;
use reflector_testkit::wire::outgoing;
use reflector_testkit::{LISTEN, PORT, Reflector, at, on_both_engines};

use super::{dropped, start};

on_both_engines! {
    fn no_two_reflectors_talk_to_each_other_for_ever(engine: Engine) {
        let picture = DockerHost::new().unwrap();
        let here = start(&picture.host, engine, &["--cores", "1"]);
        let there = start(&picture.container, engine, &["--cores", "1"]);
        let capture = Capture::start(&picture.host, "veth1").unwrap();
        let delivered = Delivered::count(&picture.host);
        let to = SocketAddrV4::new(DockerHost::HOST, PORT);
        // As if the other one had asked; a port of 0 is no one's.
        for port in [PORT, 0] {
            let forged = SocketAddrV4::new(DockerHost::CONTAINER, port);
            send_forged(&picture.container, forged, to, 64, b"hi");
        }
        delivered.wait_for(2);
        let (summary, log) = here.stop_with_log();
        assert!(log.contains(" is not answered (this is said once)"), "{log}");
        assert_eq!(dropped(&summary, "source_port"), 2, "{summary}");
        assert_eq!(summary["replied"], 0);
        assert_eq!(outgoing(capture), []);
        assert_eq!(there.stop()["received"], 0);
    }

    /// On different ports neither knows the other for what it is; hops run out all the same.
    fn the_loop_guard_ends_a_loop_between_ports(engine: Engine) {
        let picture = DockerHost::new().unwrap();
        let there = ["--listen", "0.0.0.0:5252", "--cores", "1", "--interval", "20ms"];
        let forged = SocketAddrV4::new(DockerHost::CONTAINER, 5252);
        let to = SocketAddrV4::new(DockerHost::HOST, PORT);

        // Without it they go on for as long as they are let: the danger is real.
        let one = start(&picture.host, engine, &["--cores", "1"]);
        let other = Reflector::start(&picture.container, engine, &there);
        send_forged(&picture.container, forged, to, 8, b"hi");
        let mut replied = 0;
        other.wait_for_report("100 replies are counted", |interval| {
            replied += interval["replied"].as_u64().expect("a count");
            replied >= 100
        });
        assert!(one.stop()["replied"].as_u64() >= Some(100));
        other.stop();

        let guard = ["--loop-guard", "ttl"];
        let one = start(&picture.host, engine, &[&["--cores", "1"], &guard[..]].concat());
        let other = Reflector::start(&picture.container, engine, &[&there[..], &guard].concat());
        send_forged(&picture.container, forged, to, 8, b"hi");
        // Sent with 8, answered with 7, 6 … and the one with 1 left gets no answer.
        other.wait_for_report("a datagram has used up its hops", |interval| {
            dropped(interval, "hop_limit") > 0
        });
        let (one, other) = (one.stop(), other.stop());
        assert_eq!((&one["received"], &one["replied"]), (&4.into(), &4.into()), "{one}");
        assert_eq!((&other["received"], &other["replied"]), (&4.into(), &3.into()), "{other}");
        assert_eq!(dropped(&other, "hop_limit"), 1);
    }

    fn the_loop_guard_answers_with_one_hop_less(engine: Engine) {
        let picture = DockerHost::new().unwrap();
        for listen in [LISTEN, &["--listen", "[::]:5151", "--dual-stack"]] {
            let args = [listen, &["--cores", "1", "--loop-guard", "ttl"]].concat();
            let reflector = Reflector::start(&picture.host, engine, &args);
            for ip in [IpAddr::from(DockerHost::HOST), DockerHost::HOST_V6.into()] {
                let mut client = Client::any(&picture.container, at(ip));
                client.watch_hop_limits();
                for hops in [1, 2, 37, 255] {
                    client.set_hop_limit(hops);
                    client.send(b"single");
                    client.send_train(&[7; 300], 100);
                    if hops > 1 {
                        assert_eq!(client.receive().hop_limit, Some(hops - 1));
                        let train = client.receive();
                        assert_eq!(train.hop_limit, Some(hops - 1));
                        assert_eq!(train.bytes.len(), 300);
                    }
                }
            }
            let summary = reflector.stop();
            assert_eq!(dropped(&summary, "hop_limit"), 2 * 4);
            assert_eq!(summary["replied"], 2 * 3 * 4);
        }
    }
}
