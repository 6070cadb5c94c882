//! What interfaces, rules and bridges do to trains and to all that passes them.

use std::net::UdpSocket;

use reflector_netlab::ethtool::set_feature;
use reflector_netlab::topology::{Namespace, in_force, in_namespaces, nft, skip};

use super::{assert_fits, assert_warns, check};
use reflector_netlink::Netlink;
use reflector_testkit::{join, tc, xdp};
use reflector_udp::sockopt;

const SEGMENTATION: &str = "segmentation offload";

/// A veth pair that is up, with its ends `v0` and `v1` in a namespace each.
fn cable() -> (Namespace, Namespace) {
    let (near, far) = (Namespace::new().unwrap(), Namespace::new().unwrap());
    near.add_veth("v0", &far, "v1").unwrap();
    near.set_up("v0").unwrap();
    far.set_up("v1").unwrap();
    (near, far)
}

#[test]
fn a_veth_that_cuts_trains_is_named_with_what_switches_it_on_again() {
    let name = "machine::network::a_veth_that_cuts_trains_is_named_with_what_switches_it_on_again";
    in_namespaces(name, || {
        let (near, far) = cable();
        let set = |name, on| near.run(|| set_feature("v0", name, on).unwrap());
        assert_eq!(check(&near, SEGMENTATION)["is_ok"], true);

        set("tx-udp-segmentation", false);
        let off = check(&near, SEGMENTATION);
        assert_warns(
            &off,
            "off: v0; trains leave v0 in pieces",
            "-K v0 tx-udp-segmentation on`",
        );
        assert_warns(
            &off,
            "3.7 times the CPU",
            "`gro on rx-udp-gro-forwarding on`",
        );
        assert_fits(&near);
        assert_eq!(
            check(&far, SEGMENTATION)["is_ok"],
            true,
            "v1 sends trains whole"
        );
        set("tx-udp-segmentation", true);

        // Without checksums the kernel takes the other away as well.
        set("tx-checksum-ip-generic", false);
        let off = check(&near, SEGMENTATION);
        assert_warns(&off, "trains leave v0 in pieces", "`ethtool -K v0 tx on`");
        set("tx-checksum-ip-generic", true);

        // These look alike and cut nothing.
        set("tx-generic-segmentation", false);
        set("tx-tcp-segmentation", false);
        assert_eq!(check(&near, SEGMENTATION)["is_ok"], true);
    });
}

#[test]
fn native_xdp_on_a_veth_is_told_at_both_ends_and_generic_xdp_at_none() {
    let name =
        "machine::network::native_xdp_on_a_veth_is_told_at_both_ends_and_generic_xdp_at_none";
    in_namespaces(name, || {
        let (near, far) = cable();
        assert_eq!(check(&near, "XDP")["found"], "no program on an interface");

        near.run(|| xdp::attach("v0", "xdpdrv"));
        let native = check(&near, "XDP");
        assert_warns(
            &native,
            "native: v0; trains to v0 come in pieces",
            "-K v0 gro on`, 4 times",
        );
        assert_warns(&native, "10 times", "generic XDP");
        assert_fits(&near);
        assert_fits(&far);
        assert_eq!(check(&near, SEGMENTATION)["is_ok"], true);
        let facing = check(&far, SEGMENTATION);
        assert_warns(
            &facing,
            "v1 cannot send trains whole, since the other end has",
            "gro on`",
        );

        near.run(|| set_feature("v0", "rx-gro", true).unwrap());
        let joined = check(&near, "XDP");
        assert_warns(&joined, "4 times the CPU with GRO", "generic XDP");

        near.run(|| xdp::detach("v0", "xdpdrv"));
        near.run(|| xdp::attach("v0", "xdpgeneric"));
        let generic = check(&near, "XDP");
        assert_eq!(
            (&generic["is_ok"], &generic["found"]),
            (&true.into(), &"generic: v0".into())
        );
        assert_eq!(check(&far, SEGMENTATION)["is_ok"], true);
    });
}

#[test]
fn a_loopback_that_cuts_trains_is_no_old_kernel() {
    in_namespaces(
        "machine::network::a_loopback_that_cuts_trains_is_no_old_kernel",
        || {
            let alone = Namespace::new().unwrap();
            alone.set_up("lo").unwrap();
            assert_eq!(check(&alone, "UDP_GRO, UDP_SEGMENT")["is_ok"], true);
            alone.run(|| set_feature("lo", "tx-udp-segmentation", false).unwrap());
            let cut = check(&alone, "UDP_GRO, UDP_SEGMENT");
            assert_warns(
                &cut,
                "of lo is off",
                "`ethtool -K lo tx-udp-segmentation on`",
            );
        },
    );
}

#[test]
fn rules_that_drop_what_lo_carries_are_no_old_kernel() {
    let name = "machine::network::rules_that_drop_what_lo_carries_are_no_old_kernel";
    in_namespaces(name, || {
        for hook in ["output", "input"] {
            let alone = Namespace::new().unwrap();
            alone.set_up("lo").unwrap();
            let chain = format!("add chain ip t c {{ type filter hook {hook} priority 0; }}");
            let rules = format!("add table ip t\n{chain}\nadd rule ip t c udp length > 0 drop");
            if !in_force(name, nft(&alone, &rules)) {
                return;
            }
            let dropped = check(&alone, "UDP_GRO, UDP_SEGMENT");
            assert_eq!(dropped["is_ok"], true, "{hook}: {dropped}");
            let found = dropped["found"].as_str().unwrap();
            assert!(found.contains("could not be tried"), "{hook}: {found}");
        }
    });
}

#[test]
fn a_bridge_that_passes_everything_to_no_rule_is_told() {
    let name = "machine::network::a_bridge_that_passes_everything_to_no_rule_is_told";
    in_namespaces(name, || {
        let host = Namespace::new().unwrap();
        assert_eq!(check(&host, "bridge filter")["found"], "no bridge is up");
        host.add_bridge("br0").unwrap();
        host.set_up("br0").unwrap();
        let setting = "bridge/bridge-nf-call-iptables";
        if let Err(error) = host.set_sysctl(setting, "1") {
            return skip(name, "br_netfilter", &error.to_string());
        }
        let void = check(&host, "bridge filter");
        assert_warns(&void, "br0 forwards at 1.32 times", "set it to 0");
        assert_fits(&host);
        host.set_sysctl(setting, "0").unwrap();
        assert_eq!(check(&host, "bridge filter")["is_ok"], true);
        host.set_sysctl(setting, "1").unwrap();
        if in_force(name, nft(&host, "add table ip t")) {
            let rules = check(&host, "bridge filter");
            assert_eq!(rules["is_ok"], true, "{rules}");
        }
    });
}

const QUEUES: &str = "tbf queues";

/// What the queue of eth0 has dropped of a train of 64 kB that the kernel took; `None` where it
/// took none.
fn dropped_of_a_train(near: &Namespace) -> Option<u32> {
    near.run(|| {
        let mut netlink = Netlink::open().unwrap();
        let device = netlink
            .device_to("10.9.0.2:9".parse().unwrap(), [0; 4].into())
            .unwrap();
        let mut drops = || netlink.queue(device).unwrap().unwrap().drops;
        let before = drops();
        let socket = UdpSocket::bind("10.9.0.1:0").unwrap();
        sockopt::set_int(&socket, libc::SOL_UDP, libc::UDP_SEGMENT, 1000).unwrap();
        let taken = socket.send_to(&[0; 64_000], "10.9.0.2:9").ok();
        taken.map(|_| drops() - before)
    })
}

#[test]
fn a_tbf_that_cuts_trains_is_named_with_a_burst_that_suffices() {
    let name = "machine::network::a_tbf_that_cuts_trains_is_named_with_a_burst_that_suffices";
    in_namespaces(name, || {
        let (near, far) = (Namespace::new().unwrap(), Namespace::new().unwrap());
        join(&near, &far, "eth0");
        assert_eq!(check(&near, QUEUES)["found"], "none");
        // The neighbour is found before.
        near.run(|| {
            UdpSocket::bind("10.9.0.1:0")
                .unwrap()
                .send_to(&[0], "10.9.0.2:9")
                .unwrap()
        });
        let small = "rate 8mbit burst 1600 limit 20000";
        let peaked = "rate 8mbit burst 100000 limit 200000 peakrate 16mbit mtu 1600";
        let class = [
            "qdisc add dev eth0 root handle 1: htb default 1",
            "class add dev eth0 parent 1: classid 1:1 htb rate 1gbit",
        ];
        for (parents, place) in [(&[][..], "root"), (&class, "parent 1:1")] {
            for settings in [small, peaked] {
                // A root queue counts what it drops itself, not what a child of it drops.
                let is_counted = place == "root" && settings == small;
                let tbf = format!("qdisc add dev eth0 {place} tbf {settings}");
                for command in parents.iter().copied().chain([&tbf[..]]) {
                    if !tc(name, &near, command) {
                        return;
                    }
                }
                let cuts = check(&near, QUEUES);
                assert_warns(&cuts, "eth0 cuts trains above 1600 bytes;", "--gso off");
                assert_fits(&near);
                assert!(
                    !is_counted || dropped_of_a_train(&near).unwrap() > 0,
                    "{place}"
                );

                let command = cuts["command"].as_str().unwrap();
                assert!(tc(name, &near, command.strip_prefix("tc ").unwrap()));
                let whole = check(&near, QUEUES);
                assert_eq!(whole["found"], "eth0: trains pass whole", "{command}");
                assert!(
                    !is_counted || dropped_of_a_train(&near) == Some(0),
                    "{place}"
                );
                assert_eq!(check(&far, QUEUES)["is_ok"], true);
                tc(name, &near, "qdisc delete dev eth0 root");
            }
        }
        // Another queue that shapes cuts nothing.
        for command in class {
            tc(name, &near, command);
        }
        assert_eq!(check(&near, QUEUES)["found"], "none");
    });
}
