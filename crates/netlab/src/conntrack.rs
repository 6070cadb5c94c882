//! The table of tracked connections, as `/proc` shows it (nf_conntrack_standalone.c).
//!
//! `/proc/net` shows the namespace of the process's first thread; `/proc/thread-self/net` that of
//! the thread that opens it, which is what is read here.

use std::fs;
use std::io;
use std::net::{IpAddr, SocketAddr};

use reflector_udp::attempting;

/// One direction of a tracked flow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tuple {
    /// Who sends in this direction; port 0 where the protocol has none (ICMP).
    pub source: SocketAddr,
    /// To whom; port 0 where the protocol has none.
    pub destination: SocketAddr,
}

/// An entry of the connection tracking table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConntrackEntry {
    /// The transport protocol by its lower-case name, such as `udp` or `icmpv6`.
    pub protocol: String,
    /// The direction that opened the entry, as the first datagram was before any NAT.
    pub original: Tuple,
    /// What conntrack expects of an answer, as it is before NAT is undone.
    pub reply: Tuple,
    /// Whether such an answer was seen: the entry does not say `[UNREPLIED]`.
    pub is_replied: bool,
}

/// The entries of the calling thread's network namespace, in the kernel's order.
///
/// # Errors
/// `PermissionDenied` for those who are not root there; `NotFound` without connection tracking or
/// on kernels without CONFIG_NF_CONNTRACK_PROCFS.
pub fn table() -> io::Result<Vec<ConntrackEntry>> {
    let path = "/proc/thread-self/net/nf_conntrack";
    let table = fs::read_to_string(path).map_err(attempting(format_args!("read {path}")))?;
    table
        .lines()
        .map(|line| {
            parse_entry(line).ok_or_else(|| {
                let message = format!("not understood in nf_conntrack: {line}");
                io::Error::new(io::ErrorKind::InvalidData, message)
            })
        })
        .collect()
}

/// Packets that connection tracking has dropped in the calling thread's network namespace since it
/// was made: those of a new flow for which the table had no room, most of all.
///
/// # Errors
/// `NotFound` without connection tracking or on kernels without CONFIG_NF_CONNTRACK_PROCFS.
pub fn drops() -> io::Result<u64> {
    let path = "/proc/thread-self/net/stat/nf_conntrack";
    let table = fs::read_to_string(path).map_err(attempting(format_args!("read {path}")))?;
    sum_of(&table, "drop").ok_or_else(|| {
        let message = format!("no column `drop` in {path}");
        io::Error::new(io::ErrorKind::InvalidData, message)
    })
}

/// The sum of a column that has a name in the first line, and a hexadecimal number for each CPU in
/// the others.
fn sum_of(table: &str, name: &str) -> Option<u64> {
    let (names, rows) = table.split_once('\n')?;
    let column = names.split_whitespace().position(|it| it == name)?;
    let number = |row: &str| u64::from_str_radix(row.split_whitespace().nth(column)?, 16).ok();
    rows.lines().map(number).sum()
}

/// One line of nf_conntrack: family and protocol, each by name and number, the seconds left, then
/// `key=value` words of the original tuple, those of the reply, and `[FLAGS]` between.
fn parse_entry(line: &str) -> Option<ConntrackEntry> {
    let protocol = line.split_whitespace().nth(2)?.to_owned();
    let is_replied = !line.contains("[UNREPLIED]");
    let values = |wanted: &str| -> Vec<&str> {
        line.split_whitespace()
            .filter_map(|word| word.split_once('='))
            .filter(|(key, _)| *key == wanted)
            .map(|(_, value)| value)
            .collect()
    };
    let (sources, destinations) = (values("src"), values("dst"));
    let (source_ports, destination_ports) = (values("sport"), values("dport"));
    let tuple = |direction: usize| -> Option<Tuple> {
        let endpoint = |ips: &[&str], ports: &[&str]| -> Option<SocketAddr> {
            let ip: IpAddr = ips.get(direction)?.parse().ok()?;
            let port = ports
                .get(direction)
                .map_or(Some(0), |port| port.parse().ok())?;
            Some(SocketAddr::new(ip, port))
        };
        Some(Tuple {
            source: endpoint(&sources, &source_ports)?,
            destination: endpoint(&destinations, &destination_ports)?,
        })
    };
    Some(ConntrackEntry {
        protocol,
        original: tuple(0)?,
        reply: tuple(1)?,
        is_replied,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_entry_behind_nat_is_parsed() {
        let line = "ipv4     2 udp      17 29 src=172.17.0.3 dst=172.16.13.3 sport=40000 \
                    dport=5151 [UNREPLIED] src=172.16.13.3 dst=172.16.13.13 sport=5151 \
                    dport=40000 mark=0 zone=0 use=2";
        let entry = parse_entry(line).unwrap();
        assert_eq!(entry.protocol, "udp");
        assert_eq!(entry.original.source, "172.17.0.3:40000".parse().unwrap());
        assert_eq!(
            entry.original.destination,
            "172.16.13.3:5151".parse().unwrap()
        );
        assert_eq!(
            entry.reply.destination,
            "172.16.13.13:40000".parse().unwrap()
        );
        assert!(!entry.is_replied);
    }

    #[test]
    fn a_column_is_summed_over_the_cpus() {
        let table = "entries  clashres drop early_drop\n0a 00 0000000f 01\n0a 00 00000002 01\n";
        assert_eq!(sum_of(table, "drop"), Some(17));
        assert_eq!(sum_of(table, "found"), None);
        assert_eq!(sum_of("entries drop\n0a\n", "drop"), None);
    }

    #[test]
    fn an_entry_without_ports_is_parsed() {
        let line = "ipv6     10 icmpv6   58 29 src=fd17::3 dst=fd13::13 type=128 code=0 id=7 \
                    src=fd13::13 dst=fd17::3 type=129 code=0 id=7 mark=0 zone=0 use=2";
        let entry = parse_entry(line).unwrap();
        assert_eq!(entry.reply.source, "[fd13::13]:0".parse().unwrap());
        assert!(entry.is_replied);
        assert_eq!(parse_entry("nonsense"), None);
    }
}
