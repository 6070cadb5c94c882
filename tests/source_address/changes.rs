//! Addresses that go, and replies that a firewall drops: no other address steps in.

use std::net::{IpAddr, SocketAddr};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;

use reflector_netlab::capture::{Kind, Packet};
use reflector_netlab::topology::{DockerHost, in_force, net, nft};
use reflector_testkit::asking::{client, queue, reachable, watch_packets, wildcard_of};
use reflector_testkit::queue::while_stopped;
use reflector_testkit::{Engine, LISTEN, PORT, Reflector, on_both_engines, own_lines, wait_until};
use serde_json::{Value, json};

use super::{DUAL_STACK, IPV4, assert_answers, ip};

/// On the host's eth0, in a network of its own: without it the host has no way there.
const COMES_AND_GOES: [&str; 2] = ["172.18.13.14/24", "fd18::14/64"];

/// Datagrams that wait for a reply when it becomes impossible.
const QUEUED: usize = 20;

on_both_engines! {
    fn replies_from_an_address_that_is_gone_are_counted_and_come_again_with_it(engine: Engine) {
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

    /// IPV6_FREEBIND, which AnyIP needs, lets a reply leave from an address that is gone: still
    /// from the one asked.
    fn ipv6_replies_still_leave_from_the_address_removed_meanwhile(engine: Engine) {
        let docker = DockerHost::new().unwrap();
        let address = net(COMES_AND_GOES[1]);
        docker.host.add_address("eth0", address).unwrap();
        for listen in [LISTEN, DUAL_STACK] {
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
            let (ended, packets) = watch_packets(&docker.host, "docker0", || {
                while_stopped(&reflector, || {
                    let asked = reachable(&docker.container, address.addr(), PORT);
                    for _ in 0..QUEUED {
                        queue(&client, &naming(asked.ip()), &docker.host, asked);
                    }
                    docker.host.delete_address("eth0", address).unwrap();
                });
                reflector.stop_with_log()
            });
            let (summary, log) = ended;
            assert_refusals_are_told(&summary, &log);
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
                    &[LISTEN, &["--gso", gso]].concat(),
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
        let reflector = Reflector::start(&docker.host, engine, LISTEN);
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
        let (summary, log) = reflector.stop_with_log();
        assert_refusals_are_told(&summary, &log);
    }
}

/// Each error by which replies were refused is logged once, and nothing else is.
fn assert_refusals_are_told(summary: &Value, log: &str) {
    let errors = summary["send_errors"].as_object().unwrap();
    let expected = errors
        .keys()
        .map(|name| format!(" WARN the kernel refuses replies with {name} "));
    let expected: Vec<_> = expected.collect();
    assert_eq!(own_lines(log).count(), expected.len(), "{log}");
    assert!(expected.iter().all(|start| log.contains(start)), "{log}");
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
        let (summary, log) = reflector.stop_with_log();
        assert_refusals_are_told(&summary, &log);
        assert_eq!(summary["received"], QUEUED + 2, "{summary}");
        assert_eq!(summary["replied"], answered + 2, "{summary}");
        summary
    }
}
