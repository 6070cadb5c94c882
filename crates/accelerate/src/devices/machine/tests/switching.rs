//! Each change as the kernel was seen to tell it.

use super::*;

#[test]
fn the_other_end_moves_to_a_third_namespace() {
    let mut bench = attached();
    let closed = without_carrier(&veth("v0"));
    assert_eq!(bench.becomes(&closed), [set_way(Way::Plain)]);
    assert_eq!(bench.becomes(&veth("v0")), [set_way(Way::Peer)]);
}

#[test]
fn the_other_end_moves_while_it_is_down() {
    let mut bench = attached();
    assert_eq!(
        bench.becomes(&without_carrier(&veth("v0"))),
        [set_way(Way::Plain)]
    );
    // Of that nothing is told.
    let here = Link {
        is_lower_elsewhere: false,
        ..veth("v0")
    };
    bench.host.links = vec![without_carrier(&here)];
    assert_eq!(bench.becomes(&here), []);
    assert_eq!(bench.becomes(&veth("v0")), [set_way(Way::Peer)]);
}

#[test]
fn the_other_end_moves_here() {
    let mut bench = attached();
    let here = Link {
        is_lower_elsewhere: false,
        ..veth("v0")
    };
    assert_eq!(
        bench.becomes(&without_carrier(&here)),
        [set_way(Way::Plain)]
    );
    assert_eq!(bench.becomes(&here), []);
}

#[test]
fn a_message_that_comes_late_changes_nothing() {
    let mut bench = attached();
    // The host knows better by now.
    let steps = bench.told(Change::Link(without_carrier(&veth("v0"))));
    assert_eq!(steps, []);
    let here = Link {
        is_lower_elsewhere: false,
        ..veth("v0")
    };
    assert_eq!(bench.becomes(&here), [set_way(Way::Plain)]);
    assert_eq!(bench.told(Change::Link(veth("v0"))), []);
}

#[test]
fn ours_is_renamed_and_comes_again_under_its_first_name() {
    let mut bench = attached();
    assert_eq!(bench.becomes(&veth("v9")), []);
    // Another one of the name that was asked for, while ours is there.
    let other = Link {
        index: 8,
        ..veth("v0")
    };
    assert_eq!(bench.becomes(&other), []);
    assert_eq!(bench.goes(&other), []);
    assert_eq!(bench.goes(&veth("v9")), [DETACH, absent("v0")]);
    assert_eq!(bench.becomes(&veth("v9")), []);
    assert_eq!(bench.becomes(&other), [attach("v0", 8, Way::Peer)]);
}

#[test]
fn one_device_is_attached_once() {
    let (mut bench, steps) = Bench::begin(&["v0", "v1", "v0"], &[veth("v0")]);
    assert_eq!(steps[1..], [attach("v0", OURS, Way::Peer), absent("v1")]);
    assert_eq!(bench.becomes(&veth("v1")), []);
    let steps = bench.told(Change::Missed);
    assert_eq!(steps, [DETACH, attach("v1", OURS, Way::Peer)]);
    assert_eq!(bench.goes(&veth("v1")), [DETACH, absent("v0")]);
}

#[test]
fn ours_becomes_a_port_and_is_set_free() {
    let mut bench = attached();
    bench.host.links.push(bridge());
    let port = Link {
        master: Some(BRIDGE),
        port_kind: Some("bridge".into()),
        ..veth("v0")
    };
    let is_port_of = |mac| Step::SetBridge {
        index: OURS,
        bridge: Some(Bridge { index: BRIDGE, mac }),
    };
    let is_none = Step::SetBridge {
        index: OURS,
        bridge: None,
    };
    assert_eq!(bench.becomes(&port), [is_port_of(None)]);
    let with_mac = |last| Link {
        mac: Some([2, 0, 0, 0, 0, last]),
        ..bridge()
    };
    for last in [1, 2] {
        let mac = Some([2, 0, 0, 0, 0, last]);
        assert_eq!(bench.becomes(&with_mac(last)), [is_port_of(mac)]);
        assert_eq!(bench.becomes(&with_mac(last)), []);
    }
    assert_eq!(bench.becomes(&veth("v0")), [is_none]);
    let bond = Link {
        port_kind: Some("bond".into()),
        ..port
    };
    let refusal = refused("v0", Refusal::Port { of: "bond".into() });
    assert_eq!(bench.becomes(&bond), [DETACH, refusal]);
    assert_eq!(bench.becomes(&bond), []);
    assert_eq!(bench.becomes(&veth("v0")), [attach("v0", OURS, Way::Peer)]);
}

#[test]
fn a_port_by_name_has_a_hint() {
    let port = Link {
        master: Some(BRIDGE),
        port_kind: Some("bridge".into()),
        ..veth("v0")
    };
    let (_, steps) = Bench::begin(&["v0"], &[port, bridge()]);
    let Step::Attach {
        hint, way, bridge, ..
    } = &steps[1]
    else {
        panic!("{steps:?}")
    };
    assert_eq!(*way, Way::Peer);
    let expected = Bridge {
        index: BRIDGE,
        mac: None,
    };
    assert_eq!(*bridge, Some(expected));
    assert!(hint.as_ref().unwrap().contains("`--accelerate br0`"));
}

#[test]
fn ours_moves_away_and_another_comes_with_its_number() {
    let mut bench = attached();
    assert_eq!(bench.goes(&veth("v0")), [DETACH, absent("v0")]);
    let again = Link {
        is_lower_elsewhere: false,
        ..veth("v0")
    };
    assert_eq!(bench.becomes(&again), [attach("v0", OURS, Way::Plain)]);
    // Both at once: when it is told that it has gone the next one is there.
    bench.host.links = vec![veth("v0")];
    let steps = bench.told(Change::LinkGone(again));
    assert_eq!(steps, [DETACH, absent("v0"), attach("v0", OURS, Way::Peer)]);
    assert_eq!(bench.told(Change::Link(veth("v0"))), []);
}

#[test]
fn what_was_missed_is_found_by_attaching_anew() {
    let mut bench = attached();
    assert_eq!(
        bench.told(Change::Missed),
        [DETACH, attach("v0", OURS, Way::Peer)]
    );
    // Renamed, and that was told: it is known by its number and its new name.
    assert_eq!(bench.becomes(&veth("v9")), []);
    assert_eq!(
        bench.told(Change::Missed),
        [DETACH, attach("v9", OURS, Way::Peer)]
    );
    // Something else has its number now, and its name another.
    let eth = Link {
        kind: None,
        name: "eth7".into(),
        ..veth("")
    };
    let named = Link {
        index: 9,
        ..veth("v0")
    };
    bench.host.links = vec![eth, named];
    assert_eq!(
        bench.told(Change::Missed),
        [DETACH, attach("v0", 9, Way::Peer)]
    );
    bench.host.links.clear();
    let steps = bench.told(Change::Missed);
    assert_eq!(steps, [Step::Detach { index: 9 }, absent("v0")]);
    assert_eq!(bench.told(Change::Missed), []);
}

#[test]
fn a_device_of_another_kind_under_its_name_is_refused() {
    let mut bench = attached();
    assert_eq!(bench.goes(&veth("v0")), [DETACH, absent("v0")]);
    let external = Link {
        index: 9,
        kind: Some("vxlan".into()),
        is_external: true,
        ..veth("v0")
    };
    assert_eq!(bench.becomes(&external), [refused("v0", Refusal::External)]);
    assert_eq!(bench.becomes(&without_carrier(&external)), []);
}

#[test]
fn a_macvlan_that_comes_to_lie_on_it() {
    let mut bench = attached();
    let macvlan = Link {
        index: 11,
        name: "mv0".into(),
        kind: Some("macvlan".into()),
        lower: Some(OURS),
        is_lower_elsewhere: false,
        ..veth("")
    };
    let refusal = refused("v0", Refusal::Upper { name: "mv0".into() });
    assert_eq!(bench.becomes(&macvlan), [DETACH, refusal]);
    assert_eq!(bench.goes(&macvlan), [attach("v0", OURS, Way::Peer)]);
    // One of another namespace has a number of ours by chance.
    let elsewhere = Link {
        is_lower_elsewhere: true,
        ..macvlan
    };
    assert_eq!(bench.becomes(&elsewhere), []);
}

#[test]
fn a_port_that_merges_into_lists() {
    let (mut bench, steps) = Bench::begin(&["br0"], &[bridge()]);
    assert_eq!(steps[1..], [attach("br0", BRIDGE, Way::Plain)]);
    let port = Link {
        master: Some(BRIDGE),
        port_kind: Some("bridge".into()),
        ..veth("v0")
    };
    assert_eq!(bench.becomes(&port), []);
    bench.host.merging = vec![OURS];
    let refusal = refused("br0", Refusal::GroList { name: "v0".into() });
    let detach = Step::Detach { index: BRIDGE };
    // A feature that changes is told as the link is.
    assert_eq!(bench.becomes(&port), [detach, refusal]);
    bench.host.merging.clear();
    assert_eq!(bench.becomes(&port), [attach("br0", BRIDGE, Way::Plain)]);
}

#[test]
fn a_tun_that_becomes_a_tap_is_attached_anew() {
    let tun = Link {
        kind: Some("tun".into()),
        hardware: 65534,
        is_lower_elsewhere: false,
        ..veth("t0")
    };
    let (mut bench, steps) = Bench::begin(&["t0"], std::slice::from_ref(&tun));
    assert!(
        matches!(
            &steps[1],
            Step::Attach {
                framing: Framing::None,
                ..
            }
        ),
        "{steps:?}"
    );
    let tap = Link { hardware: 1, ..tun };
    assert_eq!(
        bench.becomes(&tap),
        [DETACH, attach("t0", OURS, Way::Plain)]
    );
}
