//! Which address of a name is loaded, and from which one of ours.

use std::fs;
use std::net::{Ipv4Addr, UdpSocket};

use reflector_netlab::topology::in_namespaces;

use super::neighbours::Link;
use super::{count, load};
use reflector_testkit::targets::{Fault, Target};
use reflector_testkit::{Engine, Reflector};

#[test]
fn of_a_name_the_first_address_that_answers_is_loaded() {
    // The resolver names ::1 first, where there is IPv6; the target is on 127.0.0.1 alone.
    let target = Target::start(Fault::None);
    let name = format!("localhost:{}", target.addr.port());
    let ended = load(&name, "--count 20 --rate 1k --timeout 5s");
    let summary = ended.summary();
    assert_eq!(
        (ended.code, count(&summary["received"])),
        (0, 20),
        "{summary}"
    );
    assert_eq!(summary["address"], target.addr.to_string());
}

#[test]
fn of_a_name_that_answers_nowhere_every_address_is_named() {
    // No socket is there that would take what comes.
    let free = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let port = free.local_addr().unwrap().port();
    drop(free);
    let ended = load(
        format!("localhost:{port}"),
        "--count 5 --rate 1k --timeout 100ms",
    );
    let summary = ended.summary();
    assert_eq!(ended.code, 3, "{summary}");
    let note = summary["notes"][0].as_str().unwrap();
    let hosts = fs::read_to_string("/etc/hosts").unwrap_or_default();
    let has_both = hosts
        .lines()
        .any(|line| line.starts_with("::1") && line.contains("localhost"));
    if has_both && UdpSocket::bind("[::1]:0").is_ok() {
        for part in ["127.0.0.1", "[::1]", "-4", "-6"] {
            assert!(note.contains(part), "{note}");
        }
    }
}

#[test]
fn a_link_local_source_needs_no_interface_beside_the_targets() {
    let test_name = "addresses::a_link_local_source_needs_no_interface_beside_the_targets";
    in_namespaces(test_name, || {
        let link = Link::new();
        for (namespace, address) in [(&link.server, "fe80::1/64"), (&link.client, "fe80::2/64")] {
            let address = reflector_netlab::topology::net(address);
            namespace.add_address("eth0", address).unwrap();
        }
        let reflector = Reflector::start(&link.server, Engine::Mmsg, &["--listen", "[::]:5151"]);
        for bind in ["fe80::2", "fe80::2%eth0"] {
            let options = format!("--bind {bind} --count 20 --rate 1k --timeout 5s");
            let ended = link.client.run(|| load("[fe80::1%eth0]:5151", &options));
            assert_eq!(
                (ended.code, count(&ended.summary()["received"])),
                (0, 20),
                "{bind}"
            );
        }
        let ended = link
            .client
            .run(|| load("[fe80::1%eth0]:5151", "--bind fe80::2%lo -n 1"));
        assert!(
            ended.code == 2 && ended.log.contains("on another interface"),
            "{}",
            ended.log
        );
        reflector.stop();
    });
}
