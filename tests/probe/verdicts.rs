//! Each word of `reflector probe`, and its exit code.

use std::net::SocketAddr;
use std::time::Duration;

use reflector_netlab::naive::{NaiveServer, Wildcard};
use reflector_netlab::topology::{DockerHost, Namespace, in_force, in_namespaces, net, nft};
use reflector_testkit::targets::{Fault, Target};
use reflector_testkit::{ASKED, LISTEN, PORT, Reflector, at, on_both_engines};

use super::{run, run_json};

/// Long enough for an answer on a busy machine; waited for only where none comes in time.
const PATIENT: &str = "--timeout 10s";
/// For what never comes.
const SHORT: &str = "--timeout 100ms";

on_both_engines! {
    /// From the address asked, by either kind of socket, and with what the server tells.
    fn a_reflector_is_ok_and_tells_how_it_was_asked(engine: Engine) {
        let picture = DockerHost::new().unwrap();
        let options = [LISTEN, &["--echo-info", "--cores", "1"]].concat();
        let reflector = Reflector::start(&picture.host, engine, &options);
        for ip in ASKED {
            let asked = at(ip);
            for kind in ["", "--connected"] {
                let line = format!("probe {asked} {PATIENT} {kind}");
                assert_eq!(run(&picture.container, &line), (0, "ok\n".to_owned()));
            }
            let line = format!("probe {asked} {PATIENT} -n 7 --source-port 40007");
            let (code, object) = run_json(&picture.container, &line);
            let own: SocketAddr = match asked {
                SocketAddr::V4(_) => (DockerHost::CONTAINER, 40_007).into(),
                SocketAddr::V6(_) => (DockerHost::CONTAINER_V6, 40_007).into(),
            };
            assert_eq!((code, &object["verdict"]), (0, &"ok".into()));
            assert_eq!((&object["sent"], &object["received"]), (&7.into(), &7.into()));
            assert_eq!(object["local"], own.to_string());
            let told = &object["told"];
            assert_eq!(told["peer"], own.to_string(), "{object}");
            assert_eq!(told["local"], asked.to_string(), "{object}");
            assert_eq!((&told["received"], &told["hops"]), (&7.into(), &64.into()), "{object}");
        }
        reflector.stop();
    }

    /// What is no reflector with --echo-info tells nothing, and is ok all the same.
    fn without_echo_info_nothing_is_told(engine: Engine) {
        let picture = DockerHost::new().unwrap();
        let reflector = Reflector::start(&picture.host, engine, LISTEN);
        for ip in ASKED {
            let line = format!("probe {} {PATIENT}", at(ip));
            let (code, object) = run_json(&picture.container, &line);
            assert_eq!((code, &object["told"]), (0, &serde_json::Value::Null), "{object}");
        }
        reflector.stop();
    }

    fn a_zone_names_the_interface_of_the_target(engine: Engine) {
        let [host, peer] = [(); 2].map(|()| Namespace::new().unwrap());
        host.add_veth("eth0", &peer, "eth1").unwrap();
        let ends = [(&host, "eth0", "fe80::7/64"), (&peer, "eth1", "fe80::8/64")];
        for (namespace, link, address) in ends {
            namespace.add_address(link, net(address)).unwrap();
            namespace.set_up(link).unwrap();
        }
        host.wait_ready("eth0").unwrap();
        peer.wait_ready("eth1").unwrap();
        let reflector = Reflector::start(&host, engine, &["-l", "[::]:5151", "--echo-info"]);
        for kind in ["", "--connected"] {
            let line = format!("probe [fe80::7%eth1]:5151 {PATIENT} {kind}");
            let (code, object) = run_json(&peer, &line);
            assert_eq!(code, 0, "{object}");
            assert_eq!(object["told"]["local"], "[fe80::7]:5151", "{object}");
        }
        reflector.stop();
    }
}

#[test]
fn a_wrong_source_is_told_unless_it_is_expected() {
    let name = "verdicts::a_wrong_source_is_told_unless_it_is_expected";
    in_namespaces(name, || {
        let docker = DockerHost::new().unwrap();
        let naive = NaiveServer::start(&docker.host, Wildcard::Ipv4, PORT).unwrap();
        let asked = SocketAddr::from((DockerHost::HOST, naive.port()));
        let line = format!("probe {asked} -n 3 {PATIENT}");
        assert_eq!(
            run(&docker.container, &line),
            (4, "wrong-source\n".to_owned())
        );
        let (_, object) = run_json(&docker.container, &line);
        let seen = SocketAddr::from((DockerHost::DOCKER0, naive.port()));
        assert_eq!(object["wrong_source"][seen.to_string()], 3, "{object}");
        assert_eq!(object["received"], 0, "{object}");

        for source in [DockerHost::DOCKER0.to_string(), seen.to_string()] {
            let line = format!("{line} --expect-source {source}");
            assert_eq!(run(&docker.container, &line), (0, "ok\n".to_owned()));
        }
        let line = format!("{line} --expect-source {}:9", DockerHost::DOCKER0);
        assert_eq!(
            run(&docker.container, &line),
            (4, "wrong-source\n".to_owned())
        );
        // A client with a connected socket is given nothing.
        let line = format!("probe {asked} --connected {SHORT}");
        assert_eq!(run(&docker.container, &line), (3, "timeout\n".to_owned()));
    });
}

#[test]
fn each_fault_has_its_word() {
    let name = "verdicts::each_fault_has_its_word";
    in_namespaces(name, || {
        let host = Namespace::new().unwrap();
        for (fault, options, expected) in [
            (Fault::None, "-n 20", (0, "ok\n")),
            (Fault::Silence, SHORT, (3, "timeout\n")),
            (Fault::Foreign, SHORT, (3, "timeout\n")),
            (Fault::OtherPort, PATIENT, (4, "wrong-source\n")),
            (Fault::DropTenth, "-n 10 --timeout 100ms", (5, "loss\n")),
            (Fault::CorruptTenth, "-n 10 --timeout 100ms", (5, "loss\n")),
            (Fault::CutTenth, "-n 10 --timeout 100ms", (5, "loss\n")),
            // What comes more than once, or in another order, is there.
            (Fault::Duplicate, "-n 10", (0, "ok\n")),
            (Fault::Swap, "-n 10", (0, "ok\n")),
            (
                Fault::DelayTenth(Duration::from_millis(20)),
                "-n 10",
                (0, "ok\n"),
            ),
        ] {
            let target = host.run(|| Target::start(fault));
            let (code, word) = run(&host, &format!("probe {} {options}", target.addr));
            assert_eq!((code, &*word), expected, "{fault:?}");
        }
    });
}

#[test]
fn what_is_expected_is_fine_and_nothing_else() {
    let name = "verdicts::what_is_expected_is_fine_and_nothing_else";
    in_namespaces(name, || {
        let host = Namespace::new().unwrap();
        let [silent, whole] =
            [Fault::Silence, Fault::None].map(|it| host.run(|| Target::start(it)));
        for (target, expect, expected) in [
            (silent.addr, "timeout", (0, "timeout\n")),
            (silent.addr, "refused,timeout", (0, "timeout\n")),
            (silent.addr, "refused", (3, "timeout\n")),
            (silent.addr, "ok", (3, "timeout\n")),
            (whole.addr, "ok", (0, "ok\n")),
            (whole.addr, "timeout", (5, "ok\n")),
        ] {
            let options = if target == silent.addr {
                SHORT
            } else {
                PATIENT
            };
            let (code, word) = run(
                &host,
                &format!("probe {target} {options} --expect {expect}"),
            );
            assert_eq!((code, &*word), expected, "{expect}");
        }
    });
}

/// As soon as it is known: none of these waits for its patience.
#[test]
fn who_refuses_is_told_from_a_way_that_is_not_there() {
    let name = "verdicts::who_refuses_is_told_from_a_way_that_is_not_there";
    in_namespaces(name, || {
        let docker = DockerHost::new().unwrap();
        for ip in ASKED {
            for options in ["", "--connected", "-n 5"] {
                let line = format!("probe {} --timeout 60s {options}", at(ip));
                assert_eq!(
                    run(&docker.container, &line),
                    (6, "refused\n".to_owned()),
                    "{line}"
                );
            }
        }
        let alone = Namespace::new().unwrap();
        for target in ["192.0.2.1", "2001:db8::1"] {
            for options in ["", "--connected", "-n 3"] {
                let line = format!("probe {target} --timeout 60s {options}");
                let (code, word) = run(&alone, &line);
                assert_eq!((code, &*word), (7, "unreachable\n"), "{line}");
            }
        }
        let (_, object) = run_json(&alone, "probe 192.0.2.1 -n 3");
        assert_eq!(
            (&object["send_error"], &object["sent"]),
            (&"ENETUNREACH".into(), &0.into())
        );
    });
}

#[test]
fn a_policy_drops_or_rejects() {
    let name = "verdicts::a_policy_drops_or_rejects";
    in_namespaces(name, || {
        let docker = DockerHost::new().unwrap();
        let rules = nft(
            &docker.host,
            "table inet filter {
                chain input {
                    type filter hook input priority filter; policy accept;
                    udp dport 5151 drop;
                    udp dport 5152 reject with icmpx admin-prohibited;
                    udp dport 5153 reject;
                }
            }",
        );
        if !in_force(name, rules) {
            return;
        }
        for (port, expected) in [
            (5151, (3, "timeout\n")),
            (5152, (7, "unreachable\n")),
            (5153, (6, "refused\n")),
        ] {
            for ip in ASKED {
                let options = if port == 5151 { SHORT } else { "--timeout 60s" };
                let asked = SocketAddr::new(ip, port);
                let (code, word) = run(&docker.container, &format!("probe {asked} {options}"));
                assert_eq!((code, &*word), expected, "{asked}");
            }
        }
        let (_, object) = run_json(&docker.container, "probe 172.16.13.13:5152");
        let icmp = &object["icmp"];
        assert_eq!(
            (&icmp["icmp_type"], &icmp["icmp_code"]),
            (&3.into(), &13.into()),
            "{object}"
        );
        assert_eq!(icmp["by"], "172.16.13.13", "{object}");
    });
}
