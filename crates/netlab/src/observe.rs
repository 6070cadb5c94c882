//! What the kernel of a namespace says it saw: connection tracking and SNMP counters.
//!
//! The files are read on a thread of the namespace, whose `/proc/thread-self/net` is its own.

use std::io;
use std::net::{IpAddr, SocketAddr};

use crate::conntrack;
pub use crate::conntrack::{ConntrackEntry, Tuple};
use crate::topology::Namespace;
use reflector_measure::snmp;

/// The connection tracking table of `namespace`, in the kernel's order.
///
/// A namespace tracks nothing until a rule there needs it: NAT or `ct state` in an nft ruleset
/// (see [`super::topology::nft`]) loads the hooks, and only datagrams after that are seen.
/// `NotFound` on kernels without CONFIG_NF_CONNTRACK_PROCFS (nf_conntrack_standalone.c).
pub fn conntrack(namespace: &Namespace) -> io::Result<Vec<ConntrackEntry>> {
    namespace.run(conntrack::table)
}

/// The local addresses of the UDP sockets in `namespace`, IPv4 first.
///
/// `[::]` also stands for sockets that serve IPv4 as well: the kernel does not list IPV6_V6ONLY
/// (udp4_seq_show and udp6_sock_seq_show in the kernel).
pub fn udp_sockets(namespace: &Namespace) -> io::Result<Vec<SocketAddr>> {
    let mut sockets = local_addresses(&namespace.run(|| snmp::read("udp"))?);
    match namespace.run(|| snmp::read("udp6")) {
        Ok(table) => sockets.extend(local_addresses(&table)),
        // A kernel without IPv6.
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => return Err(error),
    }
    Ok(sockets)
}

/// The counter `name` of `group` in `/proc/net/snmp`, such as `("Udp", "NoPorts")` or
/// `("Icmp", "OutDestUnreachs")`: IPv4, or both families for protocols that do not tell.
///
/// Counts since the namespace was made. `NotFound` when the kernel has no such counter.
pub fn counter(namespace: &Namespace, group: &str, name: &str) -> io::Result<u64> {
    let text = namespace.run(|| snmp::read("snmp"))?;
    snmp::find(&text, group, name).ok_or_else(|| no_counter(&format!("{group} {name}")))
}

/// The counter `name` in `/proc/net/snmp6`, such as `Udp6NoPorts` or `Icmp6OutDestUnreachs`.
///
/// Counts since the namespace was made. `NotFound` when the kernel has no such counter.
pub fn counter6(namespace: &Namespace, name: &str) -> io::Result<u64> {
    let text = namespace.run(|| snmp::read("snmp6"))?;
    snmp::find6(&text, name).ok_or_else(|| no_counter(name))
}

fn no_counter(name: &str) -> io::Error {
    io::Error::new(
        io::ErrorKind::NotFound,
        format!("this kernel has no counter {name}"),
    )
}

/// The second column of `/proc/net/udp` or `udp6`: words of four bytes, each printed as the
/// number it is on this machine, then the port as a number.
fn local_addresses(table: &str) -> Vec<SocketAddr> {
    let parse = |line: &str| -> Option<SocketAddr> {
        let (address, port) = line.split_whitespace().nth(1)?.split_once(':')?;
        let words = address
            .as_bytes()
            .chunks(8)
            .map(|digits| u32::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok())
            .collect::<Option<Vec<u32>>>()?;
        let bytes: Vec<u8> = words.into_iter().flat_map(u32::to_ne_bytes).collect();
        let ip = match bytes.len() {
            4 => IpAddr::from(<[u8; 4]>::try_from(bytes).ok()?),
            _ => IpAddr::from(<[u8; 16]>::try_from(bytes).ok()?),
        };
        Some(SocketAddr::new(ip, u16::from_str_radix(port, 16).ok()?))
    };
    table.lines().filter_map(parse).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::topology::in_namespaces;
    use std::net::UdpSocket;

    #[test]
    fn sockets_are_found_by_their_local_address() {
        in_namespaces(
            "observe::tests::sockets_are_found_by_their_local_address",
            || {
                let namespace = Namespace::new().unwrap();
                assert_eq!(udp_sockets(&namespace).unwrap(), []);
                let addresses = ["127.0.0.1:7", "[::]:9007", "[::1]:53"];
                let bind = || addresses.map(|address| UdpSocket::bind(address).unwrap());
                let sockets = namespace.run(bind);
                let mut found = udp_sockets(&namespace).unwrap();
                found.sort_unstable();
                let mut expected = sockets.map(|socket| socket.local_addr().unwrap());
                expected.sort_unstable();
                assert_eq!(found, expected);
            },
        );
    }
}
