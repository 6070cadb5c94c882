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
}
