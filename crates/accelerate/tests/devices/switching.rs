//! Devices that move, are renamed, become ports, go and come again.

use std::cell::Cell;
use std::iter;
use std::net::IpAddr;

use reflector_accelerate::way::Way;
use reflector_netlab::topology::{Namespace, in_namespaces, net};

use crate::recorder::{Asked, Followed, attach, detach, far_way};

/// A veth `v0` of `here` whose other end, `end`, is in `there`, up and followed; `third` is a
/// namespace besides.
struct Scene {
    here: Namespace,
    there: Namespace,
    third: Namespace,
    followed: Followed,
    marks: Cell<usize>,
}

/// Bridges that are followed as well, so that each can go when a test wants to know how far the
/// follower is. Nothing else is told of them, and "gone" alone is believed in the order in which
/// it is told.
const MARKS: [&str; 5] = ["mark0", "mark1", "mark2", "mark3", "mark4"];

impl Scene {
    fn new() -> Self {
        let [here, there, third] = [(); 3].map(|()| Namespace::new().unwrap());
        add_veth(&here, &there);
        for mark in MARKS {
            here.add_bridge(mark).unwrap();
        }
        let names = [&MARKS[..], &["v0"]].concat();
        let followed = Followed::open(&here, &names).unwrap();
        for mark in MARKS {
            assert_eq!(followed.next_of_devices(), attach(mark, Way::Plain));
        }
        assert_eq!(followed.next_of_devices(), attach("v0", far_way()));
        Self {
            here,
            there,
            third,
            followed,
            marks: Cell::new(0),
        }
    }

    /// Waits until `way` is asked for: the kernel tells of a carrier when it finds the time. Where
    /// peer redirect is not safe, there is only one way.
    fn until_way(&self, way: Way) {
        if far_way() == Way::Peer {
            let expected = Asked::SetWay("v0".into(), way);
            assert_eq!(self.followed.next_of_devices(), expected);
        }
    }

    /// What was asked up to now of devices, once the follower has come so far.
    fn asked_up_to_now(&self) -> Vec<Asked> {
        let mark = MARKS[self.marks.replace(self.marks.get() + 1)];
        self.here.delete_link(mark).unwrap();
        let next = || self.followed.next_of_devices();
        iter::repeat_with(next)
            .take_while(|it| *it != detach(mark))
            .collect()
    }
}

/// Whether ours was let go of, and its carrier may have been told of before.
fn is_let_go(asked: &[Asked]) -> bool {
    let Some((last, before)) = asked.split_last() else {
        return false;
    };
    *last == detach("v0")
        && before
            .iter()
            .all(|it| matches!(it, Asked::SetWay(_, Way::Plain)))
}

fn add_veth(here: &Namespace, there: &Namespace) {
    here.add_veth("v0", there, "end").unwrap();
    here.set_up("v0").unwrap();
    there.set_up("end").unwrap();
    here.wait_up("v0").unwrap();
}

#[test]
fn the_other_end_moves_to_a_third_namespace() {
    in_namespaces(
        "switching::the_other_end_moves_to_a_third_namespace",
        || {
            let scene = Scene::new();
            scene.there.move_link("end", &scene.third).unwrap();
            scene.until_way(Way::Plain);
            scene.third.set_up("end").unwrap();
            scene.until_way(Way::Peer);
            assert_eq!(scene.asked_up_to_now(), []);
        },
    );
}

#[test]
fn the_other_end_moves_while_it_is_down() {
    in_namespaces("switching::the_other_end_moves_while_it_is_down", || {
        let scene = Scene::new();
        scene.there.set_down("end").unwrap();
        scene.until_way(Way::Plain);
        scene.there.move_link("end", &scene.third).unwrap();
        assert_eq!(scene.asked_up_to_now(), []);
        scene.third.set_up("end").unwrap();
        scene.until_way(Way::Peer);
        assert_eq!(scene.asked_up_to_now(), []);
    });
}

#[test]
fn the_other_end_moves_here_and_away_again() {
    in_namespaces("switching::the_other_end_moves_here_and_away_again", || {
        let scene = Scene::new();
        scene.there.move_link("end", &scene.here).unwrap();
        scene.until_way(Way::Plain);
        scene.here.set_up("end").unwrap();
        scene.here.wait_up("v0").unwrap();
        assert_eq!(scene.asked_up_to_now(), []);
        scene.here.move_link("end", &scene.there).unwrap();
        scene.there.set_up("end").unwrap();
        scene.until_way(Way::Peer);
        assert_eq!(scene.asked_up_to_now(), []);
    });
}

#[test]
fn names_and_ports_change_nothing() {
    in_namespaces("switching::names_and_ports_change_nothing", || {
        let scene = Scene::new();
        scene.there.rename("end", "front").unwrap();
        scene.here.rename("v0", "v9").unwrap();
        scene.here.add_bridge("br0").unwrap();
        scene.here.set_master("v9", "br0").unwrap();
        scene.here.release("v9").unwrap();
        assert_eq!(scene.asked_up_to_now(), []);
        // It was renamed, and is let go of all the same.
        scene.here.delete_link("v9").unwrap();
        assert!(is_let_go(&scene.asked_up_to_now()));
    });
}

#[test]
fn ours_moves_away_and_comes_back() {
    in_namespaces("switching::ours_moves_away_and_comes_back", || {
        let scene = Scene::new();
        let index = scene.here.interface_index("v0").unwrap();
        scene.here.move_link("v0", &scene.third).unwrap();
        assert!(is_let_go(&scene.asked_up_to_now()));
        scene.third.set_up("v0").unwrap();
        scene.third.move_link("v0", &scene.here).unwrap();
        // Down, so that its other end has no carrier; with the number that it had.
        assert_eq!(scene.here.interface_index("v0").unwrap(), index);
        assert_eq!(scene.asked_up_to_now(), [attach("v0", Way::Plain)]);
        scene.here.set_up("v0").unwrap();
        scene.until_way(Way::Peer);
        assert_eq!(scene.asked_up_to_now(), []);
    });
}

#[test]
fn ours_is_deleted_and_made_again() {
    in_namespaces("switching::ours_is_deleted_and_made_again", || {
        let scene = Scene::new();
        scene.here.delete_link("v0").unwrap();
        assert!(is_let_go(&scene.asked_up_to_now()));
        scene.here.add_veth("v0", &scene.here, "other").unwrap();
        assert_eq!(scene.asked_up_to_now(), [attach("v0", Way::Plain)]);
        scene.here.delete_link("v0").unwrap();
        assert!(is_let_go(&scene.asked_up_to_now()));
        scene.here.add_veth("v0", &scene.there, "end").unwrap();
        assert_eq!(scene.asked_up_to_now(), [attach("v0", Way::Plain)]);
        scene.here.set_up("v0").unwrap();
        scene.there.set_up("end").unwrap();
        scene.until_way(Way::Peer);
        // Under its name, but of another kind.
        scene.here.delete_link("v0").unwrap();
        scene.here.add_vxlan("v0", None).unwrap();
        assert!(is_let_go(&scene.asked_up_to_now()));
    });
}

#[test]
fn a_macvlan_comes_to_lie_on_ours_and_goes() {
    in_namespaces("switching::a_macvlan_comes_to_lie_on_ours_and_goes", || {
        let scene = Scene::new();
        scene.here.add_macvlan("mv0", "v0").unwrap();
        assert_eq!(scene.asked_up_to_now(), [detach("v0")]);
        scene.here.delete_link("mv0").unwrap();
        assert_eq!(scene.asked_up_to_now(), [attach("v0", far_way())]);
    });
}

#[test]
fn addresses_come_and_go() {
    in_namespaces("switching::addresses_come_and_go", || {
        let scene = Scene::new();
        let nets = ["10.9.0.1/24", "fd09::1/64"].map(net);
        let has = |ip: IpAddr| {
            move |all: &reflector_accelerate::devices::LocalAddresses| match ip {
                IpAddr::V4(ip) => all.ipv4.contains(&ip),
                IpAddr::V6(ip) => all.ipv6.contains(&ip),
            }
        };
        for net in nets {
            scene.here.add_address("v0", net).unwrap();
            scene.followed.until_addresses(has(net.addr()));
        }
        scene.here.delete_address("v0", nets[0]).unwrap();
        scene
            .followed
            .until_addresses(|it| !has(nets[0].addr())(it));
        // The other one goes with its device.
        scene.here.move_link("v0", &scene.third).unwrap();
        scene
            .followed
            .until_addresses(|it| !has(nets[1].addr())(it));
    });
}

/// More changes than the socket has room for: 212 992 bytes by default.
const FLOOD: u32 = 2_000;

#[test]
fn what_the_socket_had_no_room_for_is_found() {
    in_namespaces(
        "switching::what_the_socket_had_no_room_for_is_found",
        || {
            let scene = Scene::new();
            scene.here.add_veth("flood", &scene.here, "other").unwrap();
            let held = scene.followed.fault();
            scene.here.add_address("lo", net("10.9.0.7/32")).unwrap();
            for turn in 0..FLOOD {
                scene.here.set_mtu("flood", 1_400 + turn % 2).unwrap();
            }
            // Of this nothing is told.
            scene.here.delete_link("v0").unwrap();
            scene.here.add_veth("v0", &scene.here, "v1").unwrap();
            drop(held);
            let again = attach("v0", Way::Plain);
            while scene.followed.next() != again {}
            // It may have been so more than once, but is attached in the end, when all that are let
            // go of, this one last by its name.
            let asked = scene.followed.end();
            assert!(asked.ends_with(&[detach("v0"), Asked::End]), "{asked:?}");
        },
    );
}

#[test]
fn nothing_is_asked_after_the_end() {
    in_namespaces("switching::nothing_is_asked_after_the_end", || {
        let scene = Scene::new();
        let asked = scene.followed.end();
        assert_eq!(asked.last(), Some(&Asked::End), "{asked:?}");
    });
}
