//! Sets of addresses and of ports, made for looking up.

use std::net::IpAddr;

use ipnet::{IpNet, Ipv4Net, Ipv4Subnets, Ipv6Net, Ipv6Subnets};

use super::ranges::Ranges;

/// A set of prefixes, kept as ranges. Clones share their memory.
#[derive(Clone, Debug, Default)]
pub struct Prefixes {
    v4: Ranges<u32>,
    v6: Ranges<u128>,
    /// How many it was made of.
    len: usize,
}

impl Prefixes {
    /// The set of addresses in any of `prefixes`.
    ///
    /// A v4-mapped prefix (`::ffff:10.0.0.0/104`) means its IPv4 addresses, since no peer is taken
    /// for a v4-mapped one. A shorter one than /96 has IPv6 addresses only.
    pub fn new(prefixes: impl IntoIterator<Item = IpNet>) -> Self {
        let mut v4 = Vec::new();
        let mut v6 = Vec::new();
        for prefix in prefixes {
            match prefix {
                IpNet::V4(net) => v4.push(range_v4(net)),
                IpNet::V6(net) => match unmapped(net) {
                    Some(net) => v4.push(range_v4(net)),
                    None => v6.push((net.network().to_bits(), net.broadcast().to_bits())),
                },
            }
        }
        Self {
            len: v4.len() + v6.len(),
            v4: Ranges::new(v4),
            v6: Ranges::new(v6),
        }
    }

    /// Whether `addr` is in one of them. A v4-mapped address is the IPv4 one that it stands for.
    pub fn contains(&self, addr: IpAddr) -> bool {
        self.contains_by_index(addr.to_canonical())
    }

    /// The same of an address that is not v4-mapped, as no peer's is.
    pub(super) fn contains_canonical(&self, addr: IpAddr) -> bool {
        match addr {
            IpAddr::V4(addr) => self.v4.contains(addr.to_bits()),
            IpAddr::V6(addr) => self.v6.contains(addr.to_bits()),
        }
    }

    /// The same by the indexes that there are.
    pub(super) fn contains_by_index(&self, addr: IpAddr) -> bool {
        match addr {
            IpAddr::V4(addr) => self.v4.contains_by_index(addr.to_bits()),
            IpAddr::V6(addr) => self.v6.contains_by_index(addr.to_bits()),
        }
    }

    /// Whether there is an index.
    pub(super) fn has_index(&self) -> bool {
        self.v4.has_index() || self.v6.has_index()
    }

    /// Number of prefixes that it was made of, those that others cover among them.
    pub fn len(&self) -> usize {
        self.len
    }

    /// What is in it and not in `others`.
    pub(super) fn without(&self, others: &Self) -> Self {
        let v4 = self.v4.without(&others.v4);
        let v6 = self.v6.without(&others.v6);
        Self {
            len: v4.len() + v6.len(),
            v4: Ranges::new(v4),
            v6: Ranges::new(v6),
        }
    }

    /// The same as prefixes that do not overlap, the fewest.
    pub(super) fn to_vec(&self) -> Vec<IpNet> {
        let v4 = self.v4.iter();
        let v4 = v4.flat_map(|(first, last)| Ipv4Subnets::new(first.into(), last.into(), 0));
        let v6 = self.v6.iter();
        let v6 = v6.flat_map(|(first, last)| Ipv6Subnets::new(first.into(), last.into(), 0));
        v4.map(IpNet::V4).chain(v6.map(IpNet::V6)).collect()
    }

    /// Whether nothing is in it.
    pub fn is_empty(&self) -> bool {
        self.v4.is_empty() && self.v6.is_empty()
    }
}

/// The first and the last address of a prefix.
fn range_v4(prefix: Ipv4Net) -> (u32, u32) {
    (prefix.network().to_bits(), prefix.broadcast().to_bits())
}

/// The IPv4 prefix that a v4-mapped one stands for.
fn unmapped(prefix: Ipv6Net) -> Option<Ipv4Net> {
    let addr = prefix.addr().to_ipv4_mapped()?;
    Ipv4Net::new(addr, prefix.prefix_len().checked_sub(96)?).ok()
}

/// A set of port numbers, one bit each.
#[derive(Clone, Debug)]
pub struct Ports(Box<[u64; 1024]>);

impl Ports {
    /// The set of `ports`.
    pub fn new(ports: impl IntoIterator<Item = u16>) -> Self {
        let mut bits = Box::new([0; 1024]);
        for port in ports {
            bits[usize::from(port / 64)] |= 1 << (port % 64);
        }
        Self(bits)
    }

    /// All of them, in ascending order.
    pub(super) fn iter(&self) -> impl Iterator<Item = u16> {
        (0..=u16::MAX).filter(|port| self.contains(*port))
    }

    /// Whether `port` is in it.
    pub fn contains(&self, port: u16) -> bool {
        self.0[usize::from(port / 64)] & (1 << (port % 64)) != 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn prefixes(texts: &[&str]) -> Prefixes {
        Prefixes::new(texts.iter().map(|text| text.parse().unwrap()))
    }

    #[test]
    fn nested_and_adjacent_prefixes_are_found() {
        let set = prefixes(&["10.0.0.0/8", "10.5.0.0/16", "11.0.0.0/8", "2001:db8::/32"]);
        for addr in [
            "10.200.0.1",
            "10.5.0.1",
            "11.255.255.255",
            "2001:db8:ffff::1",
        ] {
            assert!(set.contains(addr.parse().unwrap()), "{addr}");
        }
        for addr in ["9.255.255.255", "12.0.0.0", "2001:db9::"] {
            assert!(!set.contains(addr.parse().unwrap()), "{addr}");
        }
    }

    #[test]
    fn a_mapped_address_is_looked_up_as_ipv4() {
        let set = prefixes(&["10.0.0.0/8"]);
        assert!(set.contains("::ffff:10.0.0.1".parse().unwrap()));
        assert!(!set.contains("::ffff:11.0.0.1".parse().unwrap()));
    }
}
