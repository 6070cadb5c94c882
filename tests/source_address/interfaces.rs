//! Where the interface matters: link-local addresses, more than one road, bound devices.

use std::net::IpAddr;

use reflector_netlab::naive::Wildcard;
use reflector_netlab::topology::{DockerHost, Namespace, Route, net};
use reflector_testkit::asking::{Question, beside_naive_server, watch};
use reflector_testkit::{Engine, LISTEN, PORT, Reflector, on_both_engines};

use super::{DUAL_STACK, assert_answers, assert_refuses, ip};

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
            for args in [LISTEN, DUAL_STACK, &["--listen", &specific]] {
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

    fn a_device_option_is_answered_on_that_interface_only(engine: Engine) {
        let docker = DockerHost::new().unwrap();
        let args = [LISTEN, &["--device", "docker0"]].concat();
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
        let args = [&listen[..], &["--freebind"]].concat();
        let reflector = Reflector::start(&docker.host, engine, &args);
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

    fn by_default_the_reply_takes_the_route(engine: Engine) {
        let roads = Roads::new();
        for (peer, asked) in [("10.1.0.2", "10.3.0.1"), ("fd01::2", "fd03::1")] {
            for args in [LISTEN, DUAL_STACK] {
                roads.exchange(engine, args, peer, asked).assert_back_by_far();
            }
        }
    }

    fn with_reply_interface_same_the_reply_leaves_the_way_the_request_came(engine: Engine) {
        let roads = Roads::new();
        // The address on the far interface is asked by the near one as well.
        for asked in ["10.3.0.1", "10.2.0.1"] {
            let specific = format!("{asked}:5151");
            for listen in [LISTEN, DUAL_STACK, &["--listen", &specific]] {
                let args = [listen, &["--reply-interface", "same"]].concat();
                roads.exchange(engine, &args, "10.1.0.2", asked).assert_back_by_near();
            }
        }
    }

    /// The kernel takes such a peer for a neighbour, which it need not be.
    fn with_reply_interface_same_it_says_where_no_route_leads_back(engine: Engine) {
        let roads = Roads::new();
        let args = [LISTEN, &["--reply-interface", "same", "--interval", "100ms"]].concat();
        roads.peer.add_address("near", net("10.4.0.2/32")).unwrap();
        roads.server.add_route(&Route::to(net("10.4.0.2/32")).via(ip("10.2.0.2"))).unwrap();
        for (peer, is_known) in [("10.1.0.2", true), ("10.4.0.2", false)] {
            let reflector = Reflector::start(&roads.server, engine, &args);
            Question::ask_from(&roads.peer, ip(peer), ip("10.3.0.1"), PORT).assert_answered();
            reflector.wait_for_report("it is counted", |report| report["received"] == 1);
            let (_, log) = reflector.stop_with_log();
            let said = format!("no route leads back to {peer}:");
            assert_eq!(log.contains(&said), !is_known, "{log}");
            assert_eq!(log.contains("`ip route add 10.4.0.2/32 … dev near`"), !is_known, "{log}");
        }
    }

    /// In IPv6 the interface of a message with a source is a wish (`ip6_route_output_flags`,
    /// net/ipv6/route.c): it chooses among equal routes and for `ip -6 rule … oif`, no more.
    fn with_reply_interface_same_a_more_specific_ipv6_route_still_wins(engine: Engine) {
        let roads = Roads::new();
        let args = [LISTEN, &["--reply-interface", "same"]].concat();
        roads.exchange(engine, &args, "fd01::2", "fd03::1").assert_back_by_far();
        roads.server.delete_route(&Roads::back_by_far()[1]).unwrap();
        roads.exchange(engine, &args, "fd01::2", "fd03::1").assert_back_by_near();
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
