//! IPv6 addresses that this host is still trying, or that another host has (RFC 4862).

use reflector_measure::dad::{self, Unusable};
use reflector_netlab::topology::{Namespace, in_namespaces, net};
use reflector_testkit::{Client, Engine, Reflector, run_to_end, text};

use super::{FAILED, assert_refused};

/// A host whose link tries addresses for a third of a second, and its neighbour.
fn host_and_neighbour() -> Option<(Namespace, Namespace)> {
    let [host, neighbour] = [(); 2].map(|()| Namespace::new().unwrap());
    host.add_veth("e0", &neighbour, "e1").unwrap();
    for (name, value) in [
        ("ipv6/conf/e0/accept_dad", "1"),
        ("ipv6/conf/e0/router_solicitation_delay", "0"),
        ("ipv6/neigh/e0/retrans_time_ms", "300"),
    ] {
        host.set_sysctl(name, value).ok()?;
    }
    for (namespace, link) in [(&host, "e0"), (&neighbour, "e1")] {
        namespace.set_up(link).unwrap();
    }
    for (namespace, link) in [(&host, "e0"), (&neighbour, "e1")] {
        namespace.wait_ready(link).unwrap();
    }
    Some((host, neighbour))
}

#[test]
fn an_address_that_is_being_tried_is_waited_for() {
    in_namespaces(
        "tentative::an_address_that_is_being_tried_is_waited_for",
        || {
            // In some containers settings are read-only.
            let Some((host, neighbour)) = host_and_neighbour() else {
                return;
            };
            neighbour.add_address("e1", net("fd09::2/64")).unwrap();
            host.add_tentative_address("e0", net("fd09::31/64"))
                .unwrap();
            let state = host.run(|| dad::unusable("fd09::31".parse().unwrap(), 0));
            assert_eq!(state, Some(Unusable::Tentative));
            let listen = ["--listen", "[fd09::31]:9007"];
            let reflector = Reflector::start(&host, Engine::Mmsg, &listen);
            let [peer, asked] = ["[fd09::2]:0", "[fd09::31]:9007"].map(|it| it.parse().unwrap());
            Client::connect_from(&neighbour, peer, asked).ask(b"ping");
            assert_eq!(reflector.stop()["replied"], 1);

            host.add_tentative_address("e0", net("fd09::33/64"))
                .unwrap();
            let args = ["load", "[fd09::2]:9", "--bind", "fd09::33", "-n", "1"];
            let output = run_to_end(&host, &[&args[..], &["-t", "0.1"]].concat());
            // Nobody listens there; it was sent.
            assert_eq!(output.status.code(), Some(3), "{}", text(&output.stderr));
        },
    );
}

#[test]
fn an_address_that_another_host_has_is_told() {
    in_namespaces(
        "tentative::an_address_that_another_host_has_is_told",
        || {
            let Some((host, neighbour)) = host_and_neighbour() else {
                return;
            };
            neighbour.add_address("e1", net("fd09::32/64")).unwrap();
            host.add_tentative_address("e0", net("fd09::32/64"))
                .unwrap();
            let remedy = Unusable::Duplicate.remedy();
            let refused = "Cannot assign requested address (os error 99)";
            for (args, what) in [
                (&["--listen", "[fd09::32]:9007"][..], "bind [fd09::32]:9007"),
                (
                    &["load", "[fd09::32]:9", "--bind", "fd09::32"],
                    "send from fd09::32",
                ),
            ] {
                let sentence = format!("ERROR cannot {what}: {refused}; {remedy}");
                assert_refused(&run_to_end(&host, args), FAILED, &sentence);
            }
        },
    );
}
