//! Network devices, as rtnetlink describes them.

use netlink_packet_route::link::{
    LinkAttribute, LinkFlags, LinkInfo, LinkMessage, LinkXdp, XdpAttached,
};

/// A network device.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Interface {
    /// Its index.
    pub(crate) index: u32,
    /// Its name.
    pub(crate) name: String,
    /// Its kind as `ip -d link` says it (`veth`, `bridge`); empty for hardware and `lo`.
    pub(crate) kind: String,
    /// Whether it is the loopback device.
    pub(crate) is_loopback: bool,
    /// Whether it is up.
    pub(crate) is_up: bool,
    /// Whether an XDP program runs there, and where in the way of a packet.
    pub(crate) xdp: Xdp,
}

/// Where the XDP program of a device runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Xdp {
    /// There is none.
    None,
    /// In the driver, before there is a packet of the kernel's.
    Native,
    /// After it (`xdpgeneric`), on any device.
    Generic,
}

/// The interface that a message of the kernel describes; none without a name.
pub(super) fn interface(message: LinkMessage) -> Option<Interface> {
    let mut name = None;
    let mut kind = String::new();
    let mut xdp = Xdp::None;
    for attribute in message.attributes {
        match attribute {
            LinkAttribute::IfName(it) => name = Some(it),
            LinkAttribute::LinkInfo(infos) => {
                let found = infos.into_iter().find_map(|info| match info {
                    LinkInfo::Kind(kind) => Some(kind.to_string()),
                    _ => None,
                });
                kind = found.unwrap_or_default();
            }
            LinkAttribute::Xdp(programs) => xdp = xdp_of(&programs),
            _ => {}
        }
    }
    let flags = message.header.flags;
    Some(Interface {
        index: message.header.index,
        name: name?,
        kind,
        is_loopback: flags.contains(LinkFlags::Loopback),
        is_up: flags.contains(LinkFlags::Up),
        xdp,
    })
}

/// A device may have a program of each sort; the native one is what matters then.
fn xdp_of(programs: &[LinkXdp]) -> Xdp {
    let is_native = |it: &LinkXdp| {
        let attached = LinkXdp::Attached(XdpAttached::Driver);
        *it == attached || matches!(it, LinkXdp::DrvProgId(_))
    };
    let is_generic = |it: &LinkXdp| {
        let attached = LinkXdp::Attached(XdpAttached::SocketBuffer);
        *it == attached || matches!(it, LinkXdp::SkbProgId(_))
    };
    if programs.iter().any(is_native) {
        Xdp::Native
    } else if programs.iter().any(is_generic) {
        Xdp::Generic
    } else {
        Xdp::None
    }
}
