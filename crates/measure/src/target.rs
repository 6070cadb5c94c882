//! The service to ask: `HOST:PORT` as typed, and the addresses behind it.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::str::FromStr;

use crate::error::Error;
use crate::host_port::{Host, HostPort, unresolved};

/// A service, not yet resolved, and the family that it is asked over. `Display` writes it with its
/// port.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Target {
    at: HostPort,
    family: Option<Family>,
}

/// A version of the Internet Protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Family {
    /// IPv4.
    V4,
    /// IPv6.
    V6,
}

impl Family {
    /// The version of `ip`.
    pub fn of(ip: IpAddr) -> Self {
        if ip.is_ipv4() { Self::V4 } else { Self::V6 }
    }
}

impl fmt::Display for Family {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::V4 => "IPv4",
            Self::V6 => "IPv6",
        })
    }
}

impl Target {
    /// The same, asked over `family` only, if that is given.
    #[must_use]
    pub fn over(mut self, family: Option<Family>) -> Self {
        self.family = family;
        self
    }

    /// The same, at `port` if none was typed.
    #[must_use]
    pub fn at_port_or(mut self, port: u16) -> Self {
        if !self.at.has_port {
            self.at.port = port;
        }
        self
    }

    /// The addresses, in the resolver's order; at least one. With `bind`, the address that is
    /// going to be sent from, only those of its family.
    ///
    /// # Errors
    /// The name does not resolve or has no address of that family, or the interface does not
    /// exist (ENODEV).
    pub fn resolve(&self, bind: Option<IpAddr>) -> Result<Vec<SocketAddr>, Error> {
        let mut found = self.at.resolve()?;
        if let Host::Name(name) = &self.at.host {
            found.retain(|addr| check(addr.ip()).is_ok());
            if found.is_empty() {
                return Err(unresolved(name, "the name has no address of a single host"));
            }
        }
        let from_bind = bind.map(|ip| (Family::of(ip), format!("from {ip}")));
        let asked = self.family.map(|family| (family, format!("over {family}")));
        for (family, way) in asked.into_iter().chain(from_bind) {
            found.retain(|addr| Family::of(addr.ip()) == family);
            if found.is_empty() {
                return Err(Error::usage(
                    format!("cannot ask {self} {way}"),
                    format!("the target has no {family} address"),
                ));
            }
        }
        Ok(found)
    }
}

/// The wildcard address of the family of `ip`: `0.0.0.0` or `::`.
pub fn wildcard(ip: IpAddr) -> IpAddr {
    match ip {
        IpAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
        IpAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
    }
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.at.fmt(f)
    }
}

impl FromStr for Target {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let at: HostPort = text.parse()?;
        match &at.host {
            Host::Address(IpAddr::V6(ip)) if ip.is_unicast_link_local() => {
                return Err(
                    "a link-local address needs its interface, as in [fe80::1%eth0]:9007"
                        .to_owned(),
                );
            }
            Host::Address(ip) => check(*ip)?,
            Host::Zoned(ip, _) => check((*ip).into())?,
            Host::Name(_) => {}
        }
        if at.port == 0 {
            return Err("nobody listens on port 0; give the service's port".to_owned());
        }
        Ok(Self { at, family: None })
    }
}

/// Only a unicast address can be answered from.
fn check(ip: IpAddr) -> Result<(), String> {
    if ip.is_unspecified() {
        return Err(format!(
            "{ip} is a wildcard to listen on, not an address to ask; give one of the host's"
        ));
    }
    if ip.is_multicast() || ip == Ipv4Addr::BROADCAST {
        return Err(format!(
            "{ip} is not a single host's address: no answer can come from it"
        ));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::net::SocketAddrV6;

    use super::*;

    #[test]
    fn targets_are_read_and_written_alike() {
        for text in [
            "192.0.2.1:53",
            "[2001:db8::1]:53",
            "[fe80::1%eth0]:9007",
            "localhost:9007",
        ] {
            assert_eq!(text.parse::<Target>().unwrap().to_string(), text);
        }
        let mapped: Target = "[::ffff:192.0.2.1]:53".parse().unwrap();
        assert_eq!(mapped.to_string(), "192.0.2.1:53");
    }

    #[test]
    fn what_is_wrong_is_said_in_a_sentence() {
        for (text, said) in [
            ("192.0.2.1:0", "port 0"),
            ("192.0.2.1:65536", "not a port"),
            ("192.0.2.1:", "not a port"),
            (":53", "a host is missing"),
            ("2001:db8::1:53", "[2001:db8::1]:53"),
            ("[2001:db8::1", "not closed"),
            ("[nonsense]:53", "not an IPv6 address"),
            ("[fe80::1]:53", "needs its interface"),
            ("0.0.0.0:53", "wildcard"),
            ("[::]:53", "wildcard"),
            ("224.0.0.1:53", "not a single host's"),
            ("[ff02::1%eth0]:53", "not a single host's"),
            ("255.255.255.255:53", "not a single host's"),
        ] {
            let error = text.parse::<Target>().unwrap_err();
            assert!(error.contains(said), "{text}: {error}");
        }
    }

    #[test]
    fn addresses_resolve_to_themselves() {
        let target: Target = "[fe80::1%7]:53".parse().unwrap();
        let addr = SocketAddrV6::new("fe80::1".parse().unwrap(), 53, 0, 7);
        assert_eq!(target.resolve(None).unwrap(), [addr.into()]);
        let target: Target = "[fe80::1%no-such-one]:53".parse().unwrap();
        assert!(
            target
                .resolve(None)
                .unwrap_err()
                .to_string()
                .contains("no-such-one")
        );
    }

    #[test]
    fn interfaces_are_found_by_name_and_the_family_is_chosen() {
        let target: Target = "[fe80::1%lo]:53".parse().unwrap();
        let index = std::fs::read_to_string("/sys/class/net/lo/ifindex").unwrap();
        let addr = SocketAddrV6::new(
            "fe80::1".parse().unwrap(),
            53,
            0,
            index.trim().parse().unwrap(),
        );
        assert_eq!(target.resolve(None).unwrap(), [addr.into()]);

        let target: Target = "localhost:53".parse().unwrap();
        let v4 = target.resolve(Some(Ipv4Addr::LOCALHOST.into())).unwrap();
        assert!(v4.iter().all(SocketAddr::is_ipv4) && v4[0].port() == 53);
        let target: Target = "127.0.0.1:53".parse().unwrap();
        let error = target
            .resolve(Some(Ipv6Addr::LOCALHOST.into()))
            .unwrap_err();
        assert!(error.is_usage() && error.to_string().contains("no IPv6 address"));
    }

    #[test]
    fn a_target_is_asked_over_the_family_that_is_wanted() {
        let over = |text: &str, family| {
            let target: Target = text.parse().unwrap();
            target.over(Some(family)).resolve(None)
        };
        let v4 = over("localhost", Family::V4).unwrap();
        assert_eq!(v4[0], "127.0.0.1:9007".parse().unwrap());
        assert!(v4.iter().all(SocketAddr::is_ipv4));
        assert_eq!(
            over("::1", Family::V6).unwrap(),
            ["[::1]:9007".parse().unwrap()]
        );
        let error = over("127.0.0.1", Family::V6).unwrap_err();
        assert!(error.is_usage());
        assert_eq!(
            error.to_string(),
            "cannot ask 127.0.0.1:9007 over IPv6: the target has no IPv6 address"
        );
    }

    #[test]
    fn a_service_may_have_another_port_by_default() {
        let at = |text: &str| text.parse::<Target>().unwrap().at_port_or(53).to_string();
        assert_eq!(at("192.0.2.1"), "192.0.2.1:53");
        assert_eq!(at("192.0.2.1:9007"), "192.0.2.1:9007");
    }
}
