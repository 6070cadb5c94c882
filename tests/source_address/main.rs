//! The reply leaves from the address that was asked: seen on the wire, with a naive server that
//! fails the same test.

use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;

use reflector_netlab::capture::{Kind, Packet};
use reflector_netlab::ethtool;
use reflector_netlab::naive::Wildcard;
use reflector_netlab::observe::{ConntrackEntry, conntrack, counter};
use reflector_netlab::topology::{DockerHost, Namespace, Route, in_force, net, nft};
use reflector_testkit::asking::{
    PAYLOAD, Question, beside_naive_server, client, no_ports, queue, reachable, watch,
    watch_packets, wildcard_of,
};
use reflector_testkit::frames::{Frame, watch_frames};
use reflector_testkit::queue::while_stopped;
use reflector_testkit::{Engine, Reflector, on_both_engines, wait_until};
use reflector_udp::sockopt;
use serde_json::{Value, json};

const PORT: u16 = 5151;

/// The three ways to listen on everything.
const PAIR: &[&str] = &["--listen", "0.0.0.0:5151", "--listen", "[::]:5151"];
const IPV4: &[&str] = &["--listen", "0.0.0.0:5151"];
const DUAL_STACK: &[&str] = &["--dual-stack", "--listen", "[::]:5151"];

/// An address of the host that the container asks, and the one that the naive server answers from.
#[derive(Clone, Copy)]
struct Asked {
    ip: IpAddr,
    naive: IpAddr,
}

/// The address `ip`, on a host that would rather answer from docker0's.
fn other_than_docker0(ip: impl Into<IpAddr>) -> Asked {
    let ip = ip.into();
    let naive = match ip {
        IpAddr::V4(_) => DockerHost::DOCKER0.into(),
        IpAddr::V6(_) => DockerHost::DOCKER0_V6.into(),
    };
    Asked { ip, naive }
}

fn ip(literal: &str) -> IpAddr {
    literal.parse().unwrap()
}

/// The container asks each of `asked`: a naive server on the host answers from elsewhere and is
/// refused, and the reflector with `args` is right.
fn prove(engine: Engine, docker: &DockerHost, args: &[&str], asked: &[Asked]) {
    naive_is_wrong(docker, asked);
    let asked: Vec<IpAddr> = asked.iter().map(|asked| asked.ip).collect();
    reflector_is_right(engine, docker, args, &asked);
}

/// Each is asked once: a reply from the wrong address, and the container's kernel refuses it.
fn naive_is_wrong(docker: &DockerHost, asked: &[Asked]) {
    for &Asked { ip, naive } in asked {
        let wildcards: &[Wildcard] = match ip {
            IpAddr::V4(_) => &[Wildcard::Ipv4, Wildcard::DualStack],
            IpAddr::V6(_) => &[Wildcard::DualStack],
        };
        for &wildcard in wildcards {
            let ask = || Question::ask(&docker.container, ip, PORT);
            beside_naive_server(&docker.host, wildcard, PORT, || {
                assert_refuses(docker, naive, ask);
            });
        }
    }
}

/// The container asks, and its kernel refuses the reply, which comes from `naive`: no socket of the
/// container expects it.
fn assert_refuses(docker: &DockerHost, naive: IpAddr, ask: impl FnOnce() -> Question) {
    let before = no_ports(&docker.container, naive);
    let (question, wire) = watch(&docker.host, "docker0", || {
        let question = ask();
        wait_until("the container has no such port", || {
            no_ports(&docker.container, naive) > before
        });
        question
    });
    assert!(question.is_unanswered());
    let expected = [
        question.request(),
        question.reply_from(naive),
        question.refusal_of(naive),
    ];
    assert_eq!(wire, expected);
}

/// Each is asked once of a reflector with `args` on the host, which answers all of them.
fn reflector_is_right(engine: Engine, docker: &DockerHost, args: &[&str], asked: &[IpAddr]) {
    let reflector = Reflector::start(&docker.host, engine, args);
    assert_answers(docker, &reflector, asked);
    let summary = reflector.stop();
    assert_eq!(summary["replied"], asked.len(), "{summary}");
}

/// Each is asked once: one reply, from the address asked, and nothing else on the wire.
fn assert_answers(docker: &DockerHost, reflector: &Reflector, asked: &[IpAddr]) {
    let refused = || {
        [
            DockerHost::CONTAINER.into(),
            DockerHost::CONTAINER_V6.into(),
        ]
        .map(|ip| no_ports(&docker.container, ip))
    };
    let before = refused();
    let port = reflector.listen(0).port();
    let (expected, wire) = watch(&docker.host, "docker0", || {
        let exchange = |&ip| {
            let question = Question::ask(&docker.container, ip, port);
            question.assert_answered();
            [question.request(), question.reply()]
        };
        asked.iter().flat_map(exchange).collect::<Vec<_>>()
    });
    assert_eq!(wire, expected);
    assert_eq!(refused(), before);
}

on_both_engines! {
    /// moby#15127: the container asks the host's other address.
    fn the_hairpin_is_answered_from_the_address_asked(engine: Engine) {
        let docker = DockerHost::new().unwrap();
        prove(engine, &docker, IPV4, &[other_than_docker0(DockerHost::HOST)]);
    }

    fn the_ipv6_hairpin_is_answered_from_the_address_asked(engine: Engine) {
        let docker = DockerHost::new().unwrap();
        let args = ["--listen", "[::]:5151"];
        prove(engine, &docker, &args, &[other_than_docker0(DockerHost::HOST_V6)]);
    }

    fn without_listen_both_families_are_answered_from_the_address_asked(engine: Engine) {
        let docker = DockerHost::new().unwrap();
        let reflector = Reflector::start(&docker.host, engine, &[]);
        assert_eq!(reflector.ready["listen"], json!(["0.0.0.0:9007", "[::]:9007"]));
        let asked: [IpAddr; 4] = [
            DockerHost::HOST.into(),
            DockerHost::HOST_V6.into(),
            DockerHost::DOCKER0.into(),
            DockerHost::DOCKER0_V6.into(),
        ];
        assert_answers(&docker, &reflector, &asked);
        reflector.stop();
    }

    fn one_dual_stack_socket_answers_both_families_from_the_address_asked(engine: Engine) {
        let docker = DockerHost::new().unwrap();
        let asked = [
            other_than_docker0(DockerHost::HOST),
            other_than_docker0(DockerHost::HOST_V6),
        ];
        prove(engine, &docker, DUAL_STACK, &asked);
    }

    fn secondary_addresses_of_one_interface_are_told_apart(engine: Engine) {
        let docker = DockerHost::new().unwrap();
        for address in ["172.17.0.8/16", "172.17.0.9/16", "fd17::8/64", "fd17::9/64"] {
            docker.host.add_address("docker0", net(address)).unwrap();
        }
        // Of several IPv6 addresses that fit, the kernel prefers the youngest.
        let youngest = ip("fd17::9");
        let asked = [
            other_than_docker0(ip("172.17.0.8")),
            other_than_docker0(ip("172.17.0.9")),
            Asked { ip: ip("fd17::8"), naive: youngest },
            Asked { ip: DockerHost::DOCKER0_V6.into(), naive: youngest },
        ];
        prove(engine, &docker, PAIR, &asked);
    }

    /// `local` routes make every address of a prefix the host's own, though no interface has it.
    fn anyip_addresses_are_answered_from(engine: Engine) {
        let docker = DockerHost::new().unwrap();
        for (prefix, gateway) in [
            ("198.18.0.0/24", IpAddr::from(DockerHost::DOCKER0)),
            ("fd98::/64", DockerHost::DOCKER0_V6.into()),
        ] {
            docker.host.add_route(&Route::local(net(prefix))).unwrap();
            docker.container.add_route(&Route::to(net(prefix)).via(gateway)).unwrap();
        }
        let asked = ["198.18.0.7", "198.18.0.200", "fd98::7", "fd98::dead:beef"]
            .map(|literal| other_than_docker0(ip(literal)));
        prove(engine, &docker, PAIR, &asked);
        reflector_is_right(engine, &docker, DUAL_STACK, &asked.map(|asked| asked.ip));
    }

    fn a_vip_on_the_loopback_device_is_answered_from(engine: Engine) {
        let docker = DockerHost::new().unwrap();
        for vip in ["198.51.100.7/32", "fd99::7/128"] {
            docker.host.add_address("lo", net(vip)).unwrap();
        }
        let asked = ["198.51.100.7", "fd99::7"].map(|literal| other_than_docker0(ip(literal)));
        prove(engine, &docker, PAIR, &asked);
    }

    /// Such a socket asks for no pktinfo: it has one address only.
    fn a_socket_bound_to_one_address_answers_from_it_and_for_no_other(engine: Engine) {
        let docker = DockerHost::new().unwrap();
        let args = ["--listen", "172.16.13.13:5151", "--listen", "[fd13::13]:5151"];
        let reflector = Reflector::start(&docker.host, engine, &args);
        assert_answers(&docker, &reflector, &[DockerHost::HOST.into(), DockerHost::HOST_V6.into()]);
        Question::ask(&docker.container, DockerHost::DOCKER0, PORT).assert_refused();
        Question::ask(&docker.container, DockerHost::DOCKER0_V6, PORT).assert_refused();
        assert_eq!(reflector.stop()["received"], 2);
    }
}

on_both_engines! {
    fn without_offloads_the_hairpin_is_right_datagram_by_datagram(engine: Engine) {
        let asked = [other_than_docker0(DockerHost::HOST)];
        prove_without_offloads(engine, IPV4, &asked);
    }

    fn without_offloads_the_ipv6_hairpin_is_right_datagram_by_datagram(engine: Engine) {
        let asked = [other_than_docker0(DockerHost::HOST_V6)];
        prove_without_offloads(engine, &["--listen", "[::]:5151"], &asked);
    }

    fn without_offloads_a_dual_stack_socket_is_right_datagram_by_datagram(engine: Engine) {
        let asked = [
            other_than_docker0(DockerHost::HOST),
            other_than_docker0(DockerHost::HOST_V6),
        ];
        prove_without_offloads(engine, DUAL_STACK, &asked);
    }
}

/// With offloads a capture shows trains, whose checksums are not filled in; without them what a
/// cable would carry.
fn prove_without_offloads(engine: Engine, args: &[&str], asked: &[Asked]) {
    const COUNT: usize = 8;
    let docker = DockerHost::new().unwrap();
    let trains = |asked: &Asked| {
        let args = [args, &["--cores", "1"]].concat();
        let reflector = Reflector::start(&docker.host, engine, &args);
        let address = SocketAddr::new(asked.ip, PORT);
        let client = client(&docker.container, wildcard_of(asked.ip));
        let ((), frames) = watch_frames(&docker.container, "eth0", || {
            while_stopped(&reflector, || {
                (0..COUNT).for_each(|_| queue(&client, PAYLOAD, &docker.host, address));
            });
            for _ in 0..COUNT {
                assert_eq!(client.recv_from(&mut [0; 16]).unwrap().1, address);
            }
        });
        assert_eq!(reflector.stop()["trains_sent"], 1);
        let (replies, requests): (Vec<Frame>, _) = frames
            .into_iter()
            .partition(|frame| frame.source == address);
        assert_eq!(requests.len(), COUNT, "{requests:?}");
        (requests, replies)
    };

    for asked in asked {
        let (_, replies) = trains(asked);
        let [train] = &replies[..] else {
            panic!("{replies:?}")
        };
        assert_eq!(train.payload_len, COUNT * PAYLOAD.len());
        assert!(!train.has_checksum, "{train:?}");
    }
    for (namespace, end) in [(&docker.host, "veth1"), (&docker.container, "eth0")] {
        namespace.run(|| {
            for feature in ["tx-udp-segmentation", "tx-checksum-ip-generic"] {
                ethtool::set_feature(end, feature, false).unwrap();
            }
        });
    }
    for asked in asked {
        let (requests, replies) = trains(asked);
        assert_eq!(replies.len(), COUNT, "{replies:?}");
        for frame in requests.iter().chain(&replies) {
            assert_eq!(frame.payload_len, PAYLOAD.len(), "{frame:?}");
            assert!(frame.has_checksum, "{frame:?}");
        }
    }
    prove(engine, &docker, args, asked);
}

on_both_engines! {
    /// The answer to a translated question must fit the entry that the question has made.
    fn behind_masquerade_the_answer_fits_the_conntrack_entry(engine: Engine) {
        let docker = DockerHost::new().unwrap();
        if !in_force("behind_masquerade", docker.masquerade()) {
            return;
        }
        let asked = DockerHost::OUTSIDE_SECOND;
        let ask = || Question::ask(&docker.container, asked, PORT);

        let (question, wire) = watch(&docker.host, "eth0", || {
            beside_naive_server(&docker.outside, Wildcard::Ipv4, PORT, || {
                let question = ask();
                wait_until("the host refuses the answer", || {
                    counter(&docker.host, "Icmp", "OutDestUnreachs").unwrap() == 1
                });
                question
            })
        });
        assert!(question.is_unanswered());
        let port = question.client.port();
        assert_eq!(wire, [
            format!("172.16.13.13.{port} > 172.16.13.3.5151: UDP, length 4"),
            format!("172.16.13.2.5151 > 172.16.13.13.{port}: UDP, length 4"),
            format!("172.16.13.13 > 172.16.13.2: ICMP udp port {port} unreachable"),
        ]);
        let entries = entries_of(&docker.host, port);
        assert_eq!(entries.len(), 2, "{entries:?}");
        assert!(entries.iter().all(|entry| !entry.is_replied), "{entries:?}");

        let reflector = Reflector::start(&docker.outside, engine, IPV4);
        let (question, wire) = watch(&docker.host, "eth0", || {
            let question = ask();
            question.assert_answered();
            question
        });
        let port = question.client.port();
        assert_eq!(wire, [
            format!("172.16.13.13.{port} > 172.16.13.3.5151: UDP, length 4"),
            format!("172.16.13.3.5151 > 172.16.13.13.{port}: UDP, length 4"),
        ]);
        let entries = entries_of(&docker.host, port);
        let [entry] = &entries[..] else { panic!("{entries:?}") };
        assert!(entry.is_replied, "{entry:?}");
        assert_eq!(entry.original.source, question.client);
        assert_eq!(entry.original.destination, question.asked);
        reflector.stop();
    }

    /// A filter that lets in only answers to what went out lets the right answer in.
    fn a_stateful_filter_lets_the_answer_through(engine: Engine) {
        let docker = DockerHost::new().unwrap();
        if !in_force("a_stateful_filter", docker.stateful_filter()) {
            return;
        }
        let ask = || Question::ask(&docker.container, DockerHost::OUTSIDE_SECOND, PORT);

        let ((question, astray), wire) = watch(&docker.host, "docker0", || {
            watch(&docker.host, "eth0", || {
                beside_naive_server(&docker.outside, Wildcard::Ipv4, PORT, || {
                    let question = ask();
                    wait_until("the naive server answers", || {
                        counter(&docker.outside, "Udp", "OutDatagrams").unwrap() == 1
                    });
                    question
                })
            })
        });
        assert!(question.is_unanswered());
        assert_eq!(wire, [question.request()]);
        let reply = question.reply_from(DockerHost::OUTSIDE.into());
        assert_eq!(astray, [question.request(), reply]);
        let entries = entries_of(&docker.host, question.client.port());
        assert!(entries.iter().all(|entry| !entry.is_replied), "{entries:?}");

        let reflector = Reflector::start(&docker.outside, engine, IPV4);
        let (question, wire) = watch(&docker.host, "docker0", || {
            let question = ask();
            question.assert_answered();
            question
        });
        assert_eq!(wire, [question.request(), question.reply()]);
        let entries = entries_of(&docker.host, question.client.port());
        let [entry] = &entries[..] else { panic!("{entries:?}") };
        assert!(entry.is_replied, "{entry:?}");
        reflector.stop();
    }
}

/// What connection tracking in `namespace` knows of the flow that uses the client's `port`.
fn entries_of(namespace: &Namespace, port: u16) -> Vec<ConntrackEntry> {
    let mut entries = conntrack(namespace).unwrap();
    entries.retain(|entry| {
        let ends = [entry.original.source, entry.original.destination];
        entry.protocol == "udp" && ends.iter().any(|end| end.port() == port)
    });
    entries
}

on_both_engines! {
    /// Link-local addresses mean something only together with an interface.
    fn link_local_addresses_are_answered_from(engine: Engine) {
        let docker = DockerHost::new().unwrap();
        for address in ["fe80::13/64", "fe80::99/64"] {
            docker.host.add_address("docker0", net(address)).unwrap();
        }
        docker.container.add_address("eth0", net("fe80::3/64")).unwrap();
        // The naive server takes the youngest address of the scope of the peer's.
        let peers_and_naive = [
            (ip("fe80::3"), ip("fe80::99")),
            (DockerHost::CONTAINER_V6.into(), DockerHost::DOCKER0_V6.into()),
        ];
        for (peer, naive) in peers_and_naive {
            let ask = || Question::ask_from(&docker.container, peer, ip("fe80::13"), PORT);
            beside_naive_server(&docker.host, Wildcard::DualStack, PORT, || {
                assert_refuses(&docker, naive, ask);
            });

            let index = docker.host.interface_index("docker0").unwrap();
            let specific = format!("[fe80::13%{index}]:5151");
            for args in [PAIR, DUAL_STACK, &["--listen", &specific]] {
                let reflector = Reflector::start(&docker.host, engine, args);
                let (question, wire) = watch(&docker.host, "docker0", || {
                    let question = ask();
                    question.assert_answered();
                    question
                });
                assert_eq!(wire, [question.request(), question.reply()], "{args:?}");
                reflector.stop();
            }
        }
    }

    fn by_default_the_reply_takes_the_route(engine: Engine) {
        let roads = Roads::new();
        for (peer, asked) in [("10.1.0.2", "10.3.0.1"), ("fd01::2", "fd03::1")] {
            for args in [PAIR, DUAL_STACK] {
                roads.exchange(engine, args, peer, asked).assert_back_by_far();
            }
        }
    }

    fn with_reply_interface_same_the_reply_leaves_the_way_the_request_came(engine: Engine) {
        let roads = Roads::new();
        // The address on the far interface is asked by the near one as well.
        for asked in ["10.3.0.1", "10.2.0.1"] {
            let specific = format!("{asked}:5151");
            for listen in [PAIR, DUAL_STACK, &["--listen", &specific]] {
                let args = [listen, &["--reply-interface", "same"]].concat();
                roads.exchange(engine, &args, "10.1.0.2", asked).assert_back_by_near();
            }
        }
    }

    /// In IPv6 the interface of a message with a source is a wish (`ip6_route_output_flags`,
    /// net/ipv6/route.c): it chooses among equal routes and for `ip -6 rule … oif`, no more.
    fn with_reply_interface_same_a_more_specific_ipv6_route_still_wins(engine: Engine) {
        let roads = Roads::new();
        let args = [PAIR, &["--reply-interface", "same"]].concat();
        roads.exchange(engine, &args, "fd01::2", "fd03::1").assert_back_by_far();
        roads.server.delete_route(&Roads::back_by_far()[1]).unwrap();
        roads.exchange(engine, &args, "fd01::2", "fd03::1").assert_back_by_near();
    }

    fn a_device_option_is_answered_on_that_interface_only(engine: Engine) {
        let docker = DockerHost::new().unwrap();
        let args = [PAIR, &["--device", "docker0"]].concat();
        let reflector = Reflector::start(&docker.host, engine, &args);
        let asked: [IpAddr; 2] = [DockerHost::HOST.into(), DockerHost::HOST_V6.into()];
        assert_answers(&docker, &reflector, &asked);
        for asked in asked {
            // By its own address, but by the wrong interface: as if nobody listened.
            let (question, wire) = watch(&docker.host, "eth0", || {
                let question = Question::ask(&docker.outside, asked, PORT);
                question.assert_refused();
                question
            });
            assert!(!wire.contains(&question.reply()), "{wire:?}");
        }
        assert_eq!(reflector.stop()["received"], 2);
    }

    /// A standby address: bound before the host has it, answered from as soon as it has.
    fn freebind_listens_on_an_address_that_comes_later(engine: Engine) {
        let docker = DockerHost::new().unwrap();
        let listen = ["--listen", "172.16.13.77:5151", "--listen", "[fd13::77]:5151"];
        let reflector = Reflector::start(&docker.host, engine, &[&listen[..], &["--freebind"]].concat());
        for address in ["172.16.13.77/24", "fd13::77/64"] {
            docker.host.add_address("eth0", net(address)).unwrap();
        }
        assert_answers(&docker, &reflector, &[ip("172.16.13.77"), ip("fd13::77")]);
        reflector.stop();
        for address in ["172.16.13.77/24", "fd13::77/64"] {
            docker.host.delete_address("eth0", net(address)).unwrap();
        }
        let plain = docker.host.run(|| reflector_testkit::command(&listen).output().unwrap());
        assert_eq!(plain.status.code(), Some(1), "without the option it cannot be bound");
    }
}

/// One exchange: the reply that is right, and what went over each road after the request.
struct Trip {
    reply: String,
    near: Vec<String>,
    far: Vec<String>,
}

impl Trip {
    fn assert_back_by_near(&self) {
        assert_eq!(
            (&self.near[..], &self.far[..]),
            (&[self.reply.clone()][..], &[][..])
        );
    }

    fn assert_back_by_far(&self) {
        assert_eq!(
            (&self.near[..], &self.far[..]),
            (&[][..], &[self.reply.clone()][..])
        );
    }
}

/// A server and a peer with two roads between them: the peer asks by the near one, and the
/// server's route back to it is the far one.
///
/// ```text
///  peer                                          server
///  near 10.1.0.2/24, fd01::2/64 ◀──▶ near 10.1.0.1/24, fd01::1/64
///  far  10.2.0.2/24, fd02::2/64 ◀──▶ far  10.2.0.1/24, fd02::1/64
///                                    lo   10.3.0.1/32, fd03::1/128
/// ```
struct Roads {
    server: Namespace,
    peer: Namespace,
}

impl Roads {
    fn new() -> Self {
        let (server, peer) = (Namespace::new().unwrap(), Namespace::new().unwrap());
        for (link, prefix_v4, prefix_v6) in [("near", "10.1.0", "fd01"), ("far", "10.2.0", "fd02")]
        {
            server.add_veth(link, &peer, link).unwrap();
            for (namespace, host) in [(&server, 1), (&peer, 2)] {
                let addresses = [
                    format!("{prefix_v4}.{host}/24"),
                    format!("{prefix_v6}::{host}/64"),
                ];
                for address in addresses {
                    namespace.add_address(link, net(&address)).unwrap();
                }
                namespace.set_up(link).unwrap();
            }
            server.wait_ready(link).unwrap();
            peer.wait_ready(link).unwrap();
        }
        for vip in ["10.3.0.1/32", "fd03::1/128"] {
            server.add_address("lo", net(vip)).unwrap();
        }
        for (asked, near) in [
            ("10.3.0.1/32", "10.1.0.1"),
            ("10.2.0.1/32", "10.1.0.1"),
            ("fd03::1/128", "fd01::1"),
        ] {
            peer.add_route(&Route::to(net(asked)).via(ip(near)))
                .unwrap();
        }
        for route in Self::back_by_far() {
            server.add_route(&route).unwrap();
        }
        Self { server, peer }
    }

    fn back_by_far() -> [Route; 2] {
        [("10.1.0.2/32", "10.2.0.2"), ("fd01::2/128", "fd02::2")]
            .map(|(peer, far)| Route::to(net(peer)).via(ip(far)))
    }

    /// `peer` asks `asked` of a reflector with `args`, and gets its answer.
    fn exchange(&self, engine: Engine, args: &[&str], peer: &str, asked: &str) -> Trip {
        let reflector = Reflector::start(&self.server, engine, args);
        let ((question, far), near) = watch(&self.server, "near", || {
            watch(&self.server, "far", || {
                let question = Question::ask_from(&self.peer, ip(peer), ip(asked), PORT);
                question.assert_answered();
                question
            })
        });
        reflector.stop();
        assert_eq!(near[0], question.request());
        Trip {
            reply: question.reply(),
            near: near[1..].to_vec(),
            far,
        }
    }
}

on_both_engines! {
    fn of_64_addresses_interleaved_none_is_mistaken_in_100_000_datagrams(engine: Engine) {
        let (docker, addresses) = with_addresses("10.64.0", "10.64.0", 64);
        let client = client(&docker.container, ip("0.0.0.0"));
        beside_naive_server(&docker.host, Wildcard::Ipv4, PORT, || {
            assert_eq!(ask_all(&client, &addresses, 1), addresses.len(), "all are mistaken");
        });
        assert_none_is_mistaken(engine, &docker, IPV4, &client, &addresses, 1, 100_000);
    }

    /// Requests come in trains of eight, so that a buffer holds several as well.
    fn of_64_addresses_none_is_mistaken_in_100_000_datagrams_of_trains(engine: Engine) {
        let (docker, addresses) = with_addresses("10.64.0", "10.64.0", 64);
        let client = client(&docker.container, ip("0.0.0.0"));
        sockopt::set_int(&client, libc::SOL_UDP, libc::UDP_SEGMENT, SERIAL_LEN as i32).unwrap();
        let summary = assert_none_is_mistaken(engine, &docker, IPV4, &client, &addresses, 8, 100_000);
        assert!(summary["trains_received"].as_u64().unwrap() > 0, "{summary}");
    }

    fn of_64_addresses_of_both_families_none_is_mistaken_on_one_socket(engine: Engine) {
        let (docker, addresses) = with_addresses("10.64.0", "fd64:", 64);
        // A dual-stack client as well: it writes and reads IPv4 addresses v4-mapped.
        let client = client(&docker.container, ip("::"));
        let mapped: Vec<SocketAddr> = addresses.iter().map(mapped).collect();
        beside_naive_server(&docker.host, Wildcard::DualStack, PORT, || {
            assert_eq!(ask_all(&client, &mapped, 1), mapped.len(), "all are mistaken");
        });
        assert_none_is_mistaken(engine, &docker, DUAL_STACK, &client, &mapped, 1, 20_000);
    }
}

/// Bytes of payload: which address is asked, and which datagram of the window it is.
const SERIAL_LEN: usize = 4;

/// The picture with `count` more addresses on the host's eth0, every other with each prefix; and
/// these, with the port.
fn with_addresses(even: &str, odd: &str, count: usize) -> (DockerHost, Vec<SocketAddr>) {
    let docker = DockerHost::new().unwrap();
    let address = |index: usize| {
        let prefix = if index.is_multiple_of(2) { even } else { odd };
        let number = index + 1;
        if prefix.contains(':') {
            net(&format!("{prefix}:{number:x}/64"))
        } else {
            net(&format!("{prefix}.{number}/24"))
        }
    };
    let addresses: Vec<_> = (0..count).map(address).collect();
    for &address in &addresses {
        docker.host.add_address("eth0", address).unwrap();
    }
    let with_port = |address: &ipnet::IpNet| SocketAddr::new(address.addr(), PORT);
    let addresses = addresses.iter().map(with_port).collect();
    (docker, addresses)
}

fn mapped(address: &SocketAddr) -> SocketAddr {
    match address.ip() {
        IpAddr::V4(ip) => SocketAddr::new(ip.to_ipv6_mapped().into(), address.port()),
        IpAddr::V6(_) => *address,
    }
}

/// Asks each of `addresses` for `train_len` datagrams with one send, and then waits for as many
/// replies as there were datagrams; how many of them came from another address than was asked.
fn ask_all(client: &UdpSocket, addresses: &[SocketAddr], train_len: usize) -> usize {
    // Few enough for the client's receive buffer: none is lost, so that every reply is seen.
    let window = 128 / train_len;
    let mut mistaken = 0;
    for (first, asked) in addresses.chunks(window).enumerate() {
        for (index, address) in asked.iter().enumerate() {
            let serial = |segment| [(first * window + index) as u8, segment as u8, 0, 0];
            let train: Vec<u8> = (0..train_len).flat_map(serial).collect();
            client.send_to(&train, address).unwrap();
        }
        let mut unanswered = vec![true; 256 * train_len];
        for _ in 0..asked.len() * train_len {
            let mut bytes = [0; 2 * SERIAL_LEN];
            let (len, source) = client.recv_from(&mut bytes).expect("none is lost");
            let (index, segment) = (usize::from(bytes[0]), usize::from(bytes[1]));
            assert_eq!(len, SERIAL_LEN);
            assert!(
                std::mem::take(&mut unanswered[index * train_len + segment]),
                "answered twice"
            );
            mistaken += usize::from(source.ip() != addresses[index].ip());
        }
    }
    mistaken
}

/// A reflector with `args` answers at least `count_min` datagrams of `client`, each from the
/// address asked; its summary.
fn assert_none_is_mistaken(
    engine: Engine,
    docker: &DockerHost,
    args: &[&str],
    client: &UdpSocket,
    addresses: &[SocketAddr],
    train_len: usize,
    count_min: usize,
) -> Value {
    let args = [args, &["--cores", "1"]].concat();
    let reflector = Reflector::start(&docker.host, engine, &args);
    let per_round = addresses.len() * train_len;
    let rounds = count_min.div_ceil(per_round);
    for _ in 0..rounds {
        assert_eq!(ask_all(client, addresses, train_len), 0);
    }
    let summary = reflector.stop();
    let count = |key: &str| summary[key].as_u64().unwrap();
    assert_eq!(count("replied"), (rounds * per_round) as u64, "{summary}");
    // Neighbours in time never ask the same address, so a batch of two holds two addresses.
    assert!(
        count("batches") < count("received") / train_len as u64,
        "{summary}"
    );
    summary
}

/// On the host's eth0, in a network of its own: without it the host has no way there.
const COMES_AND_GOES: [&str; 2] = ["172.18.13.14/24", "fd18::14/64"];

/// Datagrams that wait for a reply when it becomes impossible.
const QUEUED: usize = 20;

on_both_engines! {
    fn replies_from_an_address_removed_meanwhile_are_counted_and_come_again_with_it(engine: Engine) {
        let docker = DockerHost::new().unwrap();
        let address = net(COMES_AND_GOES[0]);
        docker.host.add_address("eth0", address).unwrap();
        for listen in [IPV4, DUAL_STACK] {
            for gso in ["on", "off"] {
                let sick = Sick {
                    docker: &docker,
                    ip: address.addr(),
                    well: DockerHost::DOCKER0.into(),
                };
                let summary = sick.falls_ill_and_recovers(
                    engine,
                    &[listen, &["--gso", gso]].concat(),
                    || docker.host.delete_address("eth0", address).unwrap(),
                    || docker.host.add_address("eth0", address).unwrap(),
                    0,
                );
                // Which of the two depends on the kernel's age.
                let errors = summary["send_errors"].as_object().unwrap();
                let [(errno, count)] = &errors.iter().collect::<Vec<_>>()[..] else {
                    panic!("{summary}")
                };
                assert!(["ENETUNREACH", "EINVAL"].contains(&errno.as_str()), "{summary}");
                assert_eq!(**count, QUEUED, "{summary}");
            }
        }
    }

    /// IPV6_FREEBIND, which AnyIP needs, lets a reply leave from an address that is gone: still from
    /// the one asked.
    fn ipv6_replies_still_leave_from_the_address_removed_meanwhile(engine: Engine) {
        let docker = DockerHost::new().unwrap();
        let address = net(COMES_AND_GOES[1]);
        docker.host.add_address("eth0", address).unwrap();
        for listen in [PAIR, DUAL_STACK] {
            let sick = Sick {
                docker: &docker,
                ip: address.addr(),
                well: DockerHost::DOCKER0_V6.into(),
            };
            let summary = sick.falls_ill_and_recovers(
                engine,
                listen,
                || docker.host.delete_address("eth0", address).unwrap(),
                || docker.host.add_address("eth0", address).unwrap(),
                QUEUED,
            );
            assert_eq!(summary["send_errors"], json!({}), "{summary}");
        }
    }

    /// Bound to its address, a socket needs no pktinfo, and keeps the address all the same.
    fn a_bound_socket_whose_address_is_removed_does_not_answer_from_another(engine: Engine) {
        let docker = DockerHost::new().unwrap();
        for (address, is_answered) in COMES_AND_GOES.map(net).into_iter().zip([false, true]) {
            docker.host.add_address("eth0", address).unwrap();
            let listen = SocketAddr::new(address.addr(), PORT).to_string();
            let reflector = Reflector::start(&docker.host, engine, &["--listen", &listen]);
            let client = client(&docker.container, wildcard_of(address.addr()));
            let (summary, packets) = watch_packets(&docker.host, "docker0", || {
                while_stopped(&reflector, || {
                    let asked = reachable(&docker.container, address.addr(), PORT);
                    for _ in 0..QUEUED {
                        queue(&client, &naming(asked.ip()), &docker.host, asked);
                    }
                    docker.host.delete_address("eth0", address).unwrap();
                });
                reflector.stop()
            });
            assert_eq!(summary["received"], QUEUED, "{summary}");
            let answered = if is_answered { QUEUED } else { 0 };
            assert_eq!(summary["replied"], answered, "{summary}");
            let replies: Vec<_> = packets.iter().filter_map(asked_and_source).collect();
            assert_eq!(replies.is_empty(), !is_answered, "{replies:?}");
            assert!(replies.iter().all(|(asked, source)| asked == source), "{replies:?}");
        }
    }

    fn replies_that_a_firewall_drops_are_counted_until_the_rule_goes(engine: Engine) {
        let docker = DockerHost::new().unwrap();
        if !in_force("replies_that_a_firewall_drops", nft(&docker.host, "table inet empty {}")) {
            return;
        }
        for (family, ip, well) in [
            ("ip", IpAddr::from(DockerHost::HOST), IpAddr::from(DockerHost::DOCKER0)),
            ("ip6", DockerHost::HOST_V6.into(), DockerHost::DOCKER0_V6.into()),
        ] {
            let rules = format!(
                "table inet wall {{
                    chain output {{
                        type filter hook output priority filter;
                        {family} saddr {ip} udp sport 5151 drop;
                    }}
                }}"
            );
            for gso in ["on", "off"] {
                let sick = Sick { docker: &docker, ip, well };
                let summary = sick.falls_ill_and_recovers(
                    engine,
                    &[PAIR, &["--gso", gso]].concat(),
                    || nft(&docker.host, &rules).unwrap(),
                    || nft(&docker.host, "delete table inet wall").unwrap(),
                    0,
                );
                assert_eq!(summary["send_errors"], json!({ "EPERM": QUEUED }), "{summary}");
            }
        }
    }

    fn an_address_that_comes_and_goes_under_load_is_never_replaced_by_another(engine: Engine) {
        let docker = DockerHost::new().unwrap();
        let steady = DockerHost::HOST.into();
        let fickle = net(COMES_AND_GOES[0]);
        let reflector = Reflector::start(&docker.host, engine, PAIR);
        let has_ended = AtomicBool::new(false);
        let rounds = AtomicUsize::new(0);
        let load = || {
            let client = client(&docker.container, ip("0.0.0.0"));
            while !has_ended.load(Ordering::Relaxed) {
                // Two at once to the one that comes and goes, so that replies wait in trains.
                for asked in [fickle.addr(), fickle.addr(), steady] {
                    client.send_to(&naming(asked), (asked, PORT)).unwrap();
                }
                // The steady one always answers, whatever becomes of the other.
                let mut bytes = [0; 64];
                loop {
                    let (len, source) = client.recv_from(&mut bytes).expect("one answers");
                    assert_eq!(bytes[..len], naming(source.ip()));
                    if source.ip() == steady {
                        break;
                    }
                }
                rounds.fetch_add(1, Ordering::Relaxed);
            }
        };
        let (_, packets) = watch_packets(&docker.host, "docker0", || {
            thread::scope(|scope| {
                let load = scope.spawn(load);
                let some_load = || {
                    let enough = rounds.load(Ordering::Relaxed) + 20;
                    wait_until("the load goes on", || {
                        load.is_finished() || rounds.load(Ordering::Relaxed) >= enough
                    });
                };
                for _ in 0..10 {
                    docker.host.add_address("eth0", fickle).unwrap();
                    some_load();
                    docker.host.delete_address("eth0", fickle).unwrap();
                    some_load();
                }
                has_ended.store(true, Ordering::Relaxed);
                load.join().unwrap();
            });
        });
        let replies: Vec<_> = packets.iter().filter_map(asked_and_source).collect();
        assert!(replies.iter().all(|(asked, source)| asked == source), "{replies:?}");
        let from_fickle = replies.iter().filter(|(_, source)| *source == fickle.addr());
        assert!(from_fickle.count() > 0);
        docker.host.add_address("eth0", fickle).unwrap();
        assert_answers(&docker, &reflector, &[fickle.addr(), steady]);
        reflector.stop();
    }
}

/// A payload that says which address is asked: a line, since a capture may show a train.
fn naming(asked: IpAddr) -> Vec<u8> {
    format!("{asked}\n").into_bytes()
}

/// The address asked, if `packet` is a reply to a request with [`naming`], and the reply's source.
fn asked_and_source(packet: &Packet) -> Option<(IpAddr, IpAddr)> {
    match &packet.kind {
        Kind::Udp { payload, .. } if packet.source.port() == PORT => {
            let asked = str::from_utf8(payload).unwrap().lines().next().unwrap();
            Some((ip(asked), packet.source.ip()))
        }
        _ => None,
    }
}

/// An address of the host from which no reply can be sent for a while, and one that stays well.
struct Sick<'a> {
    docker: &'a DockerHost,
    ip: IpAddr,
    well: IpAddr,
}

impl Sick<'_> {
    /// [`QUEUED`] datagrams to the sick address wait, and one to the well one behind them, when it
    /// falls ill; then it recovers and is asked once more. Of those queued, `answered` get a
    /// reply, and no reply comes from another address than the one asked. Returns the summary.
    fn falls_ill_and_recovers(
        &self,
        engine: Engine,
        args: &[&str],
        fall_ill: impl FnOnce(),
        recover: impl FnOnce(),
        answered: usize,
    ) -> Value {
        let &Self { docker, ip, well } = self;
        let args = [args, &["--cores", "1"]].concat();
        let reflector = Reflector::start(&docker.host, engine, &args);
        let client = client(&docker.container, wildcard_of(ip));
        let source = || client.recv_from(&mut [0; 64]).unwrap().1.ip();
        let ((), packets) = watch_packets(&docker.host, "docker0", || {
            while_stopped(&reflector, || {
                for asked in [ip; QUEUED].iter().chain([&well]) {
                    queue(
                        &client,
                        &naming(*asked),
                        &docker.host,
                        SocketAddr::new(*asked, PORT),
                    );
                }
                fall_ill();
            });
            // The well one comes last: the sick ones have then been tried.
            let sources: Vec<_> = (0..=answered).map(|_| source()).collect();
            assert_eq!(sources.last(), Some(&well), "{sources:?}");
            recover();
            client.send_to(&naming(ip), (ip, PORT)).unwrap();
            assert_eq!(source(), ip);
        });
        let replies: Vec<_> = packets.iter().filter_map(asked_and_source).collect();
        assert!(
            replies.iter().all(|(asked, source)| asked == source),
            "{replies:?}"
        );
        let summary = reflector.stop();
        assert_eq!(summary["received"], QUEUED + 2, "{summary}");
        assert_eq!(summary["replied"], answered + 2, "{summary}");
        summary
    }
}
