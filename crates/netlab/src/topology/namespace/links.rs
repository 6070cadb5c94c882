//! Devices that are made less often, and what else can become of a device.

use std::io;
use std::net::Ipv4Addr;
use std::os::fd::AsRawFd;

use netlink_packet_route::RouteNetlinkMessage;
use netlink_packet_route::link::{
    InfoData, InfoKind, InfoMacVlan, InfoVxlan, LinkAttribute, LinkInfo, LinkMessage, MacVlanMode,
};

use super::{Namespace, link_named};
use reflector_netlink::Intent;
use reflector_udp::attempting;

impl Namespace {
    /// Adds `name`, a macvlan in mode "bridge" on `lower`, down. EEXIST when the name is taken.
    pub fn add_macvlan(&self, name: &str, lower: &str) -> io::Result<()> {
        let mode = InfoData::MacVlan(vec![InfoMacVlan::Mode(MacVlanMode::Bridge)]);
        self.interface_index(lower)
            .map(|index| {
                let mut link = link_of_kind(name, InfoKind::MacVlan, Some(mode));
                link.attributes.push(LinkAttribute::Link(index));
                RouteNetlinkMessage::NewLink(link)
            })
            .and_then(|message| self.request(message, Intent::Create))
            .map_err(attempting(format_args!("add macvlan {name} on {lower}")))
    }

    /// Adds `name`, a vxlan device with identifier 7 on port 4789, down: to `remote`, or `external`
    /// (ip-link(8)) without one. EEXIST when the name is taken.
    pub fn add_vxlan(&self, name: &str, remote: Option<Ipv4Addr>) -> io::Result<()> {
        const PORT: u16 = 4789;
        let mut settings = vec![InfoVxlan::Port(PORT)];
        match remote {
            Some(remote) => settings.extend([InfoVxlan::Id(7), InfoVxlan::Group(remote)]),
            None => settings.push(InfoVxlan::CollectMetadata(true)),
        }
        let link = link_of_kind(name, InfoKind::Vxlan, Some(InfoData::Vxlan(settings)));
        self.request(RouteNetlinkMessage::NewLink(link), Intent::Create)
            .map_err(attempting(format_args!("add vxlan {name}")))
    }

    /// Adds `name`, of a kind that needs no settings, down. EOPNOTSUPP where the kernel has no such
    /// kind.
    pub fn add_link(&self, name: &str, kind: InfoKind) -> io::Result<()> {
        let attempt = format!("add {kind} {name}");
        let link = link_of_kind(name, kind, None);
        self.request(RouteNetlinkMessage::NewLink(link), Intent::Create)
            .map_err(attempting(attempt))
    }

    /// Makes `link` a port of nothing.
    pub fn release(&self, link: &str) -> io::Result<()> {
        self.change(link, LinkAttribute::Controller(0))
            .map_err(attempting(format_args!("take {link} out of its bridge")))
    }

    /// Names `link` anew.
    pub fn rename(&self, link: &str, name: &str) -> io::Result<()> {
        self.change(link, LinkAttribute::IfName(name.to_owned()))
            .map_err(attempting(format_args!("rename {link} to {name}")))
    }

    /// Moves `link` to another namespace, where it is down.
    pub fn move_link(&self, link: &str, to: &Namespace) -> io::Result<()> {
        self.change(link, LinkAttribute::NetNsFd(to.net.as_raw_fd()))
            .map_err(attempting(format_args!("move {link}")))
    }
}

fn link_of_kind(name: &str, kind: InfoKind, data: Option<InfoData>) -> LinkMessage {
    let mut link = link_named(name);
    let infos = [Some(LinkInfo::Kind(kind)), data.map(LinkInfo::Data)];
    let infos = infos.into_iter().flatten().collect();
    link.attributes.push(LinkAttribute::LinkInfo(infos));
    link
}
