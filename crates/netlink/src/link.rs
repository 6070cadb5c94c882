//! Network devices, as the kernel describes them.

use std::io;

use netlink_packet_route::AddressFamily;
use netlink_packet_route::RouteNetlinkMessage;
use netlink_packet_route::link::{
    InfoData, InfoVxlan, LinkAttribute, LinkFlags, LinkInfo, LinkMessage,
};

use crate::route::{Intent, Netlink};

/// A network device, all that says what it is and where its frames go.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Link {
    /// Its number, which no other device of its namespace has at the same time.
    pub index: u32,
    /// Its name, which may change.
    pub name: String,
    /// What it is, such as `veth`; a network card and `lo` have no kind (IFLA_INFO_KIND).
    pub kind: Option<String>,
    /// What it is a port of, such as `bridge` (IFLA_INFO_SLAVE_KIND).
    pub port_kind: Option<String>,
    /// The number of the device that it is a port of (IFLA_MASTER).
    pub master: Option<u32>,
    /// The number of the device that it lies on, or of the other end of a veth (IFLA_LINK).
    pub lower: Option<u32>,
    /// Whether that other device is in another namespace (IFLA_LINK_NETNSID is there; its value is
    /// a name that this namespace has for the other one, and says nothing).
    pub is_lower_elsewhere: bool,
    /// ARPHRD_ of linux/if_arp.h: 1 for Ethernet.
    pub hardware: u16,
    /// The address of its end of the link, where that is a MAC (IFLA_ADDRESS).
    pub mac: Option<[u8; 6]>,
    /// Whether it is `lo` of its namespace (IFF_LOOPBACK).
    pub is_loopback: bool,
    /// Whether it has a carrier: not where the other end of a veth is down (IFF_LOWER_UP).
    pub is_lower_up: bool,
    /// Whether where its frames go is said of each frame by who sends it: a vxlan device that is
    /// `external` in ip-link(8) (IFLA_VXLAN_COLLECT_METADATA).
    pub is_external: bool,
}

impl Link {
    /// What a message of rtnetlink says. `None` of what only a bridge says of its port, in messages
    /// of the same types: in family AF_BRIDGE "deleted" means "no port any more".
    pub(crate) fn of(message: &LinkMessage) -> Option<Self> {
        if message.header.interface_family != AddressFamily::Unspec {
            return None;
        }
        let flags = message.header.flags;
        let mut link = Self {
            index: message.header.index,
            hardware: message.header.link_layer_type.into(),
            is_loopback: flags.contains(LinkFlags::Loopback),
            is_lower_up: flags.contains(LinkFlags::LowerUp),
            ..Self::default()
        };
        for attribute in &message.attributes {
            match attribute {
                LinkAttribute::IfName(name) => link.name.clone_from(name),
                LinkAttribute::Controller(index) => link.master = Some(*index),
                LinkAttribute::Address(bytes) => link.mac = bytes.as_slice().try_into().ok(),
                LinkAttribute::Link(index) => link.lower = Some(*index),
                LinkAttribute::LinkNetNsId(_) => link.is_lower_elsewhere = true,
                LinkAttribute::LinkInfo(infos) => infos.iter().for_each(|it| link.learn(it)),
                _ => {}
            }
        }
        Some(link)
    }

    fn learn(&mut self, info: &LinkInfo) {
        match info {
            LinkInfo::Kind(kind) => self.kind = Some(kind.to_string()),
            LinkInfo::PortKind(kind) => self.port_kind = Some(kind.to_string()),
            LinkInfo::Data(InfoData::Vxlan(settings)) => {
                self.is_external = settings.contains(&InfoVxlan::CollectMetadata(true));
            }
            _ => {}
        }
    }
}

impl Netlink {
    /// The device with this number.
    ///
    /// # Errors
    /// ENODEV when there is none.
    pub fn link_at(&mut self, index: u32) -> io::Result<Link> {
        let mut message = LinkMessage::default();
        message.header.index = index;
        let answers = self.request(RouteNetlinkMessage::GetLink(message), Intent::Change)?;
        let mut links = answers.iter().filter_map(link);
        links
            .next()
            .ok_or_else(|| io::Error::from_raw_os_error(libc::ENODEV))
    }

    /// The device with this name.
    ///
    /// # Errors
    /// ENODEV when there is none.
    pub fn link_named(&mut self, name: &str) -> io::Result<Link> {
        Link::of(&self.link(name)?).ok_or_else(|| io::Error::from_raw_os_error(libc::ENODEV))
    }

    /// All devices of the namespace.
    ///
    /// # Errors
    /// As [`request`](Self::request).
    pub fn links(&mut self) -> io::Result<Vec<Link>> {
        let request = RouteNetlinkMessage::GetLink(LinkMessage::default());
        let mut links = Vec::new();
        self.request_each(request, Intent::Dump, |answer| links.extend(link(&answer)))?;
        Ok(links)
    }
}

fn link(answer: &RouteNetlinkMessage) -> Option<Link> {
    match answer {
        RouteNetlinkMessage::NewLink(message) => Link::of(message),
        _ => None,
    }
}
