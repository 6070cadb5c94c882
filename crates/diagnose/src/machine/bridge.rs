//! Whether what bridges forward goes through rules that are not there.

use super::check::Check;
use super::offload::names;
use crate::host::{self, Interface};
use reflector_netlab::netfilter;

/// The check, of these interfaces. The setting is 1 in every new namespace where the kernel has
/// br_netfilter.
pub(super) fn check(interfaces: &[Interface]) -> Check {
    let bridges = names(interfaces.iter().filter(|it| it.kind == "bridge"));
    let is_on = host::sysctl("bridge/bridge-nf-call-iptables") == Some(1);
    judge(bridges.as_deref(), is_on, netfilter::has_ipv4_tables().ok())
}

/// `has_tables` is none where that cannot be known. The figures are those of an IPv4 datagram that
/// a bridge forwards, by the CPU of client and server together, on Linux 6.18.
fn judge(bridges: Option<&str>, is_on: bool, has_tables: Option<bool>) -> Check {
    let name = "bridge filter";
    let setting = "net.bridge.bridge-nf-call-iptables";
    match (bridges, has_tables) {
        (None, _) => Check::ok(name, "no bridge is up"),
        (Some(bridges), _) if !is_on => {
            Check::ok(name, format!("{bridges}: not passed through iptables"))
        }
        (Some(bridges), Some(false)) => Check::warn(
            name,
            format!(
                "{setting} is 1 and there is no rule: {bridges} forwards at 1.32 times the CPU of \
                 a veth pair alone, instead of 1.21"
            ),
            "set it to 0 with `sysctl -w`",
        ),
        (Some(bridges), Some(true)) => Check::ok(
            name,
            format!("{bridges}: passed through iptables, which has tables"),
        ),
        (Some(bridges), None) => Check::ok(
            name,
            format!(
                "{bridges}: passed through iptables, of which this user may not know the rules"
            ),
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_filter_without_rules_hinders() {
        for (bridges, is_on, has_tables, is_ok) in [
            (Some("br0"), true, Some(false), false),
            (Some("br0"), true, Some(true), true),
            (Some("br0"), true, None, true),
            (Some("br0"), false, Some(false), true),
            (None, true, Some(false), true),
        ] {
            let check = judge(bridges, is_on, has_tables);
            assert_eq!(check.is_ok, is_ok, "{check:?}");
        }
    }
}
