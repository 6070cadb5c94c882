//! What becomes of devices where something cannot be done.

use reflector_accelerate::way::Way;
use reflector_netlab::topology::{Namespace, in_namespaces, net};

use crate::recorder::{Asked, Call, Followed, attach, detach, far_way};

/// A namespace with a veth `v0` whose both ends are in it, followed.
fn followed() -> (Namespace, Followed) {
    let namespace = Namespace::new().unwrap();
    namespace.add_veth("v0", &namespace, "v1").unwrap();
    let followed = Followed::open(&namespace, &["v0"]).unwrap();
    assert_eq!(followed.next_of_devices(), attach("v0", Way::Plain));
    (namespace, followed)
}

#[test]
fn what_cannot_be_done_at_the_start_ends_it() {
    in_namespaces("failing::what_cannot_be_done_at_the_start_ends_it", || {
        let namespace = Namespace::new().unwrap();
        namespace.add_bridge("br0").unwrap();
        for fault in [Call::Attach, Call::SetAddresses] {
            let opened = Followed::open_with(&namespace, &["br0"], Some(fault));
            let said = opened.err().unwrap().to_string();
            assert_eq!(said, format!("cannot do {fault:?}: a test wants it so"));
        }
    });
}

#[test]
fn a_device_that_cannot_be_attached_to_is_tried_at_its_next_change() {
    let test_name = "failing::a_device_that_cannot_be_attached_to_is_tried_at_its_next_change";
    in_namespaces(test_name, || {
        let (namespace, followed) = followed();
        *followed.fault() = Some(Call::Attach);
        namespace.delete_link("v0").unwrap();
        namespace.add_veth("v0", &namespace, "v1").unwrap();
        assert_eq!(followed.next_of_devices(), detach("v0"));
        assert_eq!(followed.next_of_devices(), Asked::Failed(Call::Attach));
        namespace.set_mtu("v0", 1_400).unwrap();
        assert_eq!(followed.next_of_devices(), attach("v0", Way::Plain));
    });
}

#[test]
fn without_its_addresses_nothing_is_attached() {
    in_namespaces("failing::without_its_addresses_nothing_is_attached", || {
        let (namespace, followed) = followed();
        *followed.fault() = Some(Call::SetAddresses);
        namespace.add_address("lo", net("10.9.0.7/32")).unwrap();
        assert_eq!(followed.next(), Asked::Failed(Call::SetAddresses));
        assert_eq!(followed.next(), detach("v0"));
        // Any change, not only one of addresses.
        namespace.add_bridge("br0").unwrap();
        let ours = [10, 9, 0, 7].into();
        followed.until_addresses(|it| it.ipv4.contains(&ours));
        assert_eq!(followed.next(), attach("v0", Way::Plain));
    });
}

#[test]
fn a_device_whose_way_cannot_be_set_is_let_go_of() {
    in_namespaces(
        "failing::a_device_whose_way_cannot_be_set_is_let_go_of",
        || {
            let (here, there) = (Namespace::new().unwrap(), Namespace::new().unwrap());
            here.add_veth("v0", &there, "end").unwrap();
            let followed = Followed::open(&here, &["v0"]).unwrap();
            assert_eq!(followed.next_of_devices(), attach("v0", Way::Plain));
            *followed.fault() = Some(Call::SetWay);
            here.set_up("v0").unwrap();
            there.set_up("end").unwrap();
            if far_way() == Way::Peer {
                assert_eq!(followed.next_of_devices(), Asked::Failed(Call::SetWay));
                assert_eq!(followed.next_of_devices(), detach("v0"));
            }
        },
    );
}
