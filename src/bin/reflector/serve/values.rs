//! Values that only the reflector's options have, as typed.

use std::collections::HashSet;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};

use clap::ValueEnum;
use reflector::config::{DEFAULT_PORT, Listener};
use reflector::mode::Mode;
use reflector_measure::error::Error;
use reflector_measure::host_port::HostPort;
use reflector_measure::number;
use reflector_measure::target::Family;

use crate::values::items;

/// Where to reflect, and what to do there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listen {
    pub place: Place,
    /// The mode that follows, if one does.
    pub mode: Option<Mode>,
}

/// Where to reflect.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Place {
    /// This port of every address of this host.
    Everywhere(u16),
    /// An address, or those of a name.
    At(HostPort),
}

impl Default for Listen {
    fn default() -> Self {
        Self {
            place: Place::Everywhere(DEFAULT_PORT),
            mode: None,
        }
    }
}

impl Listen {
    /// The listeners that this comes to, of `family` only if that is given, in mode `otherwise` if
    /// none is typed. One whose family was not asked for is skipped where the host does not have
    /// it.
    ///
    /// # Errors
    /// A name does not resolve, an interface does not exist (ENODEV), or there is no address of
    /// that family.
    pub fn listeners(
        &self,
        dual_stack: bool,
        family: Option<Family>,
        otherwise: Mode,
    ) -> Result<Vec<Listener>, Error> {
        let mode = self.mode.unwrap_or(otherwise);
        let listener = |addr: SocketAddr, is_optional| {
            let mut listener = Listener::new(addr);
            (listener.mode, listener.is_optional) = (mode, is_optional && addr.is_ipv6());
            listener
        };
        Ok(match &self.place {
            &Place::Everywhere(port) => {
                let v4 = listener((Ipv4Addr::UNSPECIFIED, port).into(), false);
                let is_v6_optional = !dual_stack && family.is_none();
                let v6 = listener((Ipv6Addr::UNSPECIFIED, port).into(), is_v6_optional);
                match family {
                    Some(Family::V4) => vec![v4],
                    Some(Family::V6) => vec![v6],
                    None if dual_stack => vec![v6],
                    None => vec![v4, v6],
                }
            }
            Place::At(at) => {
                let mut addrs = at.resolve()?;
                if let Some(family) = family {
                    addrs.retain(|addr| Family::of(addr.ip()) == family);
                    if addrs.is_empty() {
                        let what = format!("cannot reflect on {at} over {family}");
                        return Err(Error::usage(what, format!("it has no {family} address")));
                    }
                }
                let mut seen = HashSet::new();
                addrs.retain(|addr| seen.insert(*addr));
                let is_optional = addrs.iter().any(SocketAddr::is_ipv4);
                let listeners = addrs.into_iter().map(|addr| listener(addr, is_optional));
                listeners.collect()
            }
        })
    }
}

/// How the kernel distributes datagrams to workers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Steer {
    Flow,
    Cpu,
}

/// How workers wait for datagrams.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Wait {
    Block,
    Adaptive,
    Spin,
}

/// The interface that replies leave by. A message with a source address orders one for IPv4; for
/// IPv6 it only wishes for one (`ip6_route_output_flags`, net/ipv6/route.c), which decides in
/// `ip -6 rule … oif` and for link-local addresses.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum ReplyInterface {
    Any,
    Same,
}

/// Where residence times end, if they are measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum LatencySource {
    Kernel,
    Wire,
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

/// The highest CPU number that Linux can be built for, and one more.
const CPUS_MAX: usize = 8192;

/// Bytes that a socket buffer can be asked to have: setsockopt(2) takes them as an `int`.
const SOCKET_BUFFER_MAX: u64 = i32::MAX as u64;

/// Reads a port or an address with or without one, and the mode that may follow.
pub fn listen(text: &str) -> Result<Listen, String> {
    let (text, mode) = match text.rsplit_once('/') {
        Some((place, name)) => (place.trim(), Some(mode(name)?)),
        None => (text.trim(), None),
    };
    let port = text.strip_prefix(':').or_else(|| text.strip_prefix("*:"));
    let port = port.unwrap_or(text);
    let is_port = !port.is_empty() && port.chars().all(|it| it.is_ascii_digit());
    let place = match text {
        "*" => Place::Everywhere(DEFAULT_PORT),
        _ if is_port => {
            let port = port
                .parse()
                .map_err(|_| "a port is at most 65535".to_owned())?;
            Place::Everywhere(port)
        }
        _ => Place::At(text.parse()?),
    };
    Ok(Listen { place, mode })
}

fn mode(name: &str) -> Result<Mode, String> {
    let found = Mode::ALL.iter().copied().find(|mode| mode.name() == name);
    found.ok_or_else(|| {
        let names = Mode::ALL.iter().map(|mode| mode.name());
        let names = Vec::from_iter(names).join(", ");
        format!("there is no mode '{name}'; the modes are: {names}")
    })
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
    for part in items(text) {
        let range = range(part).ok_or_else(|| {
            format!("'{part}' is not a CPU or a range of CPUs; expected a list such as 0-3,6")
        })?;
        cpus.extend(range);
    }
    Ok(CpuList(cpus))
}

/// Reads the size of a socket buffer.
pub fn buffer_size(text: &str) -> Result<usize, String> {
    match number::bytes(text) {
        Some(size @ 1..=SOCKET_BUFFER_MAX) => Ok(size as usize),
        Some(0) => Err("expected a size of at least 1 byte, such as 64KiB or 8MiB".to_owned()),
        Some(_) => Err(format!(
            "expected a size of at most {SOCKET_BUFFER_MAX} bytes, the most that a socket can be \
             asked for"
        )),
        None => Err("expected a size, such as 64KiB or 8MiB".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_listener_is_a_port_or_an_address_and_may_name_its_mode() {
        let addrs = |text: &str, dual_stack| {
            let listeners = listen(text)
                .unwrap()
                .listeners(dual_stack, None, Mode::Echo)
                .unwrap();
            let addrs = listeners
                .iter()
                .map(|it| (it.addr.to_string(), it.is_optional));
            addrs.collect::<Vec<_>>()
        };
        for (text, port) in [
            ("9008", 9008),
            (":9008", 9008),
            ("*:9008", 9008),
            ("9008/echo", 9008),
            ("*", DEFAULT_PORT),
            ("0", 0),
        ] {
            let v4 = (format!("0.0.0.0:{port}"), false);
            let v6 = format!("[::]:{port}");
            assert_eq!(addrs(text, false), [v4, (v6.clone(), true)], "{text}");
            assert_eq!(addrs(text, true), [(v6, false)], "{text}");
        }
        for (text, addr) in [
            ("0.0.0.0:9008", "0.0.0.0:9008"),
            ("[::1]:7/echo", "[::1]:7"),
            ("10.0.0.1", "10.0.0.1:9007"),
            ("::", "[::]:9007"),
        ] {
            assert_eq!(addrs(text, false), [(addr.to_owned(), false)], "{text}");
        }
        let of_name = addrs("localhost:9008", false);
        assert!(
            of_name.contains(&("127.0.0.1:9008".to_owned(), false)),
            "{of_name:?}"
        );
        assert!(
            of_name
                .iter()
                .all(|(addr, is_optional)| addr.starts_with('[') == *is_optional)
        );
    }

    #[test]
    fn a_mode_that_is_typed_wins() {
        for (text, mode) in [("7", Mode::EchoInfo), ("7/echo", Mode::Echo)] {
            let listeners = listen(text).unwrap().listeners(false, None, Mode::EchoInfo);
            assert!(
                listeners.unwrap().iter().all(|it| it.mode == mode),
                "{text}"
            );
        }
    }

    #[test]
    fn a_port_or_a_name_is_of_one_family_where_that_is_wanted() {
        let addrs = |text: &str, family| {
            let listeners = listen(text)
                .unwrap()
                .listeners(false, Some(family), Mode::Echo)?;
            let addrs = listeners
                .iter()
                .map(|it| (it.addr.to_string(), it.is_optional));
            Ok::<_, Error>(addrs.collect::<Vec<_>>())
        };
        let required = |addr: &str| vec![(addr.to_owned(), false)];
        for text in ["9008", "*:9008", ":9008"] {
            assert_eq!(addrs(text, Family::V4).unwrap(), required("0.0.0.0:9008"));
            assert_eq!(addrs(text, Family::V6).unwrap(), required("[::]:9008"));
        }
        let of_name = addrs("localhost:9008", Family::V4).unwrap();
        assert_eq!(of_name, required("127.0.0.1:9008"));
        assert_eq!(addrs("::1", Family::V6).unwrap(), required("[::1]:9007"));
        for (text, family, said) in [
            (
                "0.0.0.0:9008",
                Family::V6,
                "0.0.0.0:9008 over IPv6: it has no IPv6",
            ),
            ("::", Family::V4, "[::]:9007 over IPv4: it has no IPv4"),
            (
                "::ffff:10.0.0.1",
                Family::V6,
                "10.0.0.1:9007 over IPv6: it has no IPv6",
            ),
        ] {
            let error = addrs(text, family).unwrap_err();
            assert!(error.is_usage(), "{text}");
            assert_eq!(
                error.to_string(),
                format!("cannot reflect on {said} address")
            );
        }
    }

    #[test]
    fn what_is_no_listener_is_refused() {
        for (text, said) in [
            (
                "0.0.0.0:9007/stamp",
                "there is no mode 'stamp'; the modes are: echo, echo-info",
            ),
            ("0.0.0.0:9007/", "there is no mode ''"),
            (
                "localhost:70000",
                "'70000' is not a port: a port is at most 65535",
            ),
            (
                "[::]:70000",
                "'70000' is not a port: a port is at most 65535",
            ),
            ("70000", "a port is at most 65535"),
            ("0.0.0.0:-1", "'-1' is not a port"),
            ("2001:db8::7:9007", "it can be read in two ways"),
            ("", "a host is missing"),
            (":", "a host is missing"),
        ] {
            let error = listen(text).unwrap_err();
            assert!(error.starts_with(said), "{text}: {error}");
        }
    }

    #[test]
    fn server_and_commands_have_one_default_port() {
        assert_eq!(DEFAULT_PORT, reflector_measure::host_port::DEFAULT_PORT);
    }

    #[test]
    fn cpus_are_read() {
        assert_eq!(cpus("0-3,6"), Ok(CpuList(vec![0, 1, 2, 3, 6])));
        for text in ["3-1", "a", "", ",", "0,,1", "8192", "0-8192", "-1"] {
            assert!(cpus(text).is_err(), "{text}");
        }
        assert_eq!(cpus("0 - 1, 6,"), Ok(CpuList(vec![0, 1, 6])));
    }

    #[test]
    fn a_socket_buffer_is_at_most_what_a_socket_can_be_asked_for() {
        assert_eq!(buffer_size("8MiB"), Ok(8 << 20));
        assert_eq!(buffer_size(" 1.5 KiB"), Ok(1536));
        for text in ["0", "0MiB", "1.7", "1.7B", "0.0001KiB"] {
            assert!(buffer_size(text).is_err(), "{text}");
        }
        let error = buffer_size("99999TiB").unwrap_err();
        assert!(error.contains("at most 2147483647 bytes"), "{error}");
        assert_eq!(buffer_size("2147483647"), Ok(SOCKET_BUFFER_MAX as usize));
        for text in ["2GiB", "2147483648", "much", "-1"] {
            assert!(buffer_size(text).is_err(), "{text}");
        }
    }
}
