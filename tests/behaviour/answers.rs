//! Every length, option and listener: the same bytes come back.

use std::io::ErrorKind;
use std::net::IpAddr;

use reflector_netlab::topology::DockerHost;
use reflector_testkit::queue::while_stopped;
use reflector_testkit::random::Random;
use reflector_testkit::train::Client;
use reflector_testkit::{LISTEN, Reflector, at, on_both_engines};

use super::{ping, start};

on_both_engines! {
    fn empty_datagrams_are_answered_one_by_one_and_in_order(engine: Engine) {
        let picture = DockerHost::new().unwrap();
        let reflector = start(&picture.host, engine, &["--cores", "1"]);
        for ip in [IpAddr::from(DockerHost::HOST), DockerHost::HOST_V6.into()] {
            let mut client = Client::any(&picture.container, at(ip));
            let mut random = Random::new(1);
            // Many in a row, then mixed with others.
            let mut sent = vec![Vec::new(); 100];
            sent.extend((0..100).map(|_| {
                let len = random.one_of(&[0, 0, 1, 64]);
                random.bytes(len)
            }));
            while_stopped(&reflector, || sent.iter().for_each(|datagram| client.send(datagram)));
            client.expect_back(&sent);
        }
        let summary = reflector.stop();
        assert_eq!(summary["replied"], 400);
    }

    fn the_largest_datagrams_are_answered_over_lo_and_in_fragments_over_a_link(engine: Engine) {
        let picture = DockerHost::new().unwrap();
        let reflector = start(&picture.host, engine, &["--cores", "1"]);
        let asked = [
            (IpAddr::from(DockerHost::HOST), 65_507),
            (DockerHost::HOST_V6.into(), 65_527),
        ];
        for (ip, len_max) in asked {
            for from in [&picture.host, &picture.container] {
                let mut client = Client::any(from, at(ip));
                let mut random = Random::new(2);
                for len in [len_max, len_max - 1, 30_000] {
                    let datagram = random.bytes(len);
                    client.send(&datagram);
                    client.expect_back(&[datagram]);
                }
            }
        }
        assert_eq!(reflector.stop()["replied"], 12);
    }

    fn a_ring_of_four_buffers_answers_bursts_of_hundreds_again_and_again(engine: Engine) {
        let picture = DockerHost::new().unwrap();
        let reflector = start(&picture.host, engine, &["--cores", "1", "--buffers", "4"]);
        let mut clients = [
            Client::any(&picture.container, at(DockerHost::HOST)),
            Client::any(&picture.container, at(DockerHost::HOST_V6)),
        ];
        let mut random = Random::new(3);
        for _ in 0..5 {
            let mut sent = vec![Vec::new(); clients.len()];
            while_stopped(&reflector, || {
                for _ in 0..200 {
                    for (client, sent) in clients.iter().zip(&mut sent) {
                        let len = random.one_of(&[0, 64, 64, 64, 900]);
                        sent.push(random.bytes(len));
                        client.send(sent.last().unwrap());
                    }
                }
                for (client, sent) in clients.iter().zip(&mut sent) {
                    sent.extend(client.send_train(&random.bytes(64 * 100), 64));
                }
            });
            for (client, sent) in clients.iter_mut().zip(&sent) {
                client.expect_back(sent);
            }
        }
        // A buffer that had not come home would be missed by now.
        let summary = reflector.stop();
        assert_eq!(summary["replied"], 5 * 2 * 300);
    }

    fn options_change_how_and_not_what_is_answered(engine: Engine) {
        let picture = DockerHost::new().unwrap();
        for args in [
            &["--wait", "spin"][..],
            &["--wait", "block"],
            &["--coalesce", "1ms"],
            &["--wait", "spin", "--coalesce", "1ms"],
            &["--steer", "cpu"],
            &["--buffers", "1"],
        ] {
            let args = [&["--cores", "2"], args].concat();
            let reflector = start(&picture.host, engine, &args);
            for ip in [IpAddr::from(DockerHost::HOST), DockerHost::HOST_V6.into()] {
                for namespace in [&picture.container, &picture.outside] {
                    let mut client = Client::any(namespace, at(ip));
                    let mut sent = vec![b"single".to_vec(), Vec::new()];
                    client.send(&sent[0]);
                    client.send(&sent[1]);
                    sent.extend(client.send_train(&Random::new(5).bytes(6400), 100));
                    client.expect_back(&sent);
                }
            }
            let summary = reflector.stop();
            assert_eq!(summary["replied"], 4 * 66, "{args:?}: {summary}");
            assert_eq!(summary["residence_us"]["count"], 4 * 66, "{args:?}: {summary}");
        }
    }

    fn several_addresses_and_ports_are_served_each_from_its_own(engine: Engine) {
        let picture = DockerHost::new().unwrap();
        let listen = ["172.16.13.13:5151", "172.17.0.1:5152", "[fd13::13]:5151", "0.0.0.0:5153"];
        let mut args = vec!["--cores", "2"];
        listen.iter().for_each(|addr| args.extend(["--listen", addr]));
        let reflector = Reflector::start(&picture.host, engine, &args);
        assert_eq!(reflector.ready["listen"], serde_json::json!(listen));
        let anywhere = "172.16.13.13:5153";
        for addr in listen[..3].iter().chain([&anywhere]) {
            ping(&mut Client::any(&picture.container, addr.parse().unwrap()));
        }
        // The other address of the host has no such port.
        let stranger = Client::any(&picture.container, at(DockerHost::DOCKER0));
        stranger.send(b"hello");
        let refusal = stranger.socket.peek(&mut [0]).unwrap_err();
        assert_eq!(refusal.kind(), ErrorKind::ConnectionRefused);
        assert_eq!(reflector.stop()["replied"], 4);
    }

    fn residence_times_are_counted_for_every_reply_unless_off(engine: Engine) {
        let picture = DockerHost::new().unwrap();
        for (latency, counted) in [("kernel", 34), ("off", 0)] {
            let args = ["--cores", "1", "--latency", latency];
            let reflector = start(&picture.host, engine, &args);
            let mut client = Client::any(&picture.container, at(DockerHost::HOST));
            let mut sent = client.send_train(&[7; 32 * 64], 64);
            sent.extend([b"single".to_vec(), Vec::new()]);
            sent[32..].iter().for_each(|datagram| client.send(datagram));
            client.expect_back(&sent);
            let summary = reflector.stop();
            assert_eq!(summary["replied"], 34);
            assert_eq!(summary["residence_us"]["count"], counted, "{args:?}: {summary}");
        }
    }

    /// Of a sample, one at a time, until the kernel hands the reply to the device.
    fn residence_times_to_the_wire_are_those_of_a_sample(engine: Engine) {
        let picture = DockerHost::new().unwrap();
        let specific = ["--listen", "172.16.13.13:5151", "--listen", "[fd13::13]:5151"];
        for listen in [LISTEN, &specific, &["--listen", "[::]:5151", "--dual-stack"]] {
            let args = [listen, &["--cores", "1", "--latency", "wire"]].concat();
            let reflector = Reflector::start(&picture.host, engine, &args);
            let mut sent = 0;
            for ip in [IpAddr::from(DockerHost::HOST), DockerHost::HOST_V6.into()] {
                let mut client = Client::any(&picture.container, at(ip));
                for _ in 0..100 {
                    ping(&mut client);
                    let train = client.send_train(&[7; 300], 100);
                    client.expect_back(&train);
                    sent += 4;
                }
            }
            let summary = reflector.stop();
            assert_eq!(summary["replied"], sent, "{summary}");
            assert_eq!(summary["receive_errors"], serde_json::json!({}), "{summary}");
            let count = summary["residence_us"]["count"].as_u64().unwrap();
            // Of 400 messages one in 64, the first of them too.
            assert!((4..=8).contains(&count), "{listen:?}: {summary}");
        }
    }
}
