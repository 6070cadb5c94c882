//! The service to ask: `HOST:PORT` as typed, and the addresses behind it.

use std::fmt;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV6, ToSocketAddrs};
use std::str::FromStr;

use rustix::net::{AddressFamily, SocketFlags, SocketType, netdevice, socket_with};

use crate::error::Error;

/// `HOST:PORT`, not yet resolved. HOST is a name, an IPv4 address, or an IPv6 address in brackets,
/// which may name its interface: `[fe80::1%eth0]:9007`. `Display` writes it as it was typed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Target {
    host: Host,
    port: u16,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Host {
    Address(IpAddr),
    /// An IPv6 address with the interface that it is meant on, by name or index.
    Zoned(Ipv6Addr, String),
    Name(String),
}

impl Target {
    /// The addresses, in the resolver's order; at least one. With `bind`, the address that is
    /// going to be sent from, only those of its family.
    ///
    /// # Errors
    /// The name does not resolve or has no address of that family, or the interface does not
    /// exist (ENODEV).
    pub fn resolve(&self, bind: Option<IpAddr>) -> Result<Vec<SocketAddr>, Error> {
        let mut found = self.addresses()?;
        if let Some(bind) = bind {
            found.retain(|addr| addr.is_ipv4() == bind.is_ipv4());
            if found.is_empty() {
                let family = if bind.is_ipv4() { "IPv4" } else { "IPv6" };
                return Err(Error::usage(
                    format!("cannot ask {self} from {bind}"),
                    format!("the target has no {family} address"),
                ));
            }
        }
        Ok(found)
    }

    fn addresses(&self) -> Result<Vec<SocketAddr>, Error> {
        match &self.host {
            Host::Address(ip) => Ok(vec![SocketAddr::new(*ip, self.port)]),
            Host::Zoned(ip, interface) => {
                let index = interface_index(interface).map_err(|error| {
                    Error::system(format!("cannot find the interface {interface}"), &error)
                        .try_this("`ip link` lists the interfaces of this host")
                })?;
                Ok(vec![SocketAddrV6::new(*ip, self.port, 0, index).into()])
            }
            Host::Name(name) => {
                let cannot = |said: &str| {
                    Error::new(format!("cannot resolve {name}"), said).try_this(format!(
                        "give an address, or see what `getent ahosts {name}` says"
                    ))
                };
                let found = (name.as_str(), self.port).to_socket_addrs();
                let found: Vec<_> = found
                    .map_err(|error| cannot(resolver_said(&error.to_string())))?
                    .map(canonical)
                    .filter(|addr| check(addr.ip()).is_ok())
                    .collect();
                if found.is_empty() {
                    return Err(cannot("the name has no address of a single host"));
                }
                Ok(found)
            }
        }
    }
}

/// The wildcard address of the family of `ip`: `0.0.0.0` or `::`.
pub fn wildcard(ip: IpAddr) -> IpAddr {
    match ip {
        IpAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
        IpAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
    }
}

/// An IPv4 address that is written as an IPv6 address is an IPv4 address.
fn canonical(addr: SocketAddr) -> SocketAddr {
    match addr.ip().to_canonical() {
        IpAddr::V4(ip) => SocketAddr::new(ip.into(), addr.port()),
        IpAddr::V6(_) => addr,
    }
}

/// What the resolver said, without the words that `std` puts before it.
fn resolver_said(text: &str) -> &str {
    let prefix = "failed to lookup address information: ";
    text.strip_prefix(prefix).unwrap_or(text)
}

/// The index of an interface that is given by index or by name.
fn interface_index(interface: &str) -> io::Result<u32> {
    if let Ok(index) = interface.parse() {
        return Ok(index);
    }
    // Any socket will do (netdevice(7)).
    let (family, flags) = (AddressFamily::INET, SocketFlags::CLOEXEC);
    let socket = socket_with(family, SocketType::DGRAM, flags, None)?;
    Ok(netdevice::name_to_index(&socket, interface)?)
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.host {
            Host::Address(ip) => SocketAddr::new(*ip, self.port).fmt(f),
            Host::Zoned(ip, interface) => write!(f, "[{ip}%{interface}]:{}", self.port),
            Host::Name(name) => write!(f, "{name}:{}", self.port),
        }
    }
}

impl FromStr for Target {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (host, port) = split(text)?;
        let port: u16 = port
            .parse()
            .map_err(|_| format!("'{port}' is not a port (1 to 65535)"))?;
        if port == 0 {
            return Err("nobody listens on port 0; give the service's port".to_owned());
        }
        Ok(Self {
            host: parse_host(host, text.starts_with('['))?,
            port,
        })
    }
}

fn split(text: &str) -> Result<(&str, &str), String> {
    let missing = || format!("a port is missing, as in {text}:9007");
    if let Some(rest) = text.strip_prefix('[') {
        let (host, rest) = rest
            .split_once(']')
            .ok_or("the bracket is not closed, as in [2001:db8::1]:9007")?;
        return Ok((host, rest.strip_prefix(':').ok_or_else(missing)?));
    }
    let (host, port) = text.rsplit_once(':').ok_or_else(missing)?;
    if host.contains(':') {
        return Err("an IPv6 address stands in brackets, as in [2001:db8::1]:9007".to_owned());
    }
    Ok((host, port))
}

fn parse_host(host: &str, is_bracketed: bool) -> Result<Host, String> {
    if is_bracketed {
        let (ip, zone) = match host.split_once('%') {
            Some((ip, zone)) => (ip, Some(zone)),
            None => (host, None),
        };
        let ip: Ipv6Addr = ip
            .parse()
            .map_err(|_| format!("'{ip}' is not an IPv6 address"))?;
        if let Some(zone) = zone.filter(|zone| !zone.is_empty()) {
            check(ip.into())?;
            return Ok(Host::Zoned(ip, zone.to_owned()));
        }
        if ip.is_unicast_link_local() {
            return Err(
                "a link-local address needs its interface, as in [fe80::1%eth0]:9007".to_owned(),
            );
        }
        return check(ip.to_canonical()).map(Host::Address);
    }
    if let Ok(ip) = host.parse::<Ipv4Addr>() {
        return check(ip.into()).map(Host::Address);
    }
    if host.is_empty() {
        return Err("a host is missing, as in 192.0.2.1:9007".to_owned());
    }
    Ok(Host::Name(host.to_owned()))
}

/// Only a unicast address can be answered from.
fn check(ip: IpAddr) -> Result<IpAddr, String> {
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
    Ok(ip)
}

#[cfg(test)]
mod tests {
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
            ("192.0.2.1", "a port is missing"),
            ("192.0.2.1:0", "port 0"),
            ("192.0.2.1:65536", "not a port"),
            ("192.0.2.1:", "not a port"),
            (":53", "a host is missing"),
            ("2001:db8::1:53", "in brackets"),
            ("[2001:db8::1", "not closed"),
            ("[2001:db8::1]", "a port is missing"),
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
}
