//! Who is answered.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr};

use ipnet::IpNet;

use crate::bits::Bits;
use crate::layout::{PORT_WORDS, Settings};
use crate::routes::Routes;

/// Who is answered and how, as the reflector's guard says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rules {
    /// Who is answered: prefixes that do not overlap.
    pub prefixes: Vec<IpNet>,
    /// Source ports that get no answer.
    pub denied_ports: Vec<u16>,
    /// Whether a reply has one hop less to go than its request had left.
    pub has_loop_guard: bool,
    /// The hop limit of replies without loop guard.
    pub hop_limit: u8,
    /// The type of service of replies.
    pub tos: u8,
}

impl Rules {
    pub(crate) fn settings(&self) -> Box<Settings> {
        let mut settings = Box::new([0; PORT_WORDS + 3]);
        for port in &self.denied_ports {
            settings[usize::from(port / 64)] |= 1 << (port % 64);
        }
        settings[PORT_WORDS..].copy_from_slice(&[
            self.hop_limit.into(),
            self.tos.into(),
            self.has_loop_guard.into(),
        ]);
        settings
    }

    /// The lists of the program: each prefix with the devices that it is answered by, as `bits`
    /// numbers them. The longest prefix decides there, so what the kernel takes from nobody outside
    /// and what a route of its own leads to lie over what is allowed around them.
    pub(crate) fn lists(
        &self,
        own: &[IpAddr],
        broadcasts: &[Ipv4Addr],
        routes: &Routes,
        bits: &Bits,
    ) -> BTreeMap<IpNet, u32> {
        let special = special(own, broadcasts, bits.of_loopbacks());
        let routed = routed(routes, bits);
        let by = |prefix: &IpNet| {
            let special = around(&special, prefix).reduce(|all, it| all & it);
            special.unwrap_or_else(|| longest(&routed, prefix))
        };
        let allowed: BTreeMap<_, _> = (self.prefixes.iter())
            .map(|prefix| (prefix.trunc(), by(&prefix.trunc())))
            .collect();
        let over = special.keys().chain(routed.keys());
        let over = over.filter(|it| is_within(&allowed, it));
        let over: Vec<_> = over.map(|it| (*it, by(it))).collect();
        allowed.into_iter().chain(over).collect()
    }
}

/// Sources that the kernel takes from no device but loopback, or from none (ip_route_input_slow,
/// net/ipv4/route.c; ip6_rcv_core, net/ipv6/ip6_input.c).
fn special(own: &[IpAddr], broadcasts: &[Ipv4Addr], loopbacks: u32) -> BTreeMap<IpNet, u32> {
    let net = |text: &str| text.parse::<IpNet>().expect("a prefix");
    let mut special = BTreeMap::from([
        (net("127.0.0.0/8"), loopbacks),
        (net("::1/128"), loopbacks),
        (net("::ffff:0:0/96"), 0),
    ]);
    let mut add = |addr, by| *special.entry(IpNet::from(addr)).or_insert(by) &= by;
    own.iter().for_each(|addr| add(*addr, loopbacks));
    broadcasts.iter().for_each(|addr| add(IpAddr::V4(*addr), 0));
    special
}

/// Routes with the bits of their devices, without those that say what a shorter one says.
fn routed(routes: &Routes, bits: &Bits) -> BTreeMap<IpNet, u32> {
    let mut routed = BTreeMap::new();
    // A shorter prefix comes before those that lie in it.
    for (net, devices) in &routes.0 {
        let by = devices.iter().fold(0, |all, it| all | bits.of(*it));
        if longest(&routed, net) != by {
            routed.insert(*net, by);
        }
    }
    routed
}

/// What the longest of `nets` around `prefix` has, or nothing.
fn longest(nets: &BTreeMap<IpNet, u32>, prefix: &IpNet) -> u32 {
    around(nets, prefix).next().unwrap_or(0)
}

/// What those of `nets` have that `prefix` lies in, of the longest first.
fn around(nets: &BTreeMap<IpNet, u32>, prefix: &IpNet) -> impl Iterator<Item = u32> {
    let around = std::iter::successors(Some(*prefix), IpNet::supernet);
    around.filter_map(|it| nets.get(&it.trunc()).copied())
}

/// Whether `prefix` lies in one of `disjoint`: of those that begin at or before it only the last
/// can reach as far.
fn is_within(disjoint: &BTreeMap<IpNet, u32>, prefix: &IpNet) -> bool {
    let last = disjoint.range(..=IpNet::from(prefix.network())).next_back();
    last.is_some_and(|(it, _)| it.contains(prefix))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn nets(texts: &[&str]) -> Vec<IpNet> {
        texts.iter().map(|text| text.parse().unwrap()).collect()
    }

    /// By device 1, a loopback; 2, by which all is reached; and 3, by which one net is.
    const LOOPBACK: u32 = 1;
    const ALL: u32 = 2;
    const ONE: u32 = 4;

    fn lists(prefixes: &[&str], own: &[&str], broadcasts: &[&str]) -> BTreeMap<IpNet, u32> {
        let rules = Rules {
            prefixes: nets(prefixes),
            denied_ports: Vec::new(),
            has_loop_guard: false,
            hop_limit: 64,
            tos: 0,
        };
        let own: Vec<IpAddr> = own.iter().map(|text| text.parse().unwrap()).collect();
        let broadcasts: Vec<_> = broadcasts.iter().map(|it| it.parse().unwrap()).collect();
        let mut bits = Bits::default();
        for (index, is_loopback) in [(1, true), (2, false), (3, false)] {
            bits.give(index, is_loopback, |_| true).unwrap();
        }
        let route = |net: &str, devices: &[u32]| (net.parse().unwrap(), devices.into());
        let routes = Routes(BTreeMap::from([
            route("0.0.0.0/0", &[2]),
            route("::/0", &[2]),
            route("10.2.0.0/16", &[3]),
            route("10.2.2.0/24", &[2, 3]),
            route("10.2.3.0/24", &[]),
            route("10.2.4.0/24", &[9]),
            route("10.3.0.0/16", &[2]),
        ]));
        rules.lists(&own, &broadcasts, &routes, &bits)
    }

    fn of(lists: &BTreeMap<IpNet, u32>, addr: &str) -> u32 {
        let addr: IpAddr = addr.parse().unwrap();
        let longest = lists.iter().filter(|(net, _)| net.contains(&addr));
        longest
            .max_by_key(|(net, _)| net.prefix_len())
            .map_or(0, |(_, bits)| *bits)
    }

    #[test]
    fn what_the_kernel_takes_from_nobody_outside_is_not_answered_there() {
        let all = ["0.0.0.0/0", "::/0"];
        let lists = lists(&all, &["10.0.0.1", "fd00::1"], &["10.0.0.255"]);
        for (addr, bits) in [
            ("10.0.0.2", ALL),
            ("10.0.0.1", LOOPBACK),
            ("10.0.0.255", 0),
            ("127.5.0.1", LOOPBACK),
            ("::1", LOOPBACK),
            ("fd00::1", LOOPBACK),
            ("fd00::2", ALL),
            ("::ffff:10.0.0.2", 0),
        ] {
            assert_eq!(of(&lists, addr), bits, "{addr}");
        }
    }

    #[test]
    fn an_address_of_ours_that_is_not_allowed_stays_so() {
        let lists = lists(
            &["10.0.0.0/9", "127.0.0.1/32"],
            &["10.128.0.1", "127.0.0.1"],
            &[],
        );
        assert_eq!(of(&lists, "10.128.0.1"), 0);
        assert_eq!(of(&lists, "127.0.0.1"), LOOPBACK);
        assert_eq!(of(&lists, "127.0.0.2"), 0);
        let outside: IpNet = "10.128.0.1/32".parse().unwrap();
        assert!(!lists.contains_key(&outside));
    }

    #[test]
    fn who_is_reached_by_another_device_or_by_none_is_not_answered() {
        let lists = lists(&["10.0.0.0/9"], &["10.2.0.1"], &[]);
        for (addr, bits) in [
            ("10.1.0.1", ALL),
            ("10.2.0.1", LOOPBACK),
            ("10.2.0.2", ONE),
            ("10.2.2.1", ALL | ONE),
            ("10.2.3.1", 0),
            ("10.2.4.1", 0),
            ("10.3.0.1", ALL),
            ("10.128.0.1", 0),
        ] {
            assert_eq!(of(&lists, addr), bits, "{addr}");
        }
        let says_nothing_new = "10.3.0.0/16".parse().unwrap();
        assert!(!lists.contains_key(&says_nothing_new));
    }

    #[test]
    fn ports_are_bits() {
        let rules = Rules {
            prefixes: Vec::new(),
            denied_ports: vec![0, 65, 65535],
            has_loop_guard: true,
            hop_limit: 64,
            tos: 0x28,
        };
        let settings = rules.settings();
        assert_eq!((settings[0], settings[1], settings[1023]), (1, 2, 1 << 63));
        assert_eq!(settings[PORT_WORDS..], [64, 0x28, 1]);
    }
}
