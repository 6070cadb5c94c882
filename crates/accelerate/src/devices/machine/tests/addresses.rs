//! Addresses, and what fails.

use super::*;

fn address(net: &str) -> Address {
    Address {
        device: 1,
        net: net.parse().unwrap(),
        broadcast: None,
        is_usable: true,
    }
}

#[test]
fn addresses_are_set_before_anything_is_attached_and_when_they_change() {
    let mut bench = attached();
    assert_eq!(bench.told(Change::Address), []);
    bench.host.addresses = vec![address("10.0.0.1/24")];
    let local = LocalAddresses::of(&[], &bench.host.addresses);
    assert_eq!(bench.told(Change::Address), [Step::SetAddresses(local)]);
    bench.host.addresses.clear();
    let none = Step::SetAddresses(LocalAddresses::default());
    assert_eq!(bench.told(Change::Address), [none]);
}

#[test]
fn addresses_go_with_their_device_and_into_a_vrf() {
    let (mut bench, _) = Bench::begin(&["v0"], &[veth("v0")]);
    let other = Link {
        index: 1,
        name: "eth0".into(),
        ..veth("")
    };
    bench.becomes(&other);
    bench.host.addresses = vec![address("10.0.0.1/24")];
    let local = Step::SetAddresses(LocalAddresses::of(&[], &bench.host.addresses));
    let none = Step::SetAddresses(LocalAddresses::default());
    assert_eq!(bench.told(Change::Address), std::slice::from_ref(&local));
    let in_vrf = Link {
        port_kind: Some("vrf".into()),
        ..other.clone()
    };
    assert_eq!(bench.becomes(&in_vrf), std::slice::from_ref(&none));
    assert_eq!(bench.becomes(&other), [local]);
    bench.host.addresses.clear();
    assert_eq!(bench.goes(&other), [none]);
}

#[test]
fn what_fails_is_let_go_of_and_tried_again() {
    let mut bench = attached();
    let failed = |said: &str| Step::Wait {
        name: "v0".into(),
        reason: Reason::Failed(said.into()),
    };
    let steps = bench.machine.lost(OURS, "no room");
    assert_eq!(steps, [DETACH, failed("no room")]);
    assert_eq!(bench.becomes(&veth("v0")), [attach("v0", OURS, Way::Peer)]);
    // Nothing is answered from addresses that could not be set.
    let steps = bench.machine.lost_all("no room");
    assert_eq!(steps, [DETACH, failed("no room")]);
    let again = [
        // Where there were too many of them, nothing else could be set before these are.
        Step::SetRoutes(Routes::default()),
        Step::SetAddresses(LocalAddresses::default()),
        attach("v0", OURS, Way::Peer),
    ];
    assert_eq!(bench.told(Change::Address), again);
    // A host that does not say what there is.
    bench.host.is_deaf = true;
    let steps = bench.told(Change::Link(veth("v0")));
    assert_eq!(steps[0], DETACH);
    assert!(!steps.contains(&again[2]), "{steps:?}");
    bench.host.is_deaf = false;
    assert_eq!(bench.told(Change::Address), again);
}

/// Routes that go with a device are not told of, so they are looked for at every change.
#[test]
fn routes_are_set_when_they_change_and_left_out_where_rules_come_before() {
    let mut bench = attached();
    let route = |net: &str| Route {
        net: net.parse().unwrap(),
        is_local: false,
        metric: Some(0),
        devices: vec![OURS],
    };
    let set = |routes: &[Route]| Step::SetRoutes(Routes::of(routes));
    let routes = [route("0.0.0.0/0"), route("fd00::/8")];
    bench.host.routes = Some(routes.to_vec());
    assert_eq!(bench.told(Change::Route), [set(&routes)]);
    assert_eq!(bench.told(Change::Route), []);
    bench.host.routes = Some(routes[1..].to_vec());
    assert_eq!(bench.told(Change::Link(bridge())), [set(&routes[1..])]);
    bench.host.routes = None;
    let leave = Step::Leave("IPv4 and IPv6");
    assert_eq!(bench.told(Change::Route), [leave, set(&[])]);
    assert_eq!(bench.told(Change::Route), []);
}

/// Numbers of devices are used again: what was reached by the old one is not by the new one.
#[test]
fn routes_are_set_before_a_device_is_attached_that_may_have_the_number_of_another() {
    let (mut bench, _) = Bench::begin(&["v0"], &[]);
    let route = Route {
        net: "10.0.0.0/8".parse().unwrap(),
        is_local: false,
        metric: Some(0),
        devices: vec![OURS],
    };
    bench.host.routes = Some(vec![route.clone()]);
    let set = |routes: &[Route]| Step::SetRoutes(Routes::of(routes));
    assert_eq!(bench.told(Change::Route), [set(&[route])]);
    bench.host.routes = Some(Vec::new());
    assert_eq!(
        bench.becomes(&veth("v0")),
        [set(&[]), attach("v0", OURS, Way::Peer)]
    );
}
