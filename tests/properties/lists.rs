//! Lists of peers, against a trie that knows nothing of ours.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use fastrand::Rng;
use prefix_trie::PrefixSet;
use proptest::prelude::*;
use reflector::internals::datagram::{Arrival, DropReason};
use reflector::internals::guard::{Guard, Prefixes, Rules};
use reflector::ipnet::{IpNet, Ipv4Net, Ipv6Net};
use reflector_udp::addr::PeerAddr;

/// Ours and theirs, of the same lists.
struct Both {
    guard: Guard,
    allow: Tries,
    deny: Tries,
}

#[derive(Default)]
struct Tries {
    v4: PrefixSet<Ipv4Net>,
    v6: PrefixSet<Ipv6Net>,
}

impl Tries {
    fn new(list: &[IpNet]) -> Self {
        let mut tries = Self::default();
        for net in list {
            match net {
                IpNet::V4(net) => tries.v4.insert(*net),
                IpNet::V6(net) => tries.v6.insert(*net),
            };
        }
        tries
    }

    fn contains(&self, address: IpAddr) -> bool {
        match address {
            IpAddr::V4(it) => self.v4.get_lpm(&Ipv4Net::from(it)).is_some(),
            IpAddr::V6(it) => self.v6.get_lpm(&Ipv6Net::from(it)).is_some(),
        }
    }
}

impl Both {
    fn new(allow: &[IpNet], deny: &[IpNet]) -> Self {
        let mut rules = Rules::default();
        rules.allow = Prefixes::new(allow.iter().copied());
        rules.deny = Prefixes::new(deny.iter().copied());
        Self {
            guard: Guard::new(&rules, []),
            allow: Tries::new(allow),
            deny: Tries::new(deny),
        }
    }

    /// What both say of `address`, which must be the same; deny wins.
    #[track_caller]
    fn is_answered(&self, address: IpAddr) -> bool {
        let mut arrival = Arrival::EMPTY;
        arrival.flow.peer = PeerAddr::new(SocketAddr::new(address, 40_000));
        let expected = !self.deny.contains(address) && self.allow.contains(address);
        let said = self.guard.admit(&arrival);
        match said {
            // No list can allow these.
            Err(DropReason::SourceAddress) => return false,
            Ok(()) => assert!(expected, "{address} is answered"),
            Err(reason) => {
                assert_eq!(reason, DropReason::NotAllowed, "{address}");
                assert!(!expected, "{address} is refused");
            }
        }
        assert_eq!(self.guard.is_denied(address), self.deny.contains(address));
        expected
    }
}

/// The ends of `net` and their neighbours outside.
fn edges(net: IpNet) -> Vec<IpAddr> {
    match net {
        IpNet::V4(net) => {
            let (first, last) = (net.network().to_bits(), net.broadcast().to_bits());
            let edges = [first, last, first.wrapping_sub(1), last.wrapping_add(1)];
            edges.map(|it| Ipv4Addr::from_bits(it).into()).to_vec()
        }
        IpNet::V6(net) => {
            let (first, last) = (net.network().to_bits(), net.broadcast().to_bits());
            let edges = [first, last, first.wrapping_sub(1), last.wrapping_add(1)];
            let edges = edges.map(|it| IpAddr::from(Ipv6Addr::from_bits(it)));
            // A v4-mapped peer is one of IPv4, of which the trie knows nothing.
            let is_itself = |it: &IpAddr| *it == it.to_canonical();
            edges.into_iter().filter(is_itself).collect()
        }
    }
}

/// `count` prefixes of which each third lies in one before it, in one of `others`, or anywhere.
fn tangle(rng: &mut Rng, count: usize, is_v6: bool, others: &[IpNet]) -> Vec<IpNet> {
    let mut nets: Vec<IpNet> = Vec::with_capacity(count);
    while nets.len() < count {
        let parent = match rng.u8(0..3) {
            0 if !nets.is_empty() => Some(nets[rng.usize(0..nets.len())]),
            1 if !others.is_empty() => Some(others[rng.usize(0..others.len())]),
            _ => None,
        };
        nets.push(if is_v6 {
            let (bits, len) = match parent {
                Some(IpNet::V6(net)) => (net.addr().to_bits(), net.prefix_len()),
                _ => (0x2000 << 112, rng.u8(3..48)),
            };
            let below = rng.u128(..) & u128::MAX.checked_shr(len.into()).unwrap_or(0);
            let len = (len + rng.u8(0..24)).min(128);
            Ipv6Net::new_assert(Ipv6Addr::from_bits(bits | below), len)
                .trunc()
                .into()
        } else {
            let (bits, len) = match parent {
                Some(IpNet::V4(net)) => (net.addr().to_bits(), net.prefix_len()),
                _ => (rng.u32(..), rng.u8(6..28)),
            };
            let below = rng.u32(..) & u32::MAX.checked_shr(len.into()).unwrap_or(0);
            let len = (len + rng.u8(0..8)).min(32);
            Ipv4Net::new_assert(Ipv4Addr::from_bits(bits | below), len)
                .trunc()
                .into()
        });
    }
    nets
}

#[test]
fn ten_thousand_prefixes_of_each_family_in_each_other_are_as_a_trie_has_them() {
    const COUNT: usize = 10_000;
    for seed in 0..3 {
        let mut rng = Rng::with_seed(seed);
        // Deny inside allow inside deny.
        let (mut allow, mut deny) = (Vec::new(), Vec::new());
        for is_v6 in [false, true] {
            let outer = tangle(&mut rng, COUNT / 2, is_v6, &[]);
            let middle = tangle(&mut rng, COUNT, is_v6, &outer);
            let inner = tangle(&mut rng, COUNT / 2, is_v6, &middle);
            // Every second one of the outer is small enough to leave something to be allowed.
            deny.extend(outer.iter().filter(|it| it.prefix_len() > 16).chain(&inner));
            allow.extend(middle);
        }
        let both = Both::new(&allow, &deny);
        let (mut answered, mut asked) = (0, 0);
        for address in allow.iter().chain(&deny).flat_map(|&net| edges(net)) {
            answered += u32::from(both.is_answered(address));
            asked += 1;
        }
        for _ in 0..100_000 {
            let v4 = Ipv4Addr::from_bits(rng.u32(..));
            let v6 = Ipv6Addr::from_bits(0x2000 << 112 | rng.u128(..) >> 3);
            for address in [IpAddr::from(v4), v6.into()] {
                answered += u32::from(both.is_answered(address));
                asked += 1;
            }
        }
        // Both answers are there in numbers, so agreement means something.
        let part = f64::from(answered) / f64::from(asked);
        assert!((0.1..0.9).contains(&part), "{answered} of {asked}");
    }
}

fn net_v4() -> impl Strategy<Value = IpNet> {
    // Few different bits, so that they meet; at the ends of what there is, too.
    let address = prop_oneof![0..16_u32, (0..16_u32).prop_map(|it| !it), any::<u32>()];
    (address, 0..=32_u8)
        .prop_map(|(bits, len)| Ipv4Net::new_assert(Ipv4Addr::from_bits(bits), len).into())
}

fn net_v6() -> impl Strategy<Value = IpNet> {
    let near = |bits: u128| (0..64_u128).prop_map(move |it| bits | it);
    let address = prop_oneof![near(0x2001 << 112), near(!63), near(1 << 50), any::<u128>()];
    (address, prop_oneof![0..=128_u8, 120..=128_u8])
        .prop_map(|(bits, len)| Ipv6Net::new_assert(Ipv6Addr::from_bits(bits), len).into())
}

fn list() -> impl Strategy<Value = Vec<IpNet>> {
    // From a handful up to where there is an index.
    prop::collection::vec(prop_oneof![net_v4(), net_v6()], 0..150)
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_two_lists_are_as_a_trie_has_them(allow in list(), deny in list()) {
        let is_mapped = |net: &IpNet| match net {
            IpNet::V6(net) => net.addr().to_ipv4_mapped().is_some(),
            IpNet::V4(_) => false,
        };
        prop_assume!(!allow.iter().chain(&deny).any(is_mapped));
        let both = Both::new(&allow, &deny);
        for address in allow.iter().chain(&deny).flat_map(|&net| edges(net)) {
            both.is_answered(address);
        }
    }
}
