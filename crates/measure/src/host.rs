//! Counters of the whole host, which are no one program's own and never reset.

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
