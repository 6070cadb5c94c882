//! Who is answered.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr};

use ipnet::IpNet;

use crate::layout::{FROM_LOOPBACK, FROM_OUTSIDE, PORT_WORDS, Settings};

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

    /// The lists of the program: each prefix with the devices that it is answered from. The longest
    /// prefix decides there, so what the kernel takes from nobody outside lies over what is allowed
    /// around it.
    pub(crate) fn lists(&self, own: &[IpAddr], broadcasts: &[Ipv4Addr]) -> BTreeMap<IpNet, u32> {
        let special = special(own, broadcasts);
        let within = |prefix: &IpNet| {
            let around = special.iter().filter(|(it, _)| it.contains(prefix));
            around.fold(FROM_OUTSIDE | FROM_LOOPBACK, |bits, (_, it)| bits & it)
        };
        let mut lists: BTreeMap<_, _> = (self.prefixes.iter())
            .map(|prefix| (prefix.trunc(), within(&prefix.trunc())))
            .collect();
        let over = special.keys().filter(|it| is_within(&lists, it));
        let over: Vec<_> = over.map(|it| (*it, within(it))).collect();
        lists.extend(over);
        lists
    }
}

/// Sources that the kernel takes from no device but loopback, or from none (ip_route_input_slow,
/// net/ipv4/route.c; ip6_rcv_core, net/ipv6/ip6_input.c).
fn special(own: &[IpAddr], broadcasts: &[Ipv4Addr]) -> BTreeMap<IpNet, u32> {
    let net = |text: &str| text.parse::<IpNet>().expect("a prefix");
    let mut special = BTreeMap::from([
        (net("127.0.0.0/8"), FROM_LOOPBACK),
        (net("::1/128"), FROM_LOOPBACK),
        (net("::ffff:0:0/96"), 0),
    ]);
    let mut add = |addr, bits| *special.entry(IpNet::from(addr)).or_insert(bits) &= bits;
    own.iter().for_each(|addr| add(*addr, FROM_LOOPBACK));
    broadcasts.iter().for_each(|addr| add(IpAddr::V4(*addr), 0));
    special
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
        rules.lists(&own, &broadcasts)
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
            ("10.0.0.2", FROM_OUTSIDE | FROM_LOOPBACK),
            ("10.0.0.1", FROM_LOOPBACK),
            ("10.0.0.255", 0),
            ("127.5.0.1", FROM_LOOPBACK),
            ("::1", FROM_LOOPBACK),
            ("fd00::1", FROM_LOOPBACK),
            ("fd00::2", FROM_OUTSIDE | FROM_LOOPBACK),
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
        assert_eq!(of(&lists, "127.0.0.1"), FROM_LOOPBACK);
        assert_eq!(of(&lists, "127.0.0.2"), 0);
        assert_eq!(lists.len(), 2);
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
