//! Which way the frames of a device are answered, or why they are not.
//!
//! What is answered here was tried on Linux 6.18, each kind of device with both ways, both
//! families, singles and trains, except for network cards. What was not tried is refused: a way
//! that is wrong loses every reply, and nothing counts them.

use std::fmt;

use reflector_netlink::Link;

use crate::way::{Framing, Way};

/// What has to be known besides the device itself.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Facts {
    /// Whether the kernel takes what one namespace noted of a frame off it before another namespace
    /// gets it by peer redirect: [`peer_is_scrubbed`].
    pub peer_is_scrubbed: bool,
    /// A device that lies on it and gets some of its frames, such as a macvlan.
    pub upper: Option<String>,
    /// The device, it or one below it, that merges datagrams so that only the first of them would
    /// be rewritten.
    pub gro_list: Option<String>,
}

/// Why a device is not accelerated.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Refusal {
    /// Its frames need to be told where to go.
    External,
    /// Nothing that comes in by it reaches a socket of this host by itself.
    NoSocket {
        /// What it is.
        kind: String,
    },
    /// Its kind has not been shown to be right.
    Kind {
        /// What it is.
        kind: String,
    },
    /// Its frames belong to another device, of a kind that has not been shown to be right.
    Port {
        /// What it is a port of.
        of: String,
    },
    /// Its frames begin with neither an Ethernet nor an IP header.
    Hardware {
        /// ARPHRD_ of linux/if_arp.h.
        number: u16,
    },
    /// A reply to a device that lies on it would leave by the wire instead.
    Upper {
        /// That device.
        name: String,
    },
    /// Only the first datagram of a merged train would be rewritten.
    GroList {
        /// The device that merges.
        name: String,
    },
}

impl Refusal {
    /// What to try.
    pub fn remedy(&self) -> String {
        match self {
            Self::External => "give it a remote (`ip link add … type vxlan id … remote …`), or \
                               leave it to the sockets"
                .into(),
            Self::NoSocket { .. } => "name the device that has the addresses".into(),
            Self::Kind { .. } | Self::Hardware { .. } => {
                "leave it to the sockets, which answer there as ever".into()
            }
            Self::Port { of } => {
                format!("leave it to the sockets, which answer at the {of} device as ever")
            }
            Self::Upper { name } => format!("name {name}, or leave it to the sockets"),
            Self::GroList { name } => format!("`ethtool -K {name} rx-gro-list off`"),
        }
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::External => f.write_str(
                "it is an external vxlan device, which needs tunnel metadata with each frame",
            ),
            Self::NoSocket { kind } => write!(f, "behind a device of kind {kind} is no socket"),
            Self::Kind { kind } => write!(
                f,
                "answering in the kernel has not been shown to be right for devices of kind {kind}"
            ),
            Self::Port { of } => write!(
                f,
                "answering in the kernel has not been shown to be right for ports of kind {of}"
            ),
            Self::Hardware { number } => write!(
                f,
                "its frames (hardware type {number}) begin with neither an Ethernet nor an IP \
                 header"
            ),
            Self::Upper { name } => write!(
                f,
                "{name} lies on it, and what that asks would be answered to the wire"
            ),
            Self::GroList { name } => write!(
                f,
                "{name} has rx-gro-list on: of a train that it merges only the first datagram \
                 would be rewritten"
            ),
        }
    }
}

/// ARPHRD_ of linux/if_arp.h.
const ETHERNET: u16 = 1;
const LOOPBACK: u16 = 772;
const NONE: u16 = 65534;

/// Which way the frames of `link` are answered, and what they begin with.
///
/// # Errors
/// Why they are left to the sockets.
pub fn judge(link: &Link, facts: &Facts) -> Result<(Way, Framing), Refusal> {
    match link.port_kind.as_deref() {
        None | Some("bridge") => {}
        Some(of) => return Err(Refusal::Port { of: of.into() }),
    }
    let verdict = match (link.kind.as_deref(), link.hardware) {
        (Some("veth"), ETHERNET) => (peer_or_plain(link, facts), Framing::Ethernet),
        (Some("vxlan"), _) if link.is_external => return Err(Refusal::External),
        (Some("bridge" | "vxlan" | "macvlan" | "tun"), ETHERNET) => (Way::Plain, Framing::Ethernet),
        // The kernel calls tap devices tun as well: the hardware tells them apart.
        (Some("tun"), NONE) => (Way::Plain, Framing::None),
        (Some(kind @ ("ifb" | "macvtap" | "ipvtap")), _) => {
            return Err(Refusal::NoSocket { kind: kind.into() });
        }
        (Some("veth" | "bridge" | "vxlan" | "macvlan" | "tun"), number) => {
            return Err(Refusal::Hardware { number });
        }
        (Some(kind), _) => return Err(Refusal::Kind { kind: kind.into() }),
        (None, LOOPBACK) if link.is_loopback => (Way::Plain, Framing::Ethernet),
        (None, ETHERNET) => (Way::Plain, Framing::Ethernet),
        (None, number) => return Err(Refusal::Hardware { number }),
    };
    if let Some(name) = facts.upper.clone() {
        return Err(Refusal::Upper { name });
    }
    if let Some(name) = facts.gro_list.clone() {
        return Err(Refusal::GroList { name });
    }
    Ok(verdict)
}

/// Plain where peer redirect would lose every reply, or might do so in a moment: the end of a veth
/// that moves has no carrier first.
fn peer_or_plain(link: &Link, facts: &Facts) -> Way {
    if link.is_lower_elsewhere && link.is_lower_up && facts.peer_is_scrubbed {
        Way::Peer
    } else {
        Way::Plain
    }
}

/// What to say of a device that is accelerated all the same; `bridge` is the name of what it is a
/// port of.
pub fn hint(link: &Link, bridge: Option<&str>) -> Option<String> {
    if link.port_kind.as_deref() != Some("bridge") {
        return None;
    }
    let bridge = bridge.unwrap_or("its bridge");
    Some(format!(
        "{} is a port of {bridge}: it answers where the bridge would let nothing in, with the port \
         disabled, {bridge} down, or a rule of nft's bridge family; `--accelerate {bridge}` does \
         not",
        link.name
    ))
}

/// Whether peer redirect of this kernel `release` (uname(2)) scrubs what it hands to another
/// namespace, which it does since Linux 6.15, 6.14.7, 6.12.29 and 6.6.91 (CVE-2025-37959). A
/// distribution that has mended an older one is not seen, and answered in the plain way.
pub fn peer_is_scrubbed(release: &str) -> bool {
    let mut numbers = release.split(|c: char| !c.is_ascii_digit());
    let mut next = || numbers.next().and_then(|it| it.parse::<u32>().ok());
    let (Some(major), Some(minor)) = (next(), next()) else {
        return false;
    };
    let patch = next().unwrap_or(0);
    match (major, minor) {
        (6, 6) => patch >= 91,
        (6, 12) => patch >= 29,
        (6, 14) => patch >= 7,
        // Mended before the last of its candidates.
        (6, 15) => !release.contains("-rc"),
        version => version > (6, 15),
    }
}

#[cfg(test)]
mod tests;
