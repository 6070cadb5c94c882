//! What rtnetlink tells of a namespace that changes: `reflector-netlink`, tried in the lab.

use reflector_netlab::topology::{Mtu, Namespace, Route, in_namespaces};
use reflector_netlink::{Address, Change, Changes, Link, Netlink, Topic};

#[test]
fn a_link_that_goes_and_comes_again_has_another_number() {
    in_namespaces(
        "a_link_that_goes_and_comes_again_has_another_number",
        || {
            let namespace = Namespace::new().unwrap();
            let subscribe = || Changes::subscribe(&[Topic::Links]);
            let mut changes = namespace.run(subscribe).unwrap();
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
                let is_v0 = |it: &Change| matches!(it, Change::Link(link) if link.name == "v0");
                let Change::Link(Link { index, .. }) = seen(&is_v0) else {
                    unreachable!()
                };
                namespace.delete_link("v0").unwrap();
                let is_it = |link: &Link| link.name == "v0" && link.index == index;
                seen(&|it| matches!(it, Change::LinkGone(link) if is_it(link)));
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
        let subscribe = || Changes::subscribe(&[Topic::Ipv4Routes]);
        let mut changes = namespace.run(subscribe).unwrap();
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

#[test]
fn a_device_is_described_whole() {
    in_namespaces("a_device_is_described_whole", || {
        let (here, there) = (Namespace::new().unwrap(), Namespace::new().unwrap());
        here.add_veth("far", &there, "end").unwrap();
        here.add_veth("near", &here, "other").unwrap();
        here.add_bridge("br0").unwrap();
        here.set_master("near", "br0").unwrap();
        here.add_macvlan("mv0", "other").unwrap();
        let remote = Some([10, 9, 0, 2].into());
        here.add_vxlan("vx0", remote).unwrap();
        here.add_vxlan("vx1", None).unwrap();
        for name in ["far", "near", "other"] {
            here.set_up(name).unwrap();
        }
        here.wait_up("other").unwrap();
        let links = here.run(|| Netlink::open().unwrap().links()).unwrap();
        let named = |name: &str| {
            let found = links.iter().find(|it| it.name == name).unwrap().clone();
            let netlink = || Netlink::open().unwrap();
            let by_name = here.run(|| netlink().link_named(name)).unwrap();
            let by_index = here.run(|| netlink().link_at(found.index)).unwrap();
            assert_eq!([&by_name, &by_index], [&found; 2]);
            found
        };
        let (far, near, other) = (named("far"), named("near"), named("other"));
        assert_eq!(far.kind.as_deref(), Some("veth"));
        assert!(far.is_lower_elsewhere && !far.is_lower_up);
        assert!(!near.is_lower_elsewhere && near.is_lower_up);
        assert_eq!(
            (near.lower, other.lower),
            (Some(other.index), Some(near.index))
        );
        let bridge = named("br0");
        assert_eq!(near.port_kind.as_deref(), Some("bridge"));
        assert_eq!(near.master, Some(bridge.index));
        assert_eq!((bridge.master, bridge.port_kind), (None, None));
        assert_eq!(bridge.kind.as_deref(), Some("bridge"));
        assert_eq!(named("mv0").lower, Some(other.index));
        assert_eq!(named("mv0").kind.as_deref(), Some("macvlan"));
        assert!(!named("vx0").is_external && named("vx1").is_external);
        let lo = named("lo");
        assert!(lo.is_loopback && lo.kind.is_none() && lo.is_lower_up);
        assert_eq!((lo.hardware, far.hardware), (772, 1));
    });
}

#[test]
fn a_port_that_is_set_free_has_not_gone() {
    in_namespaces("a_port_that_is_set_free_has_not_gone", || {
        let (here, there) = (Namespace::new().unwrap(), Namespace::new().unwrap());
        here.add_veth("v0", &there, "v0").unwrap();
        here.add_bridge("br0").unwrap();
        let subscribe = || Changes::subscribe(&[Topic::Links]);
        let mut changes = here.run(subscribe).unwrap();
        here.set_master("v0", "br0").unwrap();
        here.release("v0").unwrap();
        here.rename("v0", "v1").unwrap();
        here.move_link("v1", &there).unwrap();
        let mut told = Vec::new();
        while !told.iter().any(|it| matches!(it, Change::LinkGone(_))) {
            told.extend(changes.wait().unwrap());
        }
        let master = |it: &Change| match it {
            Change::Link(link) if link.name.starts_with('v') => Some(link.master.is_some()),
            _ => None,
        };
        let mut masters: Vec<bool> = told.iter().filter_map(master).collect();
        masters.dedup();
        assert_eq!(masters, [true, false], "{told:?}");
        let Some(Change::LinkGone(gone)) = told.last() else {
            panic!("not the last one: {told:?}")
        };
        assert_eq!(gone.name, "v1");
    });
}

#[test]
fn addresses_are_read_and_their_changes_told() {
    in_namespaces("addresses_are_read_and_their_changes_told", || {
        let namespace = Namespace::new().unwrap();
        namespace.add_veth("v0", &namespace, "v1").unwrap();
        let subscribe = || Changes::subscribe(&[Topic::Addresses]);
        let mut changes = namespace.run(subscribe).unwrap();
        let mut read = || {
            while !changes.wait().unwrap().contains(&Change::Address) {}
            let read = || Netlink::open().unwrap().addresses();
            let mut addresses = namespace.run(read).unwrap();
            addresses.retain(|it| !it.net.addr().is_loopback());
            addresses
        };
        let v0 = namespace.interface_index("v0").unwrap();
        let addresses = ["10.9.0.1/24", "fd09::1/64"].map(|it| it.parse().unwrap());
        namespace.add_address("v0", addresses[0]).unwrap();
        assert_eq!(
            read(),
            [Address {
                device: v0,
                net: addresses[0],
                broadcast: Some([10, 9, 0, 255].into()),
                is_usable: true,
            }]
        );
        namespace.add_address("v0", addresses[1]).unwrap();
        let nets: Vec<_> = read().into_iter().map(|it| it.net).collect();
        assert_eq!(nets, addresses);
        for address in addresses {
            namespace.delete_address("v0", address).unwrap();
        }
        while !read().is_empty() {}
    });
}

#[test]
fn what_is_told_after_something_was_missed_is_told_for_certain() {
    let test_name = "what_is_told_after_something_was_missed_is_told_for_certain";
    in_namespaces(test_name, || {
        let namespace = Namespace::new().unwrap();
        namespace.add_veth("v0", &namespace, "v1").unwrap();
        let subscribe = || Changes::subscribe(&[Topic::Links]);
        let mut changes = namespace.run(subscribe).unwrap();
        // More than the socket has room for: 212 992 bytes by default.
        for turn in 0..2_000 {
            namespace.set_mtu("v0", 1_400 + turn % 2).unwrap();
        }
        assert_eq!(changes.wait().unwrap(), [Change::Missed]);
        namespace.rename("v0", "v9").unwrap();
        let told = changes.wait().unwrap();
        assert!(
            matches!(&told[..], [Change::Link(link)] if link.name == "v9"),
            "{told:?}"
        );
    });
}
