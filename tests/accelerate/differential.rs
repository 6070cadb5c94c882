//! The program against the sockets: nothing is answered that they would refuse, and no byte
//! differs.

use std::env;
use std::net::{IpAddr, SocketAddr};

use reflector::internals::guard::{Guard, Prefixes};
use reflector::ipnet::{IpNet, Ipv4Net};
use reflector_accelerate::{
    Accelerator, Device, Frame, Framing, Local, Outcome, Routes, Rules, Way,
};
use reflector_netlab::topology::Namespace;
use reflector_testkit::random::Random;

use crate::forge::Forge;
use crate::in_namespaces;
use crate::socket::Host;

/// Each with rules of its own.
const ROUNDS: usize = 100;
/// The loopback of any namespace.
const IFINDEX: u32 = 1;
/// Whose frames a port of a bridge takes as well.
const OTHER: [u8; 6] = [2, 0, 0, 0, 0, 9];

const LISTENERS: [&str; 3] = ["0.0.0.0:9007", "[::]:9007", "10.0.0.2:7"];
const OWN: [(&str, u32); 8] = [
    ("10.0.0.1", 7),
    ("10.0.0.2", 7),
    ("127.0.0.1", 1),
    ("fd00::1", 7),
    ("fe80::1", 1),
    ("fe80::2", 7),
    ("::1", 1),
    ("100.64.0.1", 8),
];
const NETWORKS: [&str; 2] = ["10.0.0.0/8", "100.64.0.0/24"];
const SOURCES: [&str; 24] = [
    "10.0.0.9",
    "fd00::9",
    "10.1.2.3",
    "fe80::9",
    "10.66.0.1",
    "192.168.1.1",
    "8.8.8.8",
    "10.0.0.1",
    "127.0.0.1",
    "127.9.9.9",
    "0.0.0.0",
    "0.1.2.3",
    "10.255.255.255",
    "100.64.0.255",
    "255.255.255.255",
    "224.0.0.1",
    "240.0.0.1",
    "fd00:66::1",
    "2001:db8::9",
    "fd00::1",
    "::1",
    "::",
    "ff02::1",
    "::ffff:10.0.0.9",
];
const TARGETS: [&str; 12] = [
    "10.0.0.1",
    "10.0.0.2",
    "127.0.0.1",
    "100.64.0.1",
    "10.255.255.255",
    "224.0.0.1",
    "10.0.0.77",
    "fd00::1",
    "fe80::1",
    "fe80::2",
    "::1",
    "ff02::1",
];
/// Where routes lead to.
const ROUTED: [&str; 9] = [
    "0.0.0.0/0",
    "::/0",
    "10.0.0.0/8",
    "10.0.0.0/24",
    "10.1.2.3/32",
    "192.168.0.0/16",
    "127.0.0.0/16",
    "fd00::/16",
    "fe80::/64",
];
const PREFIXES: [&str; 14] = [
    "0.0.0.0/0",
    "::/0",
    "10.0.0.0/8",
    "10.0.0.0/30",
    "10.64.0.0/10",
    "10.66.0.1/32",
    "127.0.0.0/8",
    "127.0.0.1/32",
    "192.168.0.0/16",
    "224.0.0.0/3",
    "fd00::/8",
    "fd00:66::/32",
    "fe80::/10",
    "::/64",
];

fn all<T: std::str::FromStr>(texts: &[&str]) -> Vec<T>
where
    T::Err: std::fmt::Debug,
{
    texts.iter().map(|text| text.parse().unwrap()).collect()
}

/// As many frames as REFLECTOR_FRAMES says, 100 000 by default.
#[test]
fn nothing_is_answered_that_the_sockets_would_refuse_and_no_byte_differs() {
    let frames = env::var("REFLECTOR_FRAMES").map_or(100_000, |text| text.parse().unwrap());
    let seed = env::var("REFLECTOR_SEED").map_or(17, |text| text.parse().unwrap());
    in_namespaces("differential", || {
        let namespace = Namespace::new().unwrap();
        let [answered, passed] = namespace.run(|| compare(&mut Random::new(seed), frames));
        println!("{frames} frames: {answered} answered, {passed} passed; seed {seed}");
        assert!(answered > frames / 50, "{answered} are few");
        assert!(passed > frames / 50, "{passed} are few");
    });
}

/// How many frames were answered, and how many were passed.
fn compare(random: &mut Random, frames: usize) -> [usize; 2] {
    let mut accelerator = None;
    let mut outcomes = [0; 2];
    let (sources, targets) = (all(&SOURCES), all(&TARGETS));
    for _ in 0..ROUNDS {
        let (host, rules) = draw(random);
        let accelerator = tell(&mut accelerator, &host, rules);
        for _ in 0..frames.div_ceil(ROUNDS) {
            let mut forge = Forge {
                random: &mut *random,
                sources: &sources,
                targets: &targets,
                source_ports: &[40000, 1024, 65535, 0, 7, 19, 53, 9007],
                target_ports: &[9007, 7, 9008, 0],
            };
            let (bytes, segment_len) = forge.frame();
            let frame = Frame {
                bytes: &bytes,
                ifindex: IFINDEX,
                segment_len,
            };
            let expected = match host.reply(&bytes, segment_len) {
                Some(reply) if can_be(&reply, &bytes, segment_len) => Outcome::Answered(reply),
                _ => Outcome::Passed(bytes.clone()),
            };
            let became = accelerator.test_run(&frame);
            let became = became.unwrap_or_else(|error| panic!("{error}: {frame:02x?}"));
            assert_eq!(became, expected, "of {frame:02x?}");
            outcomes[usize::from(matches!(became, Outcome::Passed(_)))] += 1;
        }
    }
    outcomes
}

/// What is behind a request is cut off, but not of a train, which goes to the sockets then.
fn can_be(reply: &[u8], frame: &[u8], segment_len: u32) -> bool {
    segment_len == 0 || reply.len() == frame.len()
}

/// A host with rules of its own.
fn draw(random: &mut Random) -> (Host, Rules) {
    let mut some = |most: usize| -> Vec<IpNet> {
        let count = random.below(most + 1);
        let texts: Vec<_> = (0..count).map(|_| random.one_of(&PREFIXES)).collect();
        all(&texts)
    };
    let (allow, deny) = (some(8), some(3));
    let is_wide = random.below(2) == 0;
    let listeners: Vec<SocketAddr> = all(&LISTENERS);
    let rules = rules_of(
        Prefixes::new(if is_wide {
            all(&["0.0.0.0/0", "::/0"])
        } else {
            allow
        }),
        Prefixes::new(deny),
        random.below(3) == 0,
    );
    let own_ports: Vec<u16> = listeners.iter().map(SocketAddr::port).collect();
    let admitted = rules.admitted(own_ports.iter().copied());
    let tos = random.one_of(&[0, 0, 0x28, 0xff]);
    let host = Host {
        guard: Guard::new(&rules, own_ports),
        has_loop_guard: rules.loop_guard,
        listeners,
        own: own(),
        networks: all(&NETWORKS),
        ifindex: IFINDEX,
        other: (random.below(2) == 0).then_some(OTHER),
        is_loopback: random.below(3) == 0,
        routes: routes(random),
        tos,
    };
    let rules = Rules {
        prefixes: admitted.prefixes,
        denied_ports: admitted.denied_ports,
        has_loop_guard: admitted.loop_guard,
        hop_limit: 64,
        tos,
    };
    (host, rules)
}

/// Mostly by the device of the test, and by others, none, or not at all.
fn routes(random: &mut Random) -> Vec<(IpNet, Vec<u32>)> {
    let mut routes = Vec::new();
    for net in all(&ROUTED) {
        let devices = random.one_of(&[&[IFINDEX][..], &[IFINDEX], &[5, IFINDEX], &[5], &[]]);
        if random.below(4) > 0 {
            routes.push((net, devices.to_vec()));
        }
    }
    routes
}

fn rules_of(allow: Prefixes, deny: Prefixes, loop_guard: bool) -> reflector::Rules {
    let mut rules = reflector::Rules::default();
    (rules.allow, rules.deny, rules.loop_guard) = (allow, deny, loop_guard);
    rules
}

fn own() -> Vec<Local> {
    let local = |(addr, ifindex): (&str, u32)| Local {
        addr: addr.parse::<IpAddr>().unwrap(),
        ifindex,
    };
    OWN.map(local).to_vec()
}

/// Tells the one program, which is loaded the first time, what holds from now on.
fn tell<'a>(
    accelerator: &'a mut Option<Accelerator>,
    host: &Host,
    rules: Rules,
) -> &'a mut Accelerator {
    let is_new = accelerator.is_none();
    let accelerator = accelerator
        .get_or_insert_with(|| Accelerator::load(rules.clone(), host.listeners.clone()).unwrap());
    if is_new {
        let broadcasts = host.networks.iter().map(Ipv4Net::broadcast).collect();
        accelerator
            .set_addresses(host.own.clone(), broadcasts)
            .unwrap();
    } else {
        accelerator.set_rules(rules).unwrap();
    }
    let device = Device {
        ifindex: IFINDEX,
        way: Way::Plain,
        framing: Framing::Ethernet,
        is_loopback: host.is_loopback,
        other: host.other,
        routed_by: IFINDEX,
    };
    let routes = Routes(host.routes.iter().cloned().collect());
    accelerator.set_routes(routes).unwrap();
    accelerator.attach(&device).unwrap();
    accelerator
}
