//! Trains in, trains out: fewer messages, the same datagrams, in the same order, from the address
//! asked.

use std::collections::BTreeSet;
use std::net::IpAddr;

use reflector_netlab::capture::{Capture, Kind};
use reflector_netlab::ethtool;
use reflector_netlab::topology::{DockerHost, Namespace, net};
use reflector_testkit::in_process::{answer_queued, config, open_socket};
use reflector_testkit::queue::{Delivered, while_stopped};
use reflector_testkit::random::Random;
use reflector_testkit::train::{Client, Message};
use reflector_testkit::wire::{Udp, outgoing, outgoing_udp};
use reflector_testkit::{ASKED, Engine, LISTEN, Reflector, at, on_both_engines};
use reflector_udp::sockopt;

fn start(picture: &DockerHost, engine: Engine, args: &[&str]) -> Reflector {
    let args: Vec<_> = LISTEN.iter().chain(args).copied().collect();
    Reflector::start(&picture.host, engine, &args)
}

on_both_engines! {
    fn a_train_comes_back_as_one_train_from_the_address_asked(engine: Engine) {
        let picture = DockerHost::new().unwrap();
        let reflector = start(&picture, engine, &["--cores", "1"]);
        let mut random = Random::new(1);
        let trains = [(64, 32), (1400, 44), (100, 128)];
        for ip in ASKED {
            for (segment_len, count) in trains {
                let mut client = Client::any(&picture.container, at(ip));
                let capture = Capture::start(&picture.host, "veth1").unwrap();
                // The last one is shorter.
                let bytes = random.bytes(segment_len * count - 7);
                client.send_train(&bytes, segment_len);
                let len = bytes.len();
                assert_eq!(client.receive(), Message::new(bytes, segment_len));
                let reply = Udp { source: at(ip), destination: client.addr(), len };
                assert_eq!(outgoing_udp(capture), [reply]);
            }
        }
        let summary = reflector.stop();
        assert_eq!(summary["received"], 2 * (32 + 44 + 128));
        assert_eq!(summary["replied"], summary["received"]);
        assert_eq!(summary["trains_received"], 6);
        assert_eq!(summary["trains_sent"], 6);
        assert_eq!(summary["trains_refused"], 0);
    }

    fn without_gro_single_datagrams_are_joined_into_trains(engine: Engine) {
        let picture = DockerHost::new().unwrap();
        let reflector = start(&picture, engine, &["--cores", "1", "--gro", "off"]);
        for ip in ASKED {
            let mut client = Client::any(&picture.container, at(ip));
            let capture = Capture::start(&picture.host, "veth1").unwrap();
            let sent = while_stopped(&reflector, || {
                let delivered = Delivered::count(&picture.host);
                let sent = client.send_train(&Random::new(2).bytes(64 * 32), 64);
                delivered.wait_for(1);
                sent
            });
            client.expect_back(&sent);
            let replies = outgoing_udp(capture);
            // One batch; two at most where the ring hands over 33 datagrams at a time.
            assert!(replies.len() <= 2, "{replies:?}");
            assert!(replies.iter().all(|it| it.source == at(ip)), "{replies:?}");
        }
        let summary = reflector.stop();
        assert_eq!(summary["trains_received"], 0);
        assert!(summary["trains_sent"].as_u64() >= Some(2), "{summary}");
    }

    fn without_gso_every_reply_is_a_packet_of_its_own(engine: Engine) {
        let picture = DockerHost::new().unwrap();
        let reflector = start(&picture, engine, &["--cores", "1", "--gso", "off"]);
        for ip in ASKED {
            let mut client = Client::any(&picture.container, at(ip));
            let capture = Capture::start(&picture.host, "veth1").unwrap();
            let sent = client.send_train(&Random::new(3).bytes(64 * 32), 64);
            client.expect_back(&sent);
            let reply = Udp { source: at(ip), destination: client.addr(), len: 64 };
            assert_eq!(outgoing_udp(capture), [reply; 32]);
        }
        let summary = reflector.stop();
        assert_eq!(summary["trains_received"], 2);
        assert_eq!(summary["trains_sent"], 0);
    }

    /// As on a wire: the kernel cuts the trains before the device, and sums them up itself.
    fn a_device_without_the_offloads_sends_what_the_train_held(engine: Engine) {
        let picture = DockerHost::new().unwrap();
        let without_offloads = |namespace: &Namespace, device: &str| {
            namespace.run(|| {
                for feature in ["tx-udp-segmentation", "tx-checksum-ip-generic"] {
                    ethtool::set_feature(device, feature, false).unwrap();
                }
            });
        };
        without_offloads(&picture.container, "eth0");
        without_offloads(&picture.host, "veth1");
        let reflector = start(&picture, engine, &["--cores", "1"]);
        for ip in ASKED {
            let mut client = Client::any(&picture.container, at(ip));
            let capture = Capture::start(&picture.host, "veth1").unwrap();
            let sent = while_stopped(&reflector, || {
                client.send_train(&Random::new(4).bytes(1000 * 30 - 1), 1000)
            });
            client.expect_back(&sent);
            let reply = Udp { source: at(ip), destination: client.addr(), len: 1000 };
            let mut expected = [reply; 30];
            expected[29].len = 999;
            assert_eq!(outgoing_udp(capture), expected);
        }
        let summary = reflector.stop();
        assert_eq!(summary["trains_received"], 0, "they came in single file");
        assert!(summary["trains_sent"].as_u64() >= Some(2), "{summary}");
        assert_eq!(summary["trains_refused"], 0);
    }

    fn single_datagrams_of_a_batch_are_joined_also_across_others(engine: Engine) {
        let picture = DockerHost::new().unwrap();
        let reflector = start(&picture, engine, &["--cores", "1", "--buffers", "64"]);
        let asked = [DockerHost::HOST, DockerHost::DOCKER0];
        let mut clients: Vec<_> = (0..6)
            .map(|flow| Client::any(&picture.container, at(asked[flow % 2])))
            .collect();
        let mut random = Random::new(5);
        let capture = Capture::start(&picture.host, "veth1").unwrap();
        let mut sent = vec![Vec::new(); clients.len()];
        while_stopped(&reflector, || {
            let delivered = Delivered::count(&picture.host);
            for _ in 0..10 {
                for (flow, client) in clients.iter().enumerate() {
                    let datagram = random.bytes(50 + 10 * flow);
                    client.send(&datagram);
                    sent[flow].push(datagram);
                }
            }
            delivered.wait_for(60);
        });
        for (client, sent) in clients.iter_mut().zip(&sent) {
            client.expect_back(sent);
        }
        let replies = outgoing_udp(capture);
        // One batch holds them all; the ring may hand them over in two.
        let batches = if engine == Engine::Mmsg { 1 } else { 2 };
        assert!(replies.len() <= batches * clients.len(), "{replies:?}");
        let flow_of = |(flow, client): (usize, &Client)| (at(asked[flow % 2]), client.addr());
        let flows: BTreeSet<_> = clients.iter().enumerate().map(flow_of).collect();
        let seen: BTreeSet<_> = replies.iter().map(|it| (it.source, it.destination)).collect();
        assert_eq!(seen, flows);
        assert_eq!(reflector.stop()["replied"], 60);
    }

    fn interleaved_peers_and_lengths_keep_order_and_bytes(engine: Engine) {
        let picture = DockerHost::new().unwrap();
        let reflector = start(&picture, engine, &["--cores", "1"]);
        let mut clients = [
            Client::any(&picture.container, at(DockerHost::HOST)),
            Client::any(&picture.container, at(DockerHost::DOCKER0)),
            Client::any(&picture.container, at(DockerHost::HOST_V6)),
            Client::any(&picture.outside, at(DockerHost::HOST)),
        ];
        for seed in 0..8 {
            let mut random = Random::new(seed);
            let mut sent = vec![Vec::new(); clients.len()];
            while_stopped(&reflector, || {
                for _ in 0..150 {
                    let flow = random.below(clients.len());
                    // Few lengths, so that runs of one length come about. None exceeds the MTU:
                    // where a train is refused, order is not promised for its batch.
                    let len = random.one_of(&[0, 1, 17, 64, 64, 64, 64, 100, 100, 1400]);
                    if random.below(4) == 0 && len > 0 {
                        let total = len * (2 + random.below(20)) - random.below(len);
                        sent[flow].extend(clients[flow].send_train(&random.bytes(total), len));
                    } else {
                        let datagram = random.bytes(len);
                        clients[flow].send(&datagram);
                        sent[flow].push(datagram);
                    }
                }
            });
            for (client, sent) in clients.iter_mut().zip(&sent) {
                client.expect_back(sent);
            }
        }
        let summary = reflector.stop();
        assert_eq!(summary["replied"], summary["received"]);
        assert_eq!(summary["trains_refused"], 0, "{summary}");
        assert!(summary["trains_sent"].as_u64() > Some(0), "{summary}");
        assert!(clients.iter_mut().all(|client| client.leftover().is_empty()));
    }

    fn a_train_over_the_mtu_of_its_path_is_sent_singly_and_touches_no_other_peer(engine: Engine) {
        let picture = DockerHost::new().unwrap();
        // The way back only: what comes in through the bridge is not measured by its MTU.
        picture.host.set_mtu("docker0", 1300).unwrap();
        let reflector = start(&picture, engine, &["--cores", "1"]);
        for (to_container, to_outside) in [
            (DockerHost::HOST.into(), DockerHost::HOST.into()),
            (IpAddr::from(DockerHost::HOST_V6), IpAddr::from(DockerHost::HOST_V6)),
        ] {
            let mut narrow = Client::any(&picture.container, at(to_container));
            let mut wide = Client::any(&picture.outside, at(to_outside));
            let bytes = Random::new(6).bytes(1400 * 20 - 3);
            let capture = Capture::start(&picture.host, "veth1").unwrap();
            for _ in 0..2 {
                let sent = while_stopped(&reflector, || {
                    wide.send_train(&bytes, 1400);
                    narrow.send_train(&bytes, 1400)
                });
                narrow.expect_back(&sent);
                assert_eq!(wide.receive(), Message::new(bytes.clone(), 1400));
            }
            for packet in outgoing(capture) {
                assert!(matches!(packet.kind, Kind::Fragment { .. }), "{packet}");
                assert_eq!(packet.source.ip(), to_container);
            }
            // Trains that fit still go there.
            narrow.send_train(&bytes[..12_000], 1200);
            assert_eq!(
                narrow.receive(),
                Message::new(bytes[..12_000].to_vec(), 1200)
            );
        }
        let summary = reflector.stop();
        assert_eq!(summary["trains_refused"], 2, "once for each path: {summary}");
        assert_eq!(summary["replied"], 2 * (4 * 20 + 10));
        assert_eq!(summary["trains_sent"], 2 * (2 + 1));
    }

    fn a_train_whose_source_is_gone_is_counted_and_never_answered_from_elsewhere(engine: Engine) {
        let picture = DockerHost::new().unwrap();
        let reflector = start(&picture, engine, &["--cores", "1"]);
        let mut gone = Client::any(&picture.container, at(DockerHost::HOST));
        let mut there = Client::any(&picture.container, at(DockerHost::DOCKER0));
        let capture = Capture::start(&picture.host, "veth1").unwrap();
        let bytes = Random::new(7).bytes(64 * 32);
        let address = net("172.16.13.13/24");
        let answered = while_stopped(&reflector, || {
            let delivered = Delivered::count(&picture.host);
            gone.send_train(&bytes, 64);
            let answered = there.send_train(&bytes, 64);
            gone.send(b"single");
            gone.send_train(&bytes[..100], 70);
            delivered.wait_for(4);
            picture.host.delete_address("eth0", address).unwrap();
            answered
        });
        there.expect_back(&answered);
        let replies = outgoing_udp(capture);
        assert!(replies.iter().all(|it| it.destination == there.addr()), "{replies:?}");
        picture.host.add_address("eth0", address).unwrap();
        let healed = gone.send_train(&bytes, 64);
        gone.expect_back(&healed);
        let (summary, log) = reflector.stop_with_log();
        assert!(log.contains("refuses replies with ENETUNREACH"), "{log}");
        assert_eq!(summary["send_errors"]["ENETUNREACH"], 32 + 1 + 2, "{summary}");
        assert_eq!(summary["replied"], 64);
        assert_eq!(summary["trains_refused"], 0, "the source was at fault, not the train");
        assert!(gone.leftover().is_empty());
    }

    /// A wildcard IPv6 socket may answer from an address that no interface has (AnyIP needs that),
    /// so the address asked is still the source when it has just gone.
    fn an_ipv6_train_is_answered_from_the_address_asked_also_when_that_has_gone(engine: Engine) {
        let picture = DockerHost::new().unwrap();
        let reflector = start(&picture, engine, &["--cores", "1"]);
        let mut client = Client::any(&picture.container, at(DockerHost::HOST_V6));
        let capture = Capture::start(&picture.host, "veth1").unwrap();
        let bytes = Random::new(8).bytes(64 * 32);
        while_stopped(&reflector, || {
            let delivered = Delivered::count(&picture.host);
            client.send_train(&bytes, 64);
            delivered.wait_for(1);
            picture.host.delete_address("eth0", net("fd13::13/64")).unwrap();
        });
        assert_eq!(client.receive().bytes, bytes);
        assert!(outgoing_udp(capture).iter().all(|it| it.source == at(DockerHost::HOST_V6)));
        assert_eq!(reflector.stop()["replied"], 32);
    }

    /// `EINVAL` for the train and for its first datagram: the source is at fault.
    fn a_train_refused_for_its_ipv6_source_is_counted_whole(engine: Engine) {
        let picture = DockerHost::new().unwrap();
        let config = config(engine);
        let socket = open_socket(&picture.host, &config, "[::]:5151");
        // As on a socket that must not answer from an address that the host does not have.
        sockopt::set_int(&socket, libc::SOL_IPV6, libc::IPV6_FREEBIND, 0).unwrap();
        let mut client = Client::any(&picture.container, at(DockerHost::HOST_V6));
        let mut other = Client::any(&picture.container, at(DockerHost::DOCKER0_V6));
        let bytes = Random::new(9).bytes(64 * 32);
        let delivered = Delivered::count(&picture.host);
        client.send_train(&bytes, 64);
        let sent = other.send_train(&bytes, 64);
        delivered.wait_for(2);
        picture.host.delete_address("eth0", net("fd13::13/64")).unwrap();
        let stats = answer_queued(&config, socket);
        other.expect_back(&sent);
        assert_eq!(stats.counters().received, 64);
        assert_eq!(stats.counters().send_errors().collect::<Vec<_>>(), [(libc::EINVAL, 32)]);
        assert_eq!(stats.counters().trains_refused, 0);
        assert!(client.leftover().is_empty());
    }

    /// `EINVAL` for the train, and its first datagram goes: trains do not work on this path.
    fn where_trains_do_not_work_at_all_their_datagrams_go_singly(engine: Engine) {
        let picture = DockerHost::new().unwrap();
        let config = config(engine);
        let socket = open_socket(&picture.host, &config, "0.0.0.0:5151");
        // The kernel refuses to cut trains for a socket that sends without checksums.
        sockopt::enable(&socket, libc::SOL_SOCKET, libc::SO_NO_CHECK).unwrap();
        let mut client = Client::any(&picture.container, at(DockerHost::HOST));
        let mut random = Random::new(10);
        let delivered = Delivered::count(&picture.host);
        let mut sent = client.send_train(&random.bytes(64 * 32 - 1), 64);
        sent.push(random.bytes(30));
        client.send(&sent[32]);
        delivered.wait_for(2);
        let stats = answer_queued(&config, socket);
        client.expect_back(&sent);
        assert_eq!(stats.counters().replied, 33);
        assert_eq!(stats.counters().trains_refused, 1);
        assert_eq!(stats.counters().trains_sent.count_above_one(), 0);
        assert_eq!(stats.counters().send_errors_total(), 0);
    }
}
