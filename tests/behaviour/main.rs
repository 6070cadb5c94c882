//! What is answered, what is not, and how it ends.

use std::io::ErrorKind;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV4, SocketAddrV6, UdpSocket};
use std::time::Duration;

use reflector::internals::socket::Socket;
use reflector::responder::echo::Echo;
use reflector::responder::{Request, Responder};
use reflector::{DropReason, Verdict};
use reflector::{Prefixes, Rules};
use reflector_netlab::capture::Capture;
use reflector_netlab::naive::{NaiveServer, Wildcard};
use reflector_netlab::topology::{DockerHost, Namespace, Route, in_namespaces, net};
use reflector_testkit::in_process::{InProcess, answer_queued, config, on, on_port, open_socket};
use reflector_testkit::queue::{Delivered, stop, while_stopped};
use reflector_testkit::random::Random;
use reflector_testkit::raw::send_forged;
use reflector_testkit::train::Client;
use reflector_testkit::wire::{Udp, outgoing, outgoing_udp};
use reflector_testkit::{Engine, Reflector, on_both_engines, wait_until};
use reflector_udp::sockopt;
use rustix::process::Signal;
use serde_json::Value;

const PORT: u16 = 5151;
const LISTEN: [&str; 4] = ["--listen", "0.0.0.0:5151", "--listen", "[::]:5151"];

fn start(namespace: &Namespace, engine: Engine, args: &[&str]) -> Reflector {
    let args: Vec<_> = LISTEN.iter().chain(args).copied().collect();
    Reflector::start(namespace, engine, &args)
}

fn at(ip: impl Into<IpAddr>) -> SocketAddr {
    SocketAddr::new(ip.into(), PORT)
}

/// Asks and gets the answer. What was sent before has been received by then, by the same worker.
fn ping(client: &mut Client) {
    client.send(b"ping");
    client.expect_back(&[b"ping".to_vec()]);
}

fn dropped(summary: &Value, reason: &str) -> u64 {
    summary["dropped"][reason].as_u64().expect("a count")
}

/// Addresses that reach the host and every other: directed and limited broadcast, all hosts of
/// both families.
const EVERYBODY: [IpAddr; 4] = [
    IpAddr::V4(Ipv4Addr::new(172, 17, 255, 255)),
    IpAddr::V4(Ipv4Addr::BROADCAST),
    IpAddr::V4(Ipv4Addr::new(224, 0, 0, 1)),
    IpAddr::V6(Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 1)),
];

/// Sends from the container to each of `everybody`; how many those are.
fn shout(picture: &DockerHost, everybody: &[IpAddr]) -> u64 {
    let interface = picture.container.interface_index("eth0").unwrap();
    for ip in everybody {
        let (to, wildcard) = match *ip {
            IpAddr::V4(ip) => ((ip, PORT).into(), "0.0.0.0:0"),
            IpAddr::V6(ip) => (SocketAddrV6::new(ip, PORT, 0, interface).into(), "[::]:0"),
        };
        let to: SocketAddr = to;
        let socket = picture.container.run(|| UdpSocket::bind(wildcard).unwrap());
        socket.set_broadcast(true).unwrap();
        socket.send_to(b"everybody", to).unwrap();
    }
    everybody.len() as u64
}

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

    fn broadcast_and_multicast_get_no_answer_from_any_worker(engine: Engine) {
        let picture = DockerHost::new().unwrap();
        // IPv4 multicast does not reach an AF_INET6 socket that has joined no group.
        let dual_stack = ["--listen", "[::]:5151", "--dual-stack", "--cores", "4"];
        for (args, unheard) in [
            ([&LISTEN[..], &["--cores", "4"]].concat(), 0),
            (dual_stack.to_vec(), 1),
        ] {
            let reflector = Reflector::start(&picture.host, engine, &args);
            let capture = Capture::start(&picture.host, "veth1").unwrap();
            let delivered = Delivered::count(&picture.host);
            let shouted = shout(&picture, &EVERYBODY);
            delivered.wait_for(shouted);
            let mut client = Client::any(&picture.container, at(DockerHost::HOST));
            ping(&mut client);
            let summary = reflector.stop();
            // Every worker got every one of them.
            assert_eq!(dropped(&summary, "not_unicast"), 4 * (shouted - unheard), "{summary}");
            assert_eq!(summary["replied"], 1);
            let pong = Udp { source: at(DockerHost::HOST), destination: client.addr(), len: 4 };
            assert_eq!(outgoing_udp(capture), [pong]);
        }
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

    fn sigterm_answers_all_that_was_received_and_frees_the_port(engine: Engine) {
        let picture = DockerHost::new().unwrap();
        let reflector = start(&picture.host, engine, &["--cores", "2", "--buffers", "16"]);
        let mut clients: Vec<_> = [&picture.container, &picture.container, &picture.outside]
            .into_iter()
            .map(|namespace| Client::any(namespace, at(DockerHost::HOST)))
            .collect();
        let mut random = Random::new(4);
        let mut sent = vec![Vec::new(); clients.len()];
        stop(&reflector);
        let delivered = Delivered::count(&picture.host);
        for _ in 0..100 {
            for (client, sent) in clients.iter().zip(&mut sent) {
                let len = random.one_of(&[0, 64, 64, 300]);
                sent.push(random.bytes(len));
                client.send(sent.last().unwrap());
            }
        }
        delivered.wait_for(300);
        reflector.signal(Signal::TERM);
        reflector.signal(Signal::CONT);
        let (summary, log, status) = reflector.wait();
        // At once: no ring holds the socket any more.
        picture.host.run(|| UdpSocket::bind(("0.0.0.0", PORT)).map(drop)).unwrap();
        assert!(status.success(), "{status}: {log}");
        assert_eq!(summary["type"], "summary");
        assert_eq!(summary["replied"], 300);
        for (client, sent) in clients.iter_mut().zip(&sent) {
            client.expect_back(sent);
            assert!(client.leftover().is_empty());
        }
    }

    fn what_comes_after_the_drain_has_begun_is_not_received(engine: Engine) {
        let picture = DockerHost::new().unwrap();
        let config = config(engine);
        let socket = open_socket(&picture.host, &config, "0.0.0.0:5151");
        let mut client = Client::any(&picture.container, at(DockerHost::HOST));
        let delivered = Delivered::count(&picture.host);
        (0..10).for_each(|_| client.send(b"before"));
        delivered.wait_for(10);
        socket.reject_new().unwrap();
        (0..10).for_each(|_| client.send(b"after"));
        delivered.wait_for(20);
        let stats = answer_queued(&config, socket);
        assert_eq!((stats.counters.received, stats.counters.replied), (10, 10));
        client.expect_back(&[b"before"; 10].map(|it| it.to_vec()));
        assert!(client.leftover().is_empty());
    }

    /// Where the kernel does not say which address was asked, any answer could be wrong.
    fn what_the_kernel_does_not_tell_is_not_answered(engine: Engine) {
        for (listen, asked, level, option) in [
            ("0.0.0.0:5151", at(DockerHost::HOST), libc::SOL_IP, libc::IP_PKTINFO),
            ("[::]:5151", at(DockerHost::HOST_V6), libc::SOL_IPV6, libc::IPV6_RECVPKTINFO),
        ] {
            assert_silent(engine, listen, asked, DropReason::NoPktinfo, |socket| {
                sockopt::set_int(socket, level, option, 0).unwrap();
            });
        }
    }

    /// Control messages that were cut off may be those that say which address was asked.
    fn what_is_cut_off_is_not_answered(engine: Engine) {
        /// Three stamps, the largest of the control messages that fill the room for others.
        const STAMPS: u32 = libc::SOF_TIMESTAMPING_RX_SOFTWARE | libc::SOF_TIMESTAMPING_SOFTWARE;
        let asked = at(DockerHost::HOST);
        assert_silent(engine, "0.0.0.0:5151", asked, DropReason::Truncated, |socket| {
            sockopt::set_int(socket, libc::SOL_SOCKET, libc::SO_TIMESTAMPING, STAMPS as i32).unwrap();
            for option in [libc::IP_RECVTOS, libc::IP_RECVTTL, libc::IP_RECVORIGDSTADDR] {
                sockopt::set_int(socket, libc::SOL_IP, option, 1).unwrap();
            }
        });
    }

    /// Buffers full of what cannot be answered are not the end of the queue.
    fn the_drain_looks_behind_datagrams_that_get_no_answer(engine: Engine) {
        let picture = DockerHost::new().unwrap();
        let config = on(engine).buffers(4).build().unwrap();
        let socket = open_socket(&picture.host, &config, "0.0.0.0:5151");
        let mut client = Client::any(&picture.container, at(DockerHost::HOST));
        let delivered = Delivered::count(&picture.host);
        let shouted: u64 = (0..10).map(|_| shout(&picture, &EVERYBODY[..3])).sum();
        (0..10).for_each(|_| client.send(b"ping"));
        delivered.wait_for(shouted + 10);
        let stats = answer_queued(&config, socket);
        assert_eq!(stats.counters.received, shouted + 10);
        assert_eq!(stats.counters.replied, 10);
        client.expect_back(&[b"ping"; 10].map(|it| it.to_vec()));
    }

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
        let summary = here.stop();
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
        for listen in [&LISTEN[..], &["--listen", "[::]:5151", "--dual-stack"]] {
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

    fn rules_are_replaced_while_the_server_runs(engine: Engine) {
        let picture = DockerHost::new().unwrap();
        let builder = on_port(engine, PORT).cores(1);
        let server = InProcess::start(&picture.host, builder, || Echo);
        let asked = at(DockerHost::HOST);
        let mut judged = Client::any(&picture.container, asked);
        let mut other = Client::any(&picture.outside, asked);
        // One worker answers in order: with the other's answer, the fate of the first is known.
        let mut is_answered = || {
            judged.send(b"judged");
            other.send(b"other");
            assert_eq!(other.receive().bytes, b"other");
            !judged.leftover().is_empty()
        };
        assert!(is_answered());
        let mut rules = Rules::default();
        rules.deny = Prefixes::new([IpAddr::from(DockerHost::CONTAINER).into()]);
        server.handle().set_rules(rules);
        wait_until("the new rules refuse", || !is_answered());
        (0..10).for_each(|_| assert!(!is_answered()));
        server.handle().set_rules(Rules::default());
        wait_until("the old rules admit again", &mut is_answered);
        (0..10).for_each(|_| assert!(is_answered()));
        let summary = server.stop();
        assert!(dropped(&summary, "not_allowed") >= 10, "{summary}");
    }

    fn an_address_of_the_internet_is_refused_by_default_with_one_warning(engine: Engine) {
        let picture = DockerHost::new().unwrap();
        let public = give_a_public_address(&picture);
        let reflector = start(&picture.host, engine, &["--cores", "1"]);
        let mut private = Client::any(&picture.container, at(DockerHost::HOST));
        let mut refused = Client::connect(&picture.container, (public, 0), at(DockerHost::HOST));
        let delivered = Delivered::count(&picture.host);
        for _ in 0..3 {
            refused.send(b"hello");
            refused.send_train(&[7; 200], 100);
        }
        delivered.wait_for(6);
        ping(&mut private);
        let (summary, log) = reflector.stop_with_log();
        assert_eq!(dropped(&summary, "not_allowed"), 9, "{summary}");
        assert_eq!(summary["replied"], 1);
        assert!(refused.leftover().is_empty());
        let warnings: Vec<_> = log.lines().filter(|line| line.contains("WARN")).collect();
        assert_eq!(warnings.len(), 1, "{log}");
        assert!(warnings[0].contains("--allow 203.0.113.9"), "{log}");
    }

    fn allow_replaces_the_default_and_deny_wins(engine: Engine) {
        let picture = DockerHost::new().unwrap();
        let public = give_a_public_address(&picture);
        let private = DockerHost::CONTAINER;
        for (args, answered, refused) in [
            (vec!["--allow", "203.0.113.0/24"], public, private),
            (vec!["--allow", "any", "--deny", "172.17.0.0/24"], public, private),
            (vec!["--allow", "any", "--deny", "203.0.113.9"], private, public),
        ] {
            let reflector = start(&picture.host, engine, &[&["--cores", "1"], &args[..]].concat());
            let client =
                |from| Client::connect(&picture.container, (from, 0), at(DockerHost::HOST));
            let (mut answered, mut refused) = (client(answered), client(refused));
            let delivered = Delivered::count(&picture.host);
            refused.send(b"hello");
            delivered.wait_for(1);
            ping(&mut answered);
            let (summary, log) = reflector.stop_with_log();
            assert_eq!(dropped(&summary, "not_allowed"), 1, "{args:?}: {summary}");
            assert_eq!(summary["replied"], 1, "{args:?}: {summary}");
            // Whom --deny names, --allow would not help.
            assert_eq!(log.contains("--allow"), !args.contains(&"--deny"), "{args:?}: {log}");
            assert!(refused.leftover().is_empty());
        }
    }

    fn denied_source_ports_get_no_answer(engine: Engine) {
        let picture = DockerHost::new().unwrap();
        // Ports 19 (by default denied), 4444, and the reflector's own, which no option opens.
        for (args, answered) in [
            (&[][..], [false, true, false]),
            (&["--deny-port", "4444,4445"], [true, false, false]),
            (&["--deny-port", "none"], [true, true, false]),
        ] {
            let reflector = start(&picture.host, engine, &[&["--cores", "1"], args].concat());
            let mut replied = 0;
            for (port, is_answered) in [19, 4444, PORT].into_iter().zip(answered) {
                let from = (Ipv4Addr::UNSPECIFIED, port);
                let mut client = Client::connect(&picture.container, from, at(DockerHost::HOST));
                let delivered = Delivered::count(&picture.host);
                client.send(b"hello");
                delivered.wait_for(1);
                if is_answered {
                    client.expect_back(&[b"hello".to_vec()]);
                    replied += 1;
                }
            }
            let summary = reflector.stop();
            assert_eq!(summary["replied"], replied, "{args:?}: {summary}");
            assert_eq!(dropped(&summary, "source_port"), 3 - replied, "{args:?}: {summary}");
        }
    }

    fn options_change_how_and_not_what_is_answered(engine: Engine) {
        let picture = DockerHost::new().unwrap();
        for args in [
            &["--spin"][..],
            &["--coalesce", "1ms"],
            &["--spin", "--coalesce", "1ms"],
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

    fn a_reply_longer_than_its_request_is_not_sent(engine: Engine) {
        let picture = DockerHost::new().unwrap();
        let server = InProcess::start(&picture.host, on_port(engine, PORT), || Boastful);
        let mut client = Client::any(&picture.container, at(DockerHost::HOST));
        let datagrams: Vec<_> = [&b"long"[..], b"ok", b"", b"long"].map(<[u8]>::to_vec).into();
        let delivered = Delivered::count(&picture.host);
        datagrams.iter().for_each(|datagram| client.send(datagram));
        client.send_train(b"longlongok", 4);
        delivered.wait_for(5);
        client.expect_back(&[b"ok", b"ok"].map(|it| it.to_vec()));
        let summary = server.stop();
        assert_eq!(dropped(&summary, "reply_too_long"), 5, "{summary}");
        assert_eq!(summary["replied"], 2);
        assert!(client.leftover().is_empty());
    }

    /// Reports go on, and the end comes when it is due, with the reason.
    fn nobody_waits_for_a_worker_that_is_stuck(engine: Engine) {
        let picture = DockerHost::new().unwrap();
        let builder = on_port(engine, PORT).cores(1).interval(Some(Duration::from_millis(5)));
        let builder = builder.drain_timeout(Duration::from_millis(50));
        let (release, is_released) = std::sync::mpsc::channel::<()>();
        let gate = std::sync::Arc::new(std::sync::Mutex::new(is_released));
        let stuck = move || Stuck(std::sync::Arc::clone(&gate));
        let server = InProcess::start(&picture.host, builder, stuck);
        let client = Client::any(&picture.container, at(DockerHost::HOST));
        client.send(b"hold");
        let before = server.intervals();
        while server.intervals() < before + 3 {
            std::thread::yield_now();
        }
        server.handle().stop();
        let error = server.end().unwrap_err().to_string();
        assert_eq!(error, "the drain was cut short after 50ms: worker 0 has not ended");
        drop(release);
    }

    fn a_responder_that_panics_ends_the_server_with_an_error(engine: Engine) {
        let picture = DockerHost::new().unwrap();
        let builder = on_port(engine, PORT).cores(2);
        let server = InProcess::start(&picture.host, builder, || Panicking);
        let client = Client::any(&picture.container, at(DockerHost::HOST));
        client.send(b"boo");
        let error = server.end().unwrap_err().to_string();
        assert!(error.contains("died: it panicked"), "{error}");
    }
}

/// Gives the container an address that is routed on the Internet, and the host the way back.
/// Of ten datagrams to a socket that `spoil` has changed, none is answered, and all are dropped for
/// `reason`.
fn assert_silent(
    engine: Engine,
    listen: &str,
    asked: SocketAddr,
    reason: DropReason,
    spoil: impl FnOnce(&Socket),
) {
    let picture = DockerHost::new().unwrap();
    let config = config(engine);
    let socket = open_socket(&picture.host, &config, listen);
    spoil(&socket);
    let mut client = Client::any(&picture.container, asked);
    let delivered = Delivered::count(&picture.host);
    (0..10).for_each(|_| client.send(b"who am I?"));
    delivered.wait_for(10);
    let stats = answer_queued(&config, socket);
    let dropped: Vec<_> = stats.counters.dropped().filter(|it| it.1 > 0).collect();
    assert_eq!((stats.counters.replied, dropped), (0, vec![(reason, 10)]));
    assert!(client.leftover().is_empty());
}

fn give_a_public_address(picture: &DockerHost) -> Ipv4Addr {
    picture
        .container
        .add_address("eth0", net("203.0.113.9/32"))
        .unwrap();
    let back = Route::to(net("203.0.113.0/24")).device("docker0");
    picture.host.add_route(&back).unwrap();
    Ipv4Addr::new(203, 0, 113, 9)
}

/// Waits, as a responder must not, until the other end of its channel has gone.
struct Stuck(std::sync::Arc<std::sync::Mutex<std::sync::mpsc::Receiver<()>>>);

impl Responder for Stuck {
    fn respond(&mut self, _request: &Request, payload: &mut [u8]) -> Verdict {
        let gate = self.0.lock().expect("nobody panics");
        gate.recv().expect_err("nothing is sent");
        Verdict::Reply { len: payload.len() }
    }
}

/// Claims that every reply but "ok" is longer than its request.
struct Boastful;

impl Responder for Boastful {
    fn respond(&mut self, _request: &Request, payload: &mut [u8]) -> Verdict {
        let boast = usize::from(payload != b"ok");
        Verdict::Reply {
            len: payload.len() + boast,
        }
    }
}

/// Cannot bear any datagram.
struct Panicking;

impl Responder for Panicking {
    fn respond(&mut self, _request: &Request, _payload: &mut [u8]) -> Verdict {
        panic!("a bug in a responder")
    }
}

/// The control of the broadcast case: a server that looks at nothing answers everybody.
#[test]
fn a_naive_server_answers_broadcasts() {
    in_namespaces("a_naive_server_answers_broadcasts", || {
        let picture = DockerHost::new().unwrap();
        let _server = NaiveServer::start(&picture.host, Wildcard::Ipv4, PORT).unwrap();
        let capture = Capture::start(&picture.host, "veth1").unwrap();
        let delivered = Delivered::count(&picture.container);
        let shouted = shout(&picture, &EVERYBODY[..3]);
        delivered.wait_for(shouted);
        let answers = outgoing(capture);
        assert_eq!(answers.len() as u64, shouted);
        assert!(
            answers
                .iter()
                .all(|it| it.source == at(DockerHost::DOCKER0))
        );
    });
}
