//! Two reflectors do not keep each other busy.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV4};

use reflector_netlab::capture::Capture;
use reflector_netlab::topology::DockerHost;
use reflector_testkit::queue::Delivered;
use reflector_testkit::raw::{send_forged, send_forged_from};
use reflector_testkit::train::Client;
use reflector_testkit::wire::{outgoing, outgoing_udp};
use reflector_testkit::{LISTEN, PORT, Reflector, at, on_both_engines, wait_until};

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

    /// One datagram that seems to come from another of our own addresses, or the same, at our port.
    fn a_reflector_does_not_talk_to_itself(engine: Engine) {
        let picture = DockerHost::new().unwrap();
        let reflector = start(&picture.host, engine, &["--cores", "1", "--allow", "any"]);
        let capture = Capture::start(&picture.host, "lo").unwrap();
        let delivered = Delivered::count(&picture.host);
        let mut sent = 0;
        for ours in own_addresses() {
            for (from, to) in ours.iter().flat_map(|from| ours.iter().map(move |to| (from, to))) {
                send_forged_from(&picture.host, &[at(*from)], at(*to), 1, 32);
                sent += 1;
            }
        }
        delivered.wait_for(sent);
        let (summary, _) = reflector.stop_with_log();
        assert_eq!(sent, 2 * 9);
        assert_eq!(dropped(&summary, "source_port"), sent, "{summary}");
        // What was sent is all that there was.
        assert_eq!(outgoing_udp(capture).len() as u64, sent);
    }

    /// Two on one host whose ports differ: neither knows the other for what it is.
    fn hops_or_a_limit_end_a_loop_at_one_host(engine: Engine) {
        let picture = DockerHost::new().unwrap();
        for ours in own_addresses() {
            for (from, to) in [(ours[0], ours[0]), (ours[1], ours[2])] {
                let wildcard = if to.is_ipv4() { "0.0.0.0" } else { "[::]" };
                let run = |guard: &[&str], reason| {
                    let serve = |port: u16| {
                        let listen = format!("{wildcard}:{port}");
                        let args = ["--listen", &listen, "--cores", "1", "--interval", "20ms"];
                        let args = [&args[..], &["--allow", "any"], guard].concat();
                        Reflector::start(&picture.host, engine, &args)
                    };
                    let (one, other) = (serve(PORT), serve(5252));
                    let capture = Capture::start(&picture.host, "lo").unwrap();
                    let forged = SocketAddr::new(from, 5252);
                    send_forged_from(&picture.host, &[forged], at(to), 1, 32);
                    // Either of them may be the one that ends it.
                    let mut ended = 0;
                    wait_until("the loop ends", || {
                        for reflector in [&one, &other] {
                            ended += dropped(&reflector.next_report(), reason);
                        }
                        ended > 0
                    });
                    assert_eq!(ended, 1);
                    let (one, _) = one.stop_with_log();
                    let (other, _) = other.stop_with_log();
                    let replied = [one, other].map(|it| it["replied"].as_u64().unwrap());
                    let packets = outgoing_udp(capture).len() as u64;
                    assert_eq!(packets, 1 + replied[0] + replied[1]);
                    packets
                };
                // It leaves with 64 hops, and is answered with 63, 62 … 1.
                assert_eq!(run(&["--loop-guard", "ttl"], "hop_limit"), 64);
                // Each answers 50; one of them gets a 51st.
                assert_eq!(run(&["--rate-limit", "1/50"], "rate_limited"), 1 + 2 * 50);
            }
        }
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

/// Addresses of the host, three of each family.
fn own_addresses() -> [[IpAddr; 3]; 2] {
    [
        [
            Ipv4Addr::LOCALHOST.into(),
            DockerHost::HOST.into(),
            DockerHost::DOCKER0.into(),
        ],
        [
            Ipv6Addr::LOCALHOST.into(),
            DockerHost::HOST_V6.into(),
            DockerHost::DOCKER0_V6.into(),
        ],
    ]
}
