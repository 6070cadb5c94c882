//! `HOST:PORT` as people type it, and the addresses behind it.

use std::fmt;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV6, ToSocketAddrs};
use std::str::FromStr;

use rustix::net::{AddressFamily, SocketFlags, SocketType, netdevice, socket_with};

use crate::error::Error;

/// The port of a reflector, where none is typed.
pub const DEFAULT_PORT: u16 = 9007;

/// `HOST:PORT` or `HOST`, not yet resolved. HOST is a name, an IPv4 address, or an IPv6 address,
/// which may name its interface and stands in brackets before a port: `[fe80::1%eth0]:9007`.
/// `Display` writes it with its port.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HostPort {
    /// The name or address.
    pub host: Host,
    /// The port that is typed, or [`DEFAULT_PORT`].
    pub port: u16,
    /// Whether the port is typed.
    pub has_port: bool,
}

/// A name or an address.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Host {
    /// An address.
    Address(IpAddr),
    /// An IPv6 address with the interface that it is meant on, by name or index.
    Zoned(Ipv6Addr, String),
    /// A name.
    Name(String),
}

impl HostPort {
    /// The addresses, in the resolver's order; at least one.
    ///
    /// # Errors
    /// The name does not resolve, or the interface does not exist (ENODEV).
    pub fn resolve(&self) -> Result<Vec<SocketAddr>, Error> {
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
                let found = (name.as_str(), self.port).to_socket_addrs();
                let found =
                    found.map_err(|error| unresolved(name, resolver_said(&error.to_string())))?;
                Ok(found.map(canonical).collect())
            }
        }
    }
}

/// That `name` leads to no address, and why.
pub(crate) fn unresolved(name: &str, said: &str) -> Error {
    Error::new(format!("cannot resolve {name}"), said).try_this(format!(
        "give an address, or see what `getent ahosts {name}` says"
    ))
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
///
/// # Errors
/// ENODEV where there is none of that name.
pub fn interface_index(interface: &str) -> io::Result<u32> {
    if let Ok(index) = interface.parse() {
        return Ok(index);
    }
    // Any socket will do (netdevice(7)).
    let (family, flags) = (AddressFamily::INET, SocketFlags::CLOEXEC);
    let socket = socket_with(family, SocketType::DGRAM, flags, None)?;
    Ok(netdevice::name_to_index(&socket, interface)?)
}

impl fmt::Display for HostPort {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.host {
            Host::Address(ip) => SocketAddr::new(*ip, self.port).fmt(f),
            Host::Zoned(ip, interface) => write!(f, "[{ip}%{interface}]:{}", self.port),
            Host::Name(name) => write!(f, "{name}:{}", self.port),
        }
    }
}

impl FromStr for HostPort {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (host, port) = split(text.trim())?;
        let typed = port.map(parse_port).transpose()?;
        Ok(Self {
            host,
            port: typed.unwrap_or(DEFAULT_PORT),
            has_port: typed.is_some(),
        })
    }
}

fn parse_port(text: &str) -> Result<u16, String> {
    let is_number = !text.is_empty() && text.chars().all(|it| it.is_ascii_digit());
    match text.parse() {
        Ok(port) if is_number => Ok(port),
        _ if is_number => Err(format!("'{text}' is not a port: a port is at most 65535")),
        _ => Err(format!("'{text}' is not a port, as in 192.0.2.1:9007")),
    }
}

fn split(text: &str) -> Result<(Host, Option<&str>), String> {
    if let Some(rest) = text.strip_prefix('[') {
        let (host, rest) = rest
            .split_once(']')
            .ok_or("the bracket is not closed, as in [2001:db8::1]:9007")?;
        let host = parse_v6(host)?;
        return match rest.strip_prefix(':') {
            _ if rest.is_empty() => Ok((host, None)),
            Some(port) => Ok((host, Some(port))),
            None => Err("a port follows the bracket, as in [2001:db8::1]:9007".to_owned()),
        };
    }
    match text.split_once(':') {
        None => Ok((parse_host(text, None)?, None)),
        Some((host, port)) if !port.contains(':') => {
            Ok((parse_host(host, Some(port))?, Some(port)))
        }
        Some(_) => Ok((parse_bare_v6(text)?, None)),
    }
}

/// Reads an IPv6 address without brackets, unless its end could be meant as a port.
fn parse_bare_v6(text: &str) -> Result<Host, String> {
    let is_v6 = |text: &str| text.parse::<Ipv6Addr>().is_ok();
    let (head, tail) = text.rsplit_once(':').unwrap_or((text, ""));
    if is_v6(text) && is_v6(head) && tail.chars().all(|it| it.is_ascii_digit()) {
        return Err(format!(
            "it can be read in two ways: type [{head}]:{tail} or [{text}]:{DEFAULT_PORT}"
        ));
    }
    if tail.contains('%') || is_v6(text) {
        return parse_v6(text);
    }
    Err("an IPv6 address stands in brackets before a port, as in [2001:db8::1]:9007".to_owned())
}

fn parse_v6(text: &str) -> Result<Host, String> {
    let (ip, zone) = text.split_once('%').unwrap_or((text, ""));
    let ip: Ipv6Addr = ip
        .parse()
        .map_err(|_| format!("'{ip}' is not an IPv6 address"))?;
    Ok(match zone {
        "" => Host::Address(IpAddr::V6(ip).to_canonical()),
        zone => Host::Zoned(ip, zone.to_owned()),
    })
}

fn parse_host(host: &str, port: Option<&str>) -> Result<Host, String> {
    if let Ok(ip) = host.parse::<Ipv4Addr>() {
        return Ok(Host::Address(ip.into()));
    }
    if host.is_empty() {
        return Err(missing_host(port));
    }
    if port.is_none() && host.parse::<u16>().is_ok() {
        return Err(missing_host(Some(host)));
    }
    if ends_in_number(host) {
        return Err(format!("'{host}' is not an IPv4 address, as 192.0.2.1 is"));
    }
    Ok(Host::Name(host.to_owned()))
}

/// What a port alone lacks.
fn missing_host(port: Option<&str>) -> String {
    let port = port.filter(|it| parse_port(it).is_ok());
    let default = DEFAULT_PORT.to_string();
    let port = port.unwrap_or(&default);
    format!("a host is missing, as in 127.0.0.1:{port}")
}

/// Whether `host` would be taken for an IPv4 address by the system, which reads more of them than
/// people do (inet_aton(3)): 9007 is 0.0.35.47 there, and 010.0.0.1 is 8.0.0.1.
fn ends_in_number(host: &str) -> bool {
    let last = host.rsplit('.').next().unwrap_or(host);
    let is_hexadecimal = last.starts_with("0x") || last.starts_with("0X");
    is_hexadecimal || (!last.is_empty() && last.chars().all(|it| it.is_ascii_digit()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_host_needs_no_port() {
        for (text, read) in [
            ("192.0.2.1", "192.0.2.1:9007"),
            ("192.0.2.1:53", "192.0.2.1:53"),
            (" localhost ", "localhost:9007"),
            ("::", "[::]:9007"),
            ("::1", "[::1]:9007"),
            ("[::1]", "[::1]:9007"),
            ("[::1]:0", "[::1]:0"),
            ("2001:db8::1", "[2001:db8::1]:9007"),
            ("2001:db8:0:0:0:0:0:1", "[2001:db8::1]:9007"),
            ("2001:db8::7:beef", "[2001:db8::7:beef]:9007"),
            ("fe80::1%eth0", "[fe80::1%eth0]:9007"),
            ("::ffff:192.0.2.1", "192.0.2.1:9007"),
        ] {
            let found = text.parse::<HostPort>().map(|it| it.to_string());
            assert_eq!(found.as_deref(), Ok(read), "{text}");
        }
    }

    #[test]
    fn what_could_mean_another_host_is_refused() {
        for (text, said) in [
            (
                "2001:db8::7:9007",
                "[2001:db8::7]:9007 or [2001:db8::7:9007]:9007",
            ),
            ("::1:1", "[::1]:1 or [::1:1]:9007"),
            ("fe80::1%eth0:9007", "in brackets"),
            ("udp://localhost:9007", "in brackets"),
            ("9108", "a host is missing, as in 127.0.0.1:9108"),
            (":9108", "a host is missing, as in 127.0.0.1:9108"),
            (":70000", "a host is missing, as in 127.0.0.1:9007"),
            ("70000", "not an IPv4 address"),
            ("10.0.0", "not an IPv4 address"),
            ("010.0.0.1:53", "not an IPv4 address"),
            ("0x7f.0x1:53", "not an IPv4 address"),
            ("192.0.2.1:+53", "not a port"),
            ("192.0.2.1:70000", "at most 65535"),
            ("[::1]9007", "follows the bracket"),
            ("", "a host is missing"),
        ] {
            let error = text.parse::<HostPort>().unwrap_err();
            assert!(error.contains(said), "{text}: {error}");
        }
    }
}
