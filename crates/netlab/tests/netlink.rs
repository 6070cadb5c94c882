//! What rtnetlink tells of a namespace that changes: `reflector-netlink`, tried in the lab.

use reflector_netlab::topology::{Mtu, Namespace, Route, in_namespaces};
use reflector_netlink::{Change, Changes, Netlink};

#[test]
fn a_link_that_goes_and_comes_again_has_another_number() {
    in_namespaces(
        "a_link_that_goes_and_comes_again_has_another_number",
        || {
            let namespace = Namespace::new().unwrap();
            let mut changes = namespace.run(Changes::subscribe).unwrap();
            let mut seen = |wanted: &dyn Fn(&Change) -> bool| {
                loop {
                    if let Some(change) = changes.wait().unwrap().into_iter().find(wanted) {
                        return change;
                    }
                }
            };
            let mut indexes = Vec::new();
            for _ in 0..2 {
                namespace.add_veth("v0", &namespace, "v1").unwrap();
                let is_v0 = |it: &Change| matches!(it, Change::Link { name, .. } if name == "v0");
                let Change::Link { index, .. } = seen(&is_v0) else {
                    unreachable!()
                };
                namespace.delete_link("v0").unwrap();
                let name = "v0".to_owned();
                let gone = Change::LinkGone { name, index };
                seen(&|it| *it == gone);
                indexes.push(index);
            }
            assert_ne!(indexes[0], indexes[1]);
        },
    );
}

#[test]
fn routes_with_an_mtu_are_read_and_their_changes_told() {
    in_namespaces("routes_with_an_mtu_are_read_and_their_changes_told", || {
        let namespace = Namespace::new().unwrap();
        namespace.add_veth("v0", &namespace, "v1").unwrap();
        namespace
            .add_address("v0", "10.9.0.1/24".parse().unwrap())
            .unwrap();
        namespace.set_up("v0").unwrap();
        let mut changes = namespace.run(Changes::subscribe).unwrap();
        let route = Route::to("10.8.0.0/16".parse().unwrap())
            .device("v0")
            .mtu(1400, Mtu::Discovered);
        namespace.add_route(&route).unwrap();
        let is_told = Change::Ipv4Route {
            net: "10.8.0.0/16".parse().unwrap(),
            mtu: Some(1400),
        };
        while !changes.wait().unwrap().contains(&is_told) {}
        let read = || Netlink::open().unwrap().ipv4_route_mtus().unwrap();
        let expected = ("10.8.0.0/16".parse().unwrap(), 1400);
        assert_eq!(namespace.run(read), [expected]);
    });
}
