use super::*;

fn link(kind: Option<&str>, hardware: u16) -> Link {
    Link {
        index: 7,
        name: "it".into(),
        kind: kind.map(Into::into),
        hardware,
        is_lower_up: true,
        ..Link::default()
    }
}

fn scrubbed() -> Facts {
    Facts {
        peer_is_scrubbed: true,
        ..Facts::default()
    }
}

#[test]
fn peer_redirect_only_for_a_veth_with_its_other_end_elsewhere() {
    let elsewhere = |kind, is_lower_up| Link {
        is_lower_elsewhere: true,
        is_lower_up,
        ..link(kind, ETHERNET)
    };
    let way = |link: &Link, facts: &Facts| judge(link, facts).unwrap().0;
    assert_eq!(way(&elsewhere(Some("veth"), true), &scrubbed()), Way::Peer);
    // Its other end may be about to move here; the kernel may hand over too much.
    assert_eq!(
        way(&elsewhere(Some("veth"), false), &scrubbed()),
        Way::Plain
    );
    let old = Facts::default();
    assert_eq!(way(&elsewhere(Some("veth"), true), &old), Way::Plain);
    assert_eq!(way(&link(Some("veth"), ETHERNET), &scrubbed()), Way::Plain);
    // A macvlan in a container lies on a device elsewhere as well.
    assert_eq!(
        way(&elsewhere(Some("macvlan"), true), &scrubbed()),
        Way::Plain
    );
}

#[test]
fn a_bridge_port_is_answered_like_any_veth_with_a_hint() {
    let port = Link {
        port_kind: Some("bridge".into()),
        master: Some(3),
        is_lower_elsewhere: true,
        ..link(Some("veth"), ETHERNET)
    };
    assert_eq!(
        judge(&port, &scrubbed()),
        Ok((Way::Peer, Framing::Ethernet))
    );
    let said = hint(&port, Some("br0")).unwrap();
    assert!(said.contains("`--accelerate br0`"), "{said}");
    assert_eq!(hint(&link(Some("bridge"), ETHERNET), None), None);
}

#[test]
fn what_was_shown_is_plain() {
    let ethernet = Ok((Way::Plain, Framing::Ethernet));
    for kind in ["bridge", "vxlan", "macvlan", "tun"] {
        assert_eq!(
            judge(&link(Some(kind), ETHERNET), &scrubbed()),
            ethernet,
            "{kind}"
        );
    }
    assert_eq!(judge(&link(None, ETHERNET), &scrubbed()), ethernet);
    let lo = Link {
        is_loopback: true,
        ..link(None, LOOPBACK)
    };
    assert_eq!(judge(&lo, &scrubbed()), ethernet);
    let tun = link(Some("tun"), NONE);
    assert_eq!(judge(&tun, &scrubbed()), Ok((Way::Plain, Framing::None)));
}

#[test]
fn what_was_not_shown_is_refused_by_name() {
    let external = Link {
        is_external: true,
        ..link(Some("vxlan"), ETHERNET)
    };
    let port_of = |of: &str| Link {
        port_kind: Some(of.into()),
        ..link(Some("veth"), ETHERNET)
    };
    let cases = [
        (external, "external vxlan"),
        (link(Some("ifb"), ETHERNET), "kind ifb"),
        (link(Some("macvtap"), ETHERNET), "kind macvtap"),
        (link(Some("netkit"), ETHERNET), "kind netkit"),
        (link(Some("vlan"), ETHERNET), "kind vlan"),
        (link(Some("wireguard"), NONE), "kind wireguard"),
        (link(Some("tun"), 512), "hardware type 512"),
        (link(None, 512), "hardware type 512"),
        (port_of("bond"), "ports of kind bond"),
        (port_of("vrf"), "ports of kind vrf"),
        (port_of("openvswitch"), "ports of kind openvswitch"),
    ];
    for (link, name) in cases {
        let refusal = judge(&link, &scrubbed()).unwrap_err();
        let said = refusal.to_string();
        assert!(said.contains(name), "{name}: {said}");
        assert!(!refusal.remedy().is_empty());
    }
}

#[test]
fn what_lies_on_it_and_what_merges_is_refused() {
    let card = link(None, ETHERNET);
    let upper = Facts {
        upper: Some("mv0".into()),
        ..scrubbed()
    };
    let refusal = judge(&card, &upper).unwrap_err();
    assert_eq!(refusal, Refusal::Upper { name: "mv0".into() });
    let gro_list = Facts {
        gro_list: Some("eth0".into()),
        ..scrubbed()
    };
    let refusal = judge(&card, &gro_list).unwrap_err();
    assert_eq!(refusal.remedy(), "`ethtool -K eth0 rx-gro-list off`");
}

#[test]
fn kernels_that_scrub_are_told_by_their_release() {
    for release in [
        "6.6.91",
        "6.6.100-amd64",
        "6.12.29+deb13",
        "6.12.38-1-pve",
        "6.14.7",
        "6.15.0",
        "6.15-custom",
        "6.16.0-rc1",
        "6.18.44-fc",
        "7.0.0-rc3",
        "10.0",
    ] {
        assert!(peer_is_scrubbed(release), "{release}");
    }
    for release in [
        "6.6.90",
        "6.6",
        "6.7.12",
        "6.8.0-60-generic",
        "6.11.0",
        "6.12.28",
        "6.12.0-124.el10",
        "6.13.12",
        "6.14.0-27-generic",
        "6.14.6",
        "6.15.0-rc5",
        "5.15.200",
        "",
        "linux",
        "6",
    ] {
        assert!(!peer_is_scrubbed(release), "{release}");
    }
}
