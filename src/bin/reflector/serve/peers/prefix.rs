//! One prefix, as typed, and what it comes to.

use std::net::{IpAddr, Ipv4Addr};

use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use reflector::DEFAULT_ALLOW;

/// One prefix, or a set of them that has a name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Prefix {
    /// Every address of both families.
    Any,
    /// The default of `--allow`.
    Private,
    /// The addresses of one network.
    Net(IpNet),
}

impl Prefix {
    /// The networks of it.
    pub fn nets(&self) -> Vec<IpNet> {
        match *self {
            Prefix::Any => vec![IpNet::V4(Ipv4Net::default()), IpNet::V6(Ipv6Net::default())],
            Prefix::Private => DEFAULT_ALLOW
                .iter()
                .map(|net| net.parse().expect("a prefix"))
                .collect(),
            Prefix::Net(net) => vec![net],
        }
    }
}

/// Reads a prefix, an address, or the name of a set.
pub fn prefix(text: &str) -> Result<Prefix, String> {
    match text {
        "any" => return Ok(Prefix::Any),
        "private" => return Ok(Prefix::Private),
        _ => {}
    }
    let net =
        net(text).ok_or("expected a prefix such as 10.0.0.0/8, an address, 'private' or 'any'")?;
    if is_half_mapped(net) {
        return Err(
            "it is more than all of IPv4, written as IPv6 (::ffff:0:0/96); expected 0.0.0.0/0, a \
             longer prefix, or a prefix of IPv6 addresses"
                .to_owned(),
        );
    }
    if net.addr() != net.network() {
        return Err(format!(
            "it is no prefix, having bits behind its length; expected {} or {}",
            net.trunc(),
            IpNet::from(net.addr())
        ));
    }
    Ok(Prefix::Net(net))
}

/// A prefix or an address as all programs read it: without leading zeros, which make a number octal
/// for some.
fn net(text: &str) -> Option<IpNet> {
    let (addr, len) = match text.split_once('/') {
        Some((addr, len)) => (addr, Some(len)),
        None => (text, None),
    };
    let addr: IpAddr = addr.parse().ok()?;
    let Some(len) = len else {
        return Some(addr.into());
    };
    let number: u8 = len.parse().ok()?;
    let is_plain = number.to_string() == len;
    IpNet::new(addr, number).ok().filter(|_| is_plain)
}

/// Whether `net` is v4-mapped by its looks and longer than IPv4 is: nobody can mean that.
fn is_half_mapped(net: IpNet) -> bool {
    /// Bits in front of those that only a v4-mapped address has.
    const LEN_BEFORE_MAPPED: u8 = 80;
    let IpNet::V6(net) = net else { return false };
    let mapped = Ipv4Addr::UNSPECIFIED.to_ipv6_mapped();
    let looks_mapped =
        net.addr().to_ipv4_mapped().is_some() || net.prefix_len() > LEN_BEFORE_MAPPED;
    net.prefix_len() < 96 && net.contains(&mapped) && looks_mapped
}
