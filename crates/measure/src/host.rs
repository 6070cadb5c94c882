//! What belongs to the whole host and to no one program: its kernel, its counters.

use std::fs;

use crate::snmp;

/// UDP `SndbufErrors` of both families in this network namespace: datagrams that were lost after
/// their send had succeeded, in a full device queue for instance (`/proc/net/snmp`, `snmp6`). A
/// counter that the kernel does not have counts as 0.
pub fn sndbuf_errors() -> u64 {
    let v4 = snmp::read("snmp").ok();
    let v6 = snmp::read("snmp6").ok();
    v4.and_then(|text| snmp::find(&text, "Udp", "SndbufErrors"))
        .unwrap_or(0)
        + v6.and_then(|text| snmp::find6(&text, "Udp6SndbufErrors"))
            .unwrap_or(0)
}

/// The kernel's release, such as `6.12.3-amd64`.
pub fn kernel_release() -> String {
    fs::read_to_string("/proc/sys/kernel/osrelease")
        .unwrap_or_default()
        .trim()
        .to_owned()
}

/// Whether the running kernel is at least `major.minor`. An unreadable release is an old one.
pub fn kernel_is_at_least(major: u32, minor: u32) -> bool {
    let release = kernel_release();
    let mut numbers = release
        .split(['.', '-', '+'])
        .map_while(|part| part.parse::<u32>().ok());
    (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0)) >= (major, minor)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kernel_releases_compare_by_number() {
        assert!(kernel_is_at_least(3, 0));
        assert!(!kernel_is_at_least(999, 0));
    }
}
