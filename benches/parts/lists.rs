//! Lists of peers, ours beside a trie. Half of the addresses are in the list.

use std::hint::black_box;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use fastrand::Rng;
use prefix_trie::PrefixSet;
use reflector::internals::guard::Prefixes;
use reflector::ipnet::{IpNet, Ipv4Net, Ipv6Net};

use super::{Family, Run};

/// Addresses that are looked up in a run; more than a branch predictor learns.
pub const ADDRESSES: u64 = 1024;

pub fn ours(family: Family, count: usize) -> Run {
    let (prefixes, addresses) = list(family, count);
    let prefixes = Prefixes::new(prefixes);
    Box::new(move || {
        for &address in &addresses {
            black_box(prefixes.contains(black_box(address)));
        }
    })
}

/// By the crate prefix-trie, which is the oracle of the tests.
pub fn trie(family: Family, count: usize) -> Run {
    let (prefixes, addresses) = list(family, count);
    let (mut v4, mut v6) = (PrefixSet::new(), PrefixSet::new());
    for prefix in prefixes {
        match prefix {
            IpNet::V4(net) => v4.insert(net),
            IpNet::V6(net) => v6.insert(net),
        };
    }
    Box::new(move || {
        for &address in &addresses {
            black_box(match black_box(address) {
                IpAddr::V4(address) => v4.get_lpm(&Ipv4Net::from(address)).is_some(),
                IpAddr::V6(address) => v6.get_lpm(&Ipv6Net::from(address)).is_some(),
            });
        }
    })
}

/// Prefixes as a list of networks has them, and addresses to look up.
fn list(family: Family, count: usize) -> (Vec<IpNet>, Vec<IpAddr>) {
    let mut rng = Rng::with_seed(7);
    let prefixes: Vec<_> = (0..count).map(|_| prefix(&mut rng, family)).collect();
    let address = |number| {
        let near = prefixes[rng.usize(0..count)];
        if number % 2 == 0 {
            within(&mut rng, near)
        } else {
            let other = prefix(&mut rng, family);
            within(&mut rng, other)
        }
    };
    let addresses = (0..ADDRESSES).map(address).collect();
    (prefixes, addresses)
}

/// IPv4: from anywhere, /16 to /32. IPv6: /32 to /64 of the sixteen /16 in which most of what is
/// routed lies, so that they are far from evenly spread.
fn prefix(rng: &mut Rng, family: Family) -> IpNet {
    const ROUTED: [u128; 16] = [
        0x2001, 0x2003, 0x2400, 0x2401, 0x2402, 0x2403, 0x2404, 0x2405, 0x2600, 0x2602, 0x2604,
        0x2605, 0x2607, 0x2a00, 0x2a02, 0x2c0f,
    ];
    match family {
        Family::V4 => {
            let address = Ipv4Addr::from_bits(rng.u32(0x0100_0000..0xe000_0000));
            Ipv4Net::new_assert(address, rng.u8(16..=32)).trunc().into()
        }
        Family::V6 => {
            let address = ROUTED[rng.usize(0..16)] << 112 | rng.u128(..) >> 16;
            let address = Ipv6Addr::from_bits(address);
            Ipv6Net::new_assert(address, rng.u8(32..=64)).trunc().into()
        }
    }
}

fn within(rng: &mut Rng, prefix: IpNet) -> IpAddr {
    match prefix {
        IpNet::V4(net) => {
            let host = rng.u32(..) & net.hostmask().to_bits();
            Ipv4Addr::from_bits(net.network().to_bits() | host).into()
        }
        IpNet::V6(net) => {
            let host = rng.u128(..) & net.hostmask().to_bits();
            Ipv6Addr::from_bits(net.network().to_bits() | host).into()
        }
    }
}
