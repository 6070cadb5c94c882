//! Features of devices: `reflector_netlink::ethtool`, tried in the lab.

use std::io;

use reflector_netlab::ethtool::{Ethtool, can_switch, feature, set_feature};
use reflector_netlab::topology::{Namespace, in_namespaces};

#[test]
fn features_are_switched_by_name() {
    in_namespaces("features_are_switched_by_name", || {
        let namespace = Namespace::new().unwrap();
        namespace.add_veth("v0", &namespace, "v1").unwrap();
        let index = namespace.interface_index("v0").unwrap();
        namespace.run(|| {
            let ethtool = Ethtool::open().unwrap();
            for name in [
                "tx-udp-segmentation",
                "tx-checksum-ip-generic",
                "rx-gro",
                "rx-udp-gro-forwarding",
            ] {
                for enabled in [false, true, false] {
                    set_feature("v0", name, enabled).unwrap();
                    assert_eq!(feature("v0", name).unwrap(), enabled, "{name}");
                    let by_index = ethtool.is_active_at(index, name).unwrap();
                    assert_eq!(by_index, enabled, "{name}");
                    assert!(can_switch("v0", name).unwrap(), "{name}");
                }
            }
            // Unknown to every kernel; known to every kernel and not available on a veth.
            for name in ["tx-nonsense", "loopback"] {
                let error = set_feature("v0", name, true).unwrap_err();
                assert_eq!(error.kind(), io::ErrorKind::Unsupported, "{error}");
                assert!(!can_switch("v0", name).unwrap(), "{name}");
            }
        });
    });
}
