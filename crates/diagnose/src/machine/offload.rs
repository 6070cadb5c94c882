//! What makes trains and what takes them apart: GRO, segmentation offload and XDP of interfaces.
//!
//! A train is one packet for all that it passes, so a device that cuts it multiplies the work of
//! everything behind it. The figures are the CPU that a datagram of a train of 32 costs client and
//! server together, relative to a veth pair as it is made, on Linux 6.18.

use super::check::Check;
use crate::host::{Interface, Xdp};
use reflector_netlab::ethtool;

/// An interface and what it does with trains.
#[derive(Clone, Debug)]
struct Device {
    interface: Interface,
    joins: bool,
    sends: Sends,
    /// Whether it sums up what it sends; what does not cannot send trains.
    sums: bool,
}

/// What becomes of a train that leaves by a device.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Sends {
    /// It leaves whole.
    Whole,
    /// The kernel cuts it, since somebody switched `tx-udp-segmentation` off.
    SwitchedOff,
    /// The kernel cuts it, since the device cannot have the feature.
    Unable,
}

/// All checks, of these interfaces; one whose features cannot be read is left out.
pub(super) fn check(interfaces: &[Interface]) -> Vec<Check> {
    let devices: Vec<_> = interfaces.iter().filter_map(read).collect();
    vec![
        receive_offload(&devices),
        send_offload(&devices),
        xdp(&devices),
    ]
}

fn read(interface: &Interface) -> Option<Device> {
    const SEGMENTATION: &str = "tx-udp-segmentation";
    let name = &interface.name;
    let sends = if ethtool::feature(name, SEGMENTATION).ok()? {
        Sends::Whole
    } else if ethtool::can_switch(name, SEGMENTATION).ok()? {
        Sends::SwitchedOff
    } else {
        Sends::Unable
    };
    Some(Device {
        joins: ethtool::feature(name, "rx-gro").ok()?,
        sends,
        sums: ethtool::feature(name, "tx-checksum-ip-generic").ok()?,
        interface: interface.clone(),
    })
}

/// The names of interfaces; `None` without any.
pub(super) fn names<'a>(interfaces: impl Iterator<Item = &'a Interface>) -> Option<String> {
    let names: Vec<_> = interfaces.map(|it| it.name.as_str()).collect();
    (!names.is_empty()).then(|| names.join(", "))
}

/// The names of the devices for which `wanted` holds; `None` without any.
fn names_of(devices: &[Device], wanted: impl Fn(&Device) -> bool) -> Option<String> {
    names(
        devices
            .iter()
            .filter(|it| wanted(it))
            .map(|it| &it.interface),
    )
}

fn on_and_off(devices: &[Device], is_on: impl Fn(&Device) -> bool) -> String {
    match (
        names_of(devices, &is_on),
        names_of(devices, |it| !is_on(it)),
    ) {
        (Some(on), Some(off)) => format!("on: {on}; off: {off}"),
        (Some(on), None) => format!("on: {on}"),
        (None, Some(off)) => format!("off: {off}"),
        (None, None) => "no interface besides lo is up".to_owned(),
    }
}

/// The command that sets `features` of each of `devices`, which are a list of names.
fn ethtool_each(devices: &str, features: &str) -> String {
    if devices.contains(',') {
        format!("`ethtool -K DEVICE {features}` for each of {devices}")
    } else {
        format!("`ethtool -K {devices} {features}`")
    }
}

/// GRO joins datagrams of the wire into trains; software devices pass trains on as they are sent.
fn receive_offload(devices: &[Device]) -> Check {
    let name = "GRO of interfaces";
    let found = on_and_off(devices, |it| it.joins);
    let is_hardware = |it: &Device| it.interface.kind.is_empty();
    match names_of(devices, |it| !it.joins && is_hardware(it)) {
        None if devices.iter().any(|it| !it.joins) => Check::ok(
            name,
            format!("{found} (software devices without native XDP pass trains on without)"),
        ),
        None => Check::ok(name, found),
        Some(without) => Check::warn(
            name,
            format!("{found}; datagrams that arrive there form no trains"),
            ethtool_each(&without, "gro on"),
        ),
    }
}

impl Device {
    /// One end of a virtual cable: a train that it does not send whole crosses in pieces.
    /// Hardware cuts it for the wire anyway.
    fn is_veth(&self) -> bool {
        self.interface.kind == "veth"
    }

    fn is_switched_off(&self) -> bool {
        self.is_veth() && self.sends == Sends::SwitchedOff
    }

    /// A veth has the feature unless its other end has native XDP (`veth_xdp_set` of
    /// drivers/net/veth.c takes it away).
    fn faces_xdp(&self) -> bool {
        self.is_veth() && self.sends == Sends::Unable
    }
}

fn send_offload(devices: &[Device]) -> Check {
    let name = "segmentation offload";
    let found = on_and_off(devices, |it| it.sends == Sends::Whole);
    let (mut causes, mut remedies) = (String::new(), Vec::new());
    if let Some(off) = names_of(devices, Device::is_switched_off) {
        causes += &format!(
            "; trains leave {off} in pieces, which costs 3.7 times the CPU, or 7 to 11 times if \
             the other end does the same"
        );
        for (sums, features) in [(false, "tx on"), (true, "tx-udp-segmentation on")] {
            let them = names_of(devices, |it| it.is_switched_off() && it.sums == sums);
            remedies.extend(them.map(|them| ethtool_each(&them, features)));
        }
        remedies.push(
            "if it has to stay off, `gro on rx-udp-gro-forwarding on` at the other end: 3.3 times \
             instead of 10.7 (`gro on` alone does nothing)"
                .to_owned(),
        );
    }
    if let Some(facing) = names_of(devices, Device::faces_xdp) {
        causes += &format!(
            "; {facing} cannot send trains whole, since the other end has native XDP: 10 times \
             the CPU"
        );
        remedies.push(
            "at the end that has XDP `ethtool -K DEVICE gro on`, 4 times instead of 10; or generic \
             XDP there, which costs nothing"
                .to_owned(),
        );
    }
    if !remedies.is_empty() {
        return Check::warn(name, found + &causes, remedies.join("; "));
    }
    let note = if devices.iter().any(|it| it.sends != Sends::Whole) {
        " (there the kernel cuts trains itself)"
    } else {
        ""
    };
    Check::ok(name, found + note)
}

fn xdp(devices: &[Device]) -> Check {
    let name = "XDP";
    let of = |wanted: Xdp| names_of(devices, |it| it.interface.xdp == wanted);
    let sorts = [
        of(Xdp::Native).map(|names| format!("native: {names}")),
        of(Xdp::Generic).map(|names| format!("generic: {names}")),
    ];
    let found: Vec<_> = sorts.into_iter().flatten().collect();
    if found.is_empty() {
        return Check::ok(name, "no program on an interface");
    }
    let mut found = found.join("; ");
    let is_native = |it: &Device| it.is_veth() && it.interface.xdp == Xdp::Native;
    let Some(native) = names_of(devices, is_native) else {
        return Check::ok(name, found);
    };
    let generic = "attach the program as generic XDP (`ip link set … xdpgeneric`), which costs \
                   nothing";
    found += &format!("; trains to {native} come in pieces, since the other end cannot send them");
    match names_of(devices, |it| is_native(it) && !it.joins) {
        Some(without) => Check::warn(
            name,
            found + " whole: 10 times the CPU",
            format!(
                "{}, 4 times instead of 10; or {generic}",
                ethtool_each(&without, "gro on")
            ),
        ),
        None => Check::warn(
            name,
            found + " whole: 4 times the CPU with GRO, as here",
            generic,
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn device(name: &str, kind: &str) -> Device {
        Device {
            interface: Interface {
                index: 1,
                name: name.to_owned(),
                kind: kind.to_owned(),
                is_loopback: false,
                is_up: true,
                xdp: Xdp::None,
            },
            joins: true,
            sends: Sends::Whole,
            sums: true,
        }
    }

    #[test]
    fn only_hardware_needs_gro() {
        let without = |name, kind| Device {
            joins: false,
            ..device(name, kind)
        };
        let check = receive_offload(&[device("eth0", ""), without("veth1", "veth")]);
        assert!(check.is_ok && check.found.starts_with("on: eth0; off: veth1"));
        let check = receive_offload(&[without("eth0", ""), device("veth1", "veth")]);
        assert_eq!(check.remedy.as_deref(), Some("`ethtool -K eth0 gro on`"));
        let check = receive_offload(&[without("eth0", ""), without("eth1", "")]);
        let remedy = "`ethtool -K DEVICE gro on` for each of eth0, eth1";
        assert_eq!(check.remedy.as_deref(), Some(remedy));
        assert!(receive_offload(&[]).is_ok);
    }

    #[test]
    fn only_a_veth_has_to_send_trains_whole() {
        for (kind, sends, is_ok) in [
            ("", Sends::SwitchedOff, true),
            ("", Sends::Unable, true),
            ("bridge", Sends::SwitchedOff, true),
            ("tun", Sends::Unable, true),
            ("veth", Sends::Whole, true),
            ("veth", Sends::SwitchedOff, false),
            ("veth", Sends::Unable, false),
        ] {
            let it = Device {
                sends,
                ..device("d0", kind)
            };
            assert_eq!(send_offload(&[it]).is_ok, is_ok, "{kind} {sends:?}");
        }
    }

    #[test]
    fn only_native_xdp_on_a_veth_takes_trains_apart() {
        for (kind, sort, is_ok) in [
            ("veth", Xdp::None, true),
            ("veth", Xdp::Generic, true),
            ("veth", Xdp::Native, false),
            ("", Xdp::Native, true),
        ] {
            let mut it = device("d0", kind);
            it.interface.xdp = sort;
            assert_eq!(xdp(&[it]).is_ok, is_ok, "{kind} {sort:?}");
        }
    }
}
