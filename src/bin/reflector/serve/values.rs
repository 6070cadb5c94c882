//! Values that only the reflector's options have, as typed.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, ToSocketAddrs};

use bytesize::ByteSize;
use clap::ValueEnum;
use ipnet::IpNet;
use reflector::mode::Mode;

/// An address to reflect on, and what to do there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Listen {
    pub addr: SocketAddr,
    pub mode: Mode,
}

/// How the kernel distributes datagrams to workers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Steer {
    Flow,
    Cpu,
}

/// The interface that replies leave by. A message with a source address orders one for IPv4; for
/// IPv6 it only wishes for one (`ip6_route_output_flags`, net/ipv6/route.c), which decides in
/// `ip -6 rule … oif` and for link-local addresses.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum ReplyInterface {
    Any,
    Same,
}

/// Protection against endless loops, beyond the guarded source ports.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum LoopGuard {
    Off,
    Ttl,
}

/// Where residence times begin, if they are measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum LatencySource {
    Kernel,
    Off,
}

/// Format of log lines.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum LogFormat {
    Text,
    Json,
}

/// CPU numbers, in the order given.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CpuList(pub Vec<usize>);

/// Port numbers; without any it is `none`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PortList(pub Vec<u16>);

/// One prefix, or all addresses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Prefix {
    /// Every address of both families.
    Any,
    /// The addresses of one network.
    Net(IpNet),
}

/// The highest CPU number that Linux can be built for, and one more.
const CPUS_MAX: usize = 8192;

/// Bytes that a socket buffer can be asked to have: setsockopt(2) takes them as an `int`.
const SOCKET_BUFFER_MAX: u64 = i32::MAX as u64;

/// Reads `ADDR:PORT`, or `ADDR:PORT/MODE`.
pub fn listen(text: &str) -> Result<Listen, String> {
    let (text, mode) = match text.rsplit_once('/') {
        Some((addr, name)) => (addr, mode(name)?),
        None => (text, Mode::default()),
    };
    let addr = addr(text)?;
    Ok(Listen { addr, mode })
}

fn mode(name: &str) -> Result<Mode, String> {
    let found = Mode::ALL.iter().copied().find(|mode| mode.name() == name);
    found.ok_or_else(|| {
        let names = Mode::ALL.iter().map(|mode| mode.name());
        let names = Vec::from_iter(names).join(", ");
        format!("there is no mode '{name}'; the modes are: {names}")
    })
}

fn addr(text: &str) -> Result<SocketAddr, String> {
    text.parse()
        .or_else(|_| scoped_addr(text).unwrap_or_else(|| Err(not_an_addr(text))))
}

/// What is wrong with `text`, which is no address, and what one looks like.
fn not_an_addr(text: &str) -> String {
    let (host, port) = text.rsplit_once(':').unwrap_or((text, ""));
    let is_addr = |text: String| text.parse::<SocketAddr>().is_ok();
    let is_number = !port.is_empty() && port.chars().all(|it| it.is_ascii_digit());
    let why = if is_number && is_addr(format!("{host}:0")) {
        "a port is at most 65535; "
    } else if is_addr(format!("0.0.0.0:{port}")) && host.starts_with(char::is_alphabetic) {
        "names are not looked up here; "
    } else {
        ""
    };
    format!(
        "{why}expected an IP address and a port, as in 0.0.0.0:9007, [::]:9007 or \
         [fe80::1%eth0]:9007"
    )
}

/// An address whose scope is the name of an interface, which only the system can look up; `None`
/// if it is nothing of the kind.
fn scoped_addr(text: &str) -> Option<Result<SocketAddr, String>> {
    let (host, port) = text.strip_prefix('[')?.split_once("]:")?;
    let (ip, interface) = host.split_once('%')?;
    ip.parse::<Ipv6Addr>().ok()?;
    let port: u16 = port.parse().ok()?;
    let found = (host, port).to_socket_addrs().ok();
    let addr = found.and_then(|mut addrs| addrs.next());
    Some(addr.ok_or_else(|| format!("this host has no interface {interface}")))
}

/// Reads CPU numbers and ranges of them.
pub fn cpus(text: &str) -> Result<CpuList, String> {
    let number = |text: &str| text.trim().parse().ok().filter(|&cpu| cpu < CPUS_MAX);
    let range = |part: &str| {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        let (first, last): (usize, usize) = (number(first)?, number(last)?);
        (first <= last).then_some(first..=last)
    };
    let mut cpus = Vec::new();
    for part in text.split(',') {
        let range = range(part).ok_or_else(|| {
            format!("'{part}' is not a CPU or a range of CPUs; expected a list such as 0-3,6")
        })?;
        cpus.extend(range);
    }
    Ok(CpuList(cpus))
}

/// Reads ports, or 'none'.
pub fn ports(text: &str) -> Result<PortList, String> {
    if text == "none" {
        return Ok(PortList(Vec::new()));
    }
    let port = |part: &str| {
        part.trim()
            .parse()
            .map_err(|_| format!("'{part}' is not a port; expected a list such as 7,53, or 'none'"))
    };
    text.split(',')
        .map(port)
        .collect::<Result<_, _>>()
        .map(PortList)
}

/// Reads a prefix, an address, or `any`.
pub fn prefix(text: &str) -> Result<Prefix, String> {
    if text == "any" {
        return Ok(Prefix::Any);
    }
    let net = text
        .parse::<IpNet>()
        .or_else(|_| text.parse().map(|addr: IpAddr| addr.into()))
        .map_err(|_| "expected a prefix such as 10.0.0.0/8, an address, or 'any'".to_owned())?;
    if is_half_mapped(net) {
        return Err(
            "it is more than all of IPv4, written as IPv6 (::ffff:0:0/96); expected 0.0.0.0/0, a \
             longer prefix, or a prefix of IPv6 addresses"
                .to_owned(),
        );
    }
    Ok(Prefix::Net(net))
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

/// Reads the size of a socket buffer.
pub fn buffer_size(text: &str) -> Result<ByteSize, String> {
    let size: ByteSize = text
        .parse()
        .map_err(|_| "expected a size, such as 64KiB or 8MiB".to_owned())?;
    if size.as_u64() > SOCKET_BUFFER_MAX {
        return Err(format!(
            "expected a size of at most {SOCKET_BUFFER_MAX} bytes, the most that a socket can be \
             asked for"
        ));
    }
    Ok(size)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_listener_may_name_its_mode() {
        let echo = |addr: &str| {
            let addr = addr.parse().unwrap();
            Ok(Listen {
                addr,
                mode: Mode::Echo,
            })
        };
        assert_eq!(listen("0.0.0.0:9007"), echo("0.0.0.0:9007"));
        assert_eq!(listen("[::1]:7/echo"), echo("[::1]:7"));
        for (text, said) in [
            (
                "0.0.0.0:9007/stamp",
                "there is no mode 'stamp'; the modes are: echo",
            ),
            ("0.0.0.0:9007/", "there is no mode ''"),
            ("0.0.0.0/echo", "expected an IP address and a port"),
            ("echo", "expected an IP address and a port"),
            ("localhost:9007", "names are not looked up here; expected"),
            ("localhost:70000", "expected an IP address and a port"),
            ("0.0.0.0:70000", "a port is at most 65535; expected"),
            ("[::]:70000", "a port is at most 65535; expected"),
            ("0.0.0.0:-1", "expected an IP address and a port"),
            ("2001:db8::7:9007", "expected an IP address and a port"),
        ] {
            let error = listen(text).unwrap_err();
            assert!(error.starts_with(said), "{text}: {error}");
        }
    }

    #[test]
    fn lists_are_read() {
        assert_eq!(cpus("0-3,6"), Ok(CpuList(vec![0, 1, 2, 3, 6])));
        for text in ["3-1", "a", "", "0,", "8192", "0-8192", "-1"] {
            assert!(cpus(text).is_err(), "{text}");
        }
        assert_eq!(ports("none"), Ok(PortList(vec![])));
        assert_eq!(ports("7, 53"), Ok(PortList(vec![7, 53])));
        assert!(ports("65536").is_err() && ports("").is_err());
    }

    #[test]
    fn a_prefix_may_be_an_address_or_all_of_them() {
        assert_eq!(prefix("any"), Ok(Prefix::Any));
        assert_eq!(prefix("10.0.0.1"), prefix("10.0.0.1/32"));
        assert!(prefix("10.0.0.0/33").is_err() && prefix("all").is_err());
        // What looks v4-mapped and is more than that could only be void.
        for text in [
            "::ffff:0:0/95",
            "::fffe:0:0/95",
            "::ffff:10.9.0.2/64",
            "::ffff:10.9.0.2/0",
        ] {
            assert!(prefix(text).unwrap_err().contains("0.0.0.0/0"), "{text}");
        }
        for text in [
            "::ffff:0:0/96",
            "::ffff:10.9.0.2",
            "::/0",
            "::/80",
            "::1/128",
        ] {
            assert!(prefix(text).is_ok(), "{text}");
        }
    }

    #[test]
    fn a_socket_buffer_is_at_most_what_a_socket_can_be_asked_for() {
        assert_eq!(buffer_size("8MiB"), Ok(ByteSize::mib(8)));
        assert_eq!(buffer_size("2147483647"), Ok(ByteSize(SOCKET_BUFFER_MAX)));
        for text in ["2GiB", "2147483648", "much", "-1"] {
            assert!(buffer_size(text).is_err(), "{text}");
        }
    }
}
