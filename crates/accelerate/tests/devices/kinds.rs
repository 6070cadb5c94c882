//! Each kind of device that this kernel has.

use std::io::ErrorKind;
use std::process::Command;

use netlink_packet_route::link::InfoKind;
use reflector_accelerate::way::{Framing, Way};
use reflector_netlab::ethtool::set_feature;
use reflector_netlab::topology::{Namespace, in_namespaces, skip};

use crate::recorder::{Asked, Followed, attach, detach, far_way};

#[test]
fn what_was_shown_is_attached_in_its_way() {
    in_namespaces("kinds::what_was_shown_is_attached_in_its_way", || {
        let (here, there) = (Namespace::new().unwrap(), Namespace::new().unwrap());
        for far in ["far", "port"] {
            here.add_veth(far, &there, far).unwrap();
            here.set_up(far).unwrap();
            there.set_up(far).unwrap();
            here.wait_up(far).unwrap();
        }
        here.add_veth("near", &here, "lower").unwrap();
        here.add_bridge("br0").unwrap();
        here.set_master("port", "br0").unwrap();
        here.add_vxlan("vx0", Some([10, 9, 0, 2].into())).unwrap();
        here.add_macvlan("mv0", "lower").unwrap();
        let ways = [
            ("far", far_way()),
            ("port", far_way()),
            ("near", Way::Plain),
            ("br0", Way::Plain),
            ("vx0", Way::Plain),
            ("mv0", Way::Plain),
            ("lo", Way::Plain),
        ];
        for (name, way) in ways {
            let followed = Followed::open(&here, &[name]).unwrap();
            assert!(matches!(followed.next(), Asked::SetAddresses(_)), "{name}");
            assert_eq!(followed.next(), attach(name, way), "{name}");
            assert_eq!(followed.end(), [detach(name), Asked::End], "{name}");
        }
    });
}

#[test]
fn tun_and_tap_are_told_apart() {
    let test_name = "kinds::tun_and_tap_are_told_apart";
    in_namespaces(test_name, || {
        let namespace = Namespace::new().unwrap();
        for (mode, framing) in [("tun", Framing::None), ("tap", Framing::Ethernet)] {
            let mut ip = Command::new("ip");
            ip.args(["tuntap", "add", mode, "mode", mode]);
            let output = match namespace.run(|| ip.output()) {
                Ok(output) => output,
                Err(error) if error.kind() == ErrorKind::NotFound => {
                    return skip(test_name, "tc", "no program ip, of iproute2 as tc is");
                }
                Err(error) => panic!("{error}"),
            };
            if !output.status.success() {
                let said = String::from_utf8_lossy(&output.stderr);
                return skip(test_name, "tc", &format!("no {mode} devices: {said}"));
            }
            let followed = Followed::open(&namespace, &[mode]).unwrap();
            let expected = Asked::Attach(mode.into(), Way::Plain, framing);
            assert_eq!(followed.next_of_devices(), expected);
        }
    });
}

#[test]
fn what_was_not_shown_is_refused_with_a_remedy() {
    in_namespaces("kinds::what_was_not_shown_is_refused_with_a_remedy", || {
        let here = Namespace::new().unwrap();
        here.add_vxlan("vx1", None).unwrap();
        here.add_veth("lower", &here, "merging").unwrap();
        here.add_macvlan("mv0", "lower").unwrap();
        here.add_bridge("br0").unwrap();
        here.set_master("merging", "br0").unwrap();
        here.run(|| set_feature("merging", "rx-gro-list", true))
            .unwrap();
        let mut cases = vec![
            ("vx1", "external vxlan"),
            ("lower", "mv0 lies on it"),
            ("merging", "`ethtool -K merging rx-gro-list off`"),
            ("br0", "merging has rx-gro-list on"),
            ("nothing", "there is no such device"),
        ];
        // Where the kernel has it: its kind is refused without that as well, in unit tests.
        if here.add_link("ifb7", InfoKind::Ifb).is_ok() {
            cases.push(("ifb7", "kind ifb"));
        }
        for (name, expected) in cases {
            let said = Followed::open(&here, &[name])
                .err()
                .expect(name)
                .to_string();
            assert!(
                said.starts_with(&format!("cannot accelerate {name}: ")),
                "{said}"
            );
            assert!(said.contains(expected), "{said}");
        }
    });
}

#[test]
fn a_feature_that_is_switched_is_heeded() {
    in_namespaces("kinds::a_feature_that_is_switched_is_heeded", || {
        let here = Namespace::new().unwrap();
        here.add_veth("port", &here, "other").unwrap();
        here.add_bridge("br0").unwrap();
        here.set_master("port", "br0").unwrap();
        let followed = Followed::open(&here, &["br0"]).unwrap();
        assert_eq!(followed.next_of_devices(), attach("br0", Way::Plain));
        here.run(|| set_feature("port", "rx-gro-list", true))
            .unwrap();
        assert_eq!(followed.next_of_devices(), detach("br0"));
        here.run(|| set_feature("port", "rx-gro-list", false))
            .unwrap();
        assert_eq!(followed.next_of_devices(), attach("br0", Way::Plain));
    });
}
