//! Every kind of address that a host can be asked at, with offloads and without.

use std::net::{IpAddr, SocketAddr};

use reflector_netlab::ethtool;
use reflector_netlab::topology::{DockerHost, Route, net};
use reflector_testkit::asking::{PAYLOAD, Question, client, queue, wildcard_of};
use reflector_testkit::frames::{Frame, watch_frames};
use reflector_testkit::queue::while_stopped;
use reflector_testkit::{Engine, LISTEN, PORT, Reflector, on_both_engines};
use serde_json::json;

use super::{
    Asked, DUAL_STACK, IPV4, assert_answers, ip, other_than_docker0, prove, reflector_is_right,
};

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
        prove(engine, &docker, LISTEN, &asked);
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
        prove(engine, &docker, LISTEN, &asked);
        reflector_is_right(engine, &docker, DUAL_STACK, &asked.map(|asked| asked.ip));
    }

    fn a_vip_on_the_loopback_device_is_answered_from(engine: Engine) {
        let docker = DockerHost::new().unwrap();
        for vip in ["198.51.100.7/32", "fd99::7/128"] {
            docker.host.add_address("lo", net(vip)).unwrap();
        }
        let asked = ["198.51.100.7", "fd99::7"].map(|literal| other_than_docker0(ip(literal)));
        prove(engine, &docker, LISTEN, &asked);
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
