//! While datagrams flow: rules, addresses and attachments change, and nothing is lost.

use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use reflector_accelerate::{Device, Framing, Local, Way};
use reflector_netlab::topology::{Namespace, Route, net};
use reflector_testkit::{Client, Engine, LISTEN, PORT, Reflector, at, join};

use rustix::thread::{CapabilitySet, CapabilitySets, set_capabilities};

use crate::in_namespaces;
use crate::stage::{Accelerated, all_by, everybody, rules};

const OWN: [&str; 2] = ["10.9.0.1", "fd09::1"];

/// Asks one datagram after the other until `done`; each has to be answered. How many they were.
fn ask_until(client: &Client, done: &AtomicBool) -> u64 {
    let mut count = 0;
    while !done.load(Ordering::Relaxed) {
        client.ask(b"while all changes");
        count += 1;
    }
    count
}

/// Asks from `peer` while `change` is made again and again; what was asked, and what was answered
/// in the kernel and by sockets.
fn under_load(
    server: &Namespace,
    peer: &Namespace,
    mut change: impl FnMut(&mut Accelerated<'_>, usize),
) -> [u64; 3] {
    let args = [LISTEN, &["--cores", "1"]].concat();
    let reflector = Reflector::start(server, Engine::Mmsg, &args);
    let mut accelerated = Accelerated::at(server, ("wire", Way::Peer), &OWN, PORT, everybody());
    let clients = [at([10, 9, 0, 1]), "[fd09::1]:5151".parse().unwrap()].map(|asked| {
        let any = if asked.is_ipv4() {
            "0.0.0.0:0"
        } else {
            "[::]:0"
        };
        Client::connect_from(peer, any.parse().unwrap(), asked)
    });
    let done = AtomicBool::new(false);
    let asked: u64 = thread::scope(|scope| {
        let done = &done;
        let asking = clients
            .each_ref()
            .map(|it| scope.spawn(move || ask_until(it, done)));
        for round in 0..200 {
            change(&mut accelerated, round);
        }
        done.store(true, Ordering::Relaxed);
        asking.into_iter().map(|it| it.join().unwrap()).sum()
    });
    let in_kernel = accelerated.counted().datagrams;
    let summary = reflector.stop();
    [asked, in_kernel, summary["replied"].as_u64().unwrap()]
}

/// Lists of hundreds of prefixes are exchanged; the two clients are in all of them.
#[test]
fn a_change_of_rules_under_load_loses_nothing_and_passes_nothing() {
    in_namespaces("changes::rules", || {
        let (server, peer) = two();
        let lists = [0, 1].map(|odd| {
            let others =
                (0..300).map(|it| format!("10.{}.{}.0/24", 100 + it % 100, 2 * it % 256 + odd));
            others
                .chain(["10.9.0.0/24".into(), "fd09::/64".into()])
                .collect::<Vec<_>>()
        });
        let lists = lists.map(|list| {
            let mut list: Vec<&str> = list.iter().map(String::as_str).collect();
            list.sort_unstable();
            list.dedup();
            rules(&list, false)
        });
        let [asked, in_kernel, by_sockets] = under_load(&server, &peer, |accelerated, round| {
            accelerated
                .program
                .set_rules(lists[round % 2].clone())
                .unwrap();
        });
        assert!(asked > 0);
        assert_eq!([in_kernel, by_sockets], [asked, 0]);
    });
}

#[test]
fn attaching_and_letting_go_under_load_loses_nothing() {
    in_namespaces("changes::attachments", || {
        let (server, peer) = two();
        let [asked, in_kernel, by_sockets] =
            under_load(&server, &peer, |accelerated, round| match round % 3 {
                0 => accelerated.detach("wire"),
                1 => accelerated.attach("wire", Way::Plain, None),
                _ => accelerated.attach("wire", Way::Peer, None),
            });
        assert_eq!(in_kernel + by_sockets, asked);
    });
}

#[test]
fn addresses_that_come_and_go_under_load_lose_nothing() {
    in_namespaces("changes::addresses", || {
        let (server, peer) = two();
        let [asked, in_kernel, by_sockets] = under_load(&server, &peer, |accelerated, round| {
            let some: &[&str] = [&OWN[..], &OWN[..1], &[], &OWN[1..]][round % 4];
            accelerated.set_addresses("wire", some);
        });
        assert_eq!(in_kernel + by_sockets, asked);
    });
}

/// A router answers what is sent to itself, and not what it forwards to the same port.
#[test]
fn what_is_forwarded_is_left_alone() {
    in_namespaces("changes::forwarded", || {
        let (router, peer) = two();
        let beyond = Namespace::new().unwrap();
        router.add_veth("behind", &beyond, "behind").unwrap();
        router.add_address("behind", net("10.10.0.1/24")).unwrap();
        beyond.add_address("behind", net("10.10.0.2/24")).unwrap();
        for namespace in [&router, &beyond] {
            namespace.set_up("behind").unwrap();
        }
        for namespace in [&router, &beyond] {
            namespace.wait_ready("behind").unwrap();
        }
        router.set_sysctl("ipv4/ip_forward", "1").unwrap();
        peer.add_route(&Route::to(net("10.10.0.0/24")).via([10, 9, 0, 1].into()))
            .unwrap();
        beyond
            .add_route(&Route::to(net("10.9.0.0/24")).via([10, 10, 0, 1].into()))
            .unwrap();
        let own = ["10.9.0.1", "10.10.0.1"];
        let accelerated = Accelerated::at(&router, ("wire", Way::Peer), &own, PORT, everybody());
        let args = [LISTEN, &["--cores", "1"]].concat();
        let reflector = Reflector::start(&beyond, Engine::Mmsg, &args);
        let any = "10.9.0.2:0".parse().unwrap();
        Client::connect_from(&peer, any, at([10, 10, 0, 2])).ask(b"beyond");
        assert_eq!(accelerated.counted().datagrams, 0);
        Client::connect_from(&peer, any, at([10, 10, 0, 1])).ask(b"another address of its own");
        assert_eq!(accelerated.counted().datagrams, 1);
        assert_eq!(reflector.stop()["replied"], 1);
    });
}

/// Whoever attaches later is asked first, so that no program that is there already can end the way
/// of a frame before.
#[test]
fn the_program_is_the_first_at_its_device() {
    in_namespaces("changes::first", || {
        let (server, peer) = two();
        let wire = ("wire", Way::Peer);
        let earlier = Accelerated::at(&server, wire, &OWN, PORT, everybody());
        let later = Accelerated::at(&server, wire, &OWN, PORT, everybody());
        let any = "10.9.0.2:0".parse().unwrap();
        let client = Client::connect_from(&peer, any, at([10, 9, 0, 1]));
        client.ask(b"the later one");
        assert_eq!([&earlier, &later].map(|it| it.counted().datagrams), [0, 1]);
        drop(later);
        client.ask(b"the earlier one");
        assert_eq!(earlier.counted().datagrams, 1);
    });
}

fn two() -> (Namespace, Namespace) {
    let (server, peer) = (Namespace::new().unwrap(), Namespace::new().unwrap());
    join(&server, &peer, "wire");
    (server, peer)
}

/// All that is done while it runs, on a thread that has no capability any more.
#[test]
fn what_is_loaded_is_fed_attached_and_read_without_rights() {
    in_namespaces("changes::rights", || {
        let (server, peer) = two();
        let mut accelerated =
            Accelerated::at(&server, ("wire", Way::Peer), &[], PORT, rules(&[], false));
        accelerated.detach("wire");
        let none = CapabilitySets {
            effective: CapabilitySet::empty(),
            permitted: CapabilitySet::empty(),
            inheritable: CapabilitySet::empty(),
        };
        let ifindex = server.interface_index("wire").unwrap();
        let program = &mut accelerated.program;
        server.run(|| {
            // Of this thread alone, which ends with it.
            set_capabilities(None, none).unwrap();
            program.set_rules(everybody()).unwrap();
            let addr = [10, 9, 0, 1].into();
            program
                .set_addresses(vec![Local { addr, ifindex }], vec![])
                .unwrap();
            let device = Device {
                ifindex,
                way: Way::Peer,
                framing: Framing::Ethernet,
                is_loopback: false,
                other: None,
                routed_by: ifindex,
            };
            program.set_routes(all_by(ifindex)).unwrap();
            program.attach(&device).unwrap();
        });
        let any = "10.9.0.2:0".parse().unwrap();
        Client::connect_from(&peer, any, at([10, 9, 0, 1])).ask(b"without rights");
        assert_eq!(accelerated.counted().datagrams, 1);
    });
}
