//! Whether requests can be answered in the kernel, before they reach a socket.

use super::check::Check;
use super::offload::names;
use crate::host::Interface;
use reflector_measure::host::kernel_is_at_least;

/// The check, of these interfaces: bridges, or veth pairs where there is none.
pub(super) fn check(interfaces: &[Interface]) -> Check {
    let of_kind = |kind| names(interfaces.iter().filter(|it| it.kind == kind));
    let devices = of_kind("bridge").or_else(|| of_kind("veth"));
    judge(kernel_is_at_least(6, 6), devices.as_deref())
}

/// It hinders nothing where it is not possible: the sockets answer all the same.
fn judge(has_tcx: bool, devices: Option<&str>) -> Check {
    let found = match devices {
        _ if !has_tcx => "not possible: tcx came with Linux 6.6".to_owned(),
        None => "possible with CAP_BPF and CAP_NET_ADMIN".to_owned(),
        Some(devices) => format!(
            "possible with CAP_BPF and CAP_NET_ADMIN, for instance at {devices}: for measuring the \
             way there, past rules of netfilter"
        ),
    };
    Check::ok("--accelerate", found)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn where_it_is_possible_some_devices_are_named() {
        for (has_tcx, devices, said) in [
            (
                true,
                Some("docker0"),
                "possible with CAP_BPF and CAP_NET_ADMIN, for instance at docker0:",
            ),
            (true, None, "possible with CAP_BPF"),
            (
                false,
                Some("docker0"),
                "not possible: tcx came with Linux 6.6",
            ),
        ] {
            let check = judge(has_tcx, devices);
            assert!(check.is_ok && check.found.starts_with(said), "{check:?}");
        }
    }
}
