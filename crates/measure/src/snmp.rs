//! Counters of the whole host, as `/proc/net/snmp`, `snmp6` and `netstat` write them.
//!
//! They are no one program's own and never reset. [`read`] looks at the calling thread's network
//! namespace.

use std::fs;
use std::io;

/// The text of the file `name` in `/proc/net`, as the calling thread's namespace has it.
///
/// # Errors
/// `NotFound` where the kernel has no such file.
pub fn read(name: &str) -> io::Result<String> {
    let path = format!("/proc/thread-self/net/{name}");
    fs::read_to_string(&path)
        .map_err(|error| io::Error::new(error.kind(), format!("read {path}: {error}")))
}

/// What the kernel counts of IP and UDP in a network namespace, at about one moment. It sums each
/// file up over all CPUs, so one reading is for all who want to know something of it.
#[derive(Debug, Default)]
pub struct Texts {
    /// Of IPv4, ICMP and UDP.
    pub snmp: String,
    /// More of IPv4, and of TCP.
    pub netstat: String,
    /// Of IPv6, as far as there is any.
    pub snmp6: String,
}

impl Texts {
    /// Those of the calling thread's namespace; one that the kernel does not have is empty.
    pub fn read() -> Self {
        let text = |name| read(name).unwrap_or_default();
        Self {
            snmp: text("snmp"),
            netstat: text("netstat"),
            snmp6: text("snmp6"),
        }
    }

    /// UDP `SndbufErrors` of both families: datagrams that were lost after their send had
    /// succeeded, in a full device queue for instance. A counter that the kernel does not have
    /// counts as 0.
    pub fn sndbuf_errors(&self) -> u64 {
        find(&self.snmp, "Udp", "SndbufErrors").unwrap_or(0)
            + find6(&self.snmp6, "Udp6SndbufErrors").unwrap_or(0)
    }
}

/// The counter `name` of `group` in the text of `snmp` or `netstat`, where a group is a line of
/// names and, after it, a line of values.
pub fn find(text: &str, group: &str, name: &str) -> Option<u64> {
    let mut rows = text.lines().filter_map(|line| line.split_once(": "));
    let mut of_group = rows
        .by_ref()
        .filter(|(known, _)| *known == group)
        .map(|(_, row)| row);
    let (names, values) = (of_group.next()?, of_group.next()?);
    names
        .split_whitespace()
        .zip(values.split_whitespace())
        .find(|(known, _)| *known == name)
        .and_then(|(_, value)| value.parse().ok())
}

/// The counter `name` in the text of `snmp6`: a line of name and value for each.
pub fn find6(text: &str, name: &str) -> Option<u64> {
    text.lines()
        .filter_map(|line| line.split_once(char::is_whitespace))
        .find(|(known, _)| *known == name)
        .and_then(|(_, value)| value.trim().parse().ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_counter_is_found_by_group_and_name() {
        let text = "Ip: Forwarding DefaultTTL\nIp: 1 64\nUdp: InDatagrams NoPorts\nUdp: 5 2\n\
                    UdpLite: InDatagrams NoPorts\nUdpLite: 0 0\n";
        assert_eq!(find(text, "Udp", "NoPorts"), Some(2));
        assert_eq!(find(text, "Ip", "Forwarding"), Some(1));
        assert_eq!(find(text, "Udp", "Forwarding"), None);
        assert_eq!(find(text, "Tcp", "NoPorts"), None);
    }
    #[test]
    fn a_counter_of_ipv6_is_found_by_name() {
        let text = "Udp6InDatagrams                 \t3\nUdp6SndbufErrors   \t4\n";
        assert_eq!(find6(text, "Udp6SndbufErrors"), Some(4));
        assert_eq!(find6(text, "Udp6"), None);
    }

    #[test]
    fn errors_of_both_families_are_added() {
        let both = Texts {
            snmp: "Udp: InDatagrams SndbufErrors\nUdp: 5 2\n".to_owned(),
            snmp6: "Udp6SndbufErrors   \t4\n".to_owned(),
            ..Texts::default()
        };
        assert_eq!(both.sndbuf_errors(), 6);
        assert_eq!(Texts::default().sndbuf_errors(), 0);
    }
}
