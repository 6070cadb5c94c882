//! A network namespace of our own, and what is in it.

mod links;
mod messages;

use std::fs;
use std::io;
use std::net::IpAddr;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::fs::MetadataExt;
use std::panic;
use std::process;
use std::sync::{Mutex, PoisonError};
use std::thread;
use std::time::Duration;

use ipnet::IpNet;
use netlink_packet_route::RouteNetlinkMessage;
use netlink_packet_route::link::{
    InfoData, InfoKind, InfoVeth, LinkAttribute, LinkFlags, LinkInfo, LinkMessage, State,
};

use super::route::Route;
use messages::{address_message, route_message, tentative_message};
use reflector_netlink::{Intent, Netlink};
use reflector_udp::attempting;
use reflector_udp::netns;

/// A network namespace of our own, with `lo` up and nothing else in it.
///
/// A descriptor keeps it; when that is dropped and the last socket and process in it are gone,
/// the kernel removes it with its links, addresses, routes and rules. So that results do not
/// depend on the machine's settings, reverse path filtering, ICMP rate limits and duplicate
/// address detection are off in it, where `/proc/sys` can be written.
///
/// The methods may be called from any thread; errors say what was attempted.
#[derive(Debug)]
pub struct Namespace {
    net: OwnedFd,
    netlink: Mutex<Netlink>,
}

/// What a new namespace is set to, as files under `/proc/sys/net` (ip-sysctl.rst in the kernel).
const SETTINGS: [(&str, &str); 6] = [
    ("ipv4/conf/all/rp_filter", "0"),
    ("ipv4/conf/default/rp_filter", "0"),
    ("ipv4/icmp_ratelimit", "0"),
    ("ipv6/icmp/ratelimit", "0"),
    ("ipv6/conf/all/accept_dad", "0"),
    ("ipv6/conf/default/accept_dad", "0"),
];

impl Namespace {
    /// A new namespace; the caller stays where it is.
    ///
    /// Needs what [`netns::ability`] calls `Direct`; EPERM otherwise.
    pub fn new() -> io::Result<Namespace> {
        let (net, netlink) = on_thread(|| {
            netns::unshare_net()?;
            let netlink = Netlink::open().map_err(attempting("open a netlink socket"))?;
            Ok::<_, io::Error>((netns::current_net()?, netlink))
        })?;
        let namespace = Namespace {
            net,
            netlink: Mutex::new(netlink),
        };
        namespace.set_up("lo")?;
        for (name, value) in SETTINGS {
            // Absent where IPv6 is, and read-only in some containers: see above.
            let _ = namespace.set_sysctl(name, value);
        }
        Ok(namespace)
    }

    /// Runs `body` on a thread of its own inside the namespace, and returns its result.
    ///
    /// Sockets made and processes spawned by `body` live in the namespace, also after `body` has
    /// returned. A panic in `body` continues in the caller with its payload. The thread has the
    /// caller's name, so that messages name the test.
    pub fn run<T: Send>(&self, body: impl FnOnce() -> T + Send) -> T {
        on_thread(|| {
            netns::set_net(&self.net).expect("who made a namespace may enter it");
            body()
        })
    }

    /// The number that tells it from all other namespaces of the machine: the inode of
    /// `/proc/PID/ns/net` of the processes that live in it (namespaces(7)).
    pub fn inode(&self) -> io::Result<u64> {
        let file = fs::File::from(self.net.try_clone()?);
        Ok(file.metadata()?.ino())
    }

    /// Where other programs find it, for as long as this program has it: its descriptor in `/proc`.
    pub fn path(&self) -> String {
        format!("/proc/{}/fd/{}", process::id(), self.net.as_raw_fd())
    }

    /// Adds a bridge named `name`, without spanning tree and down, and returns its index. EEXIST
    /// when the name is taken.
    pub fn add_bridge(&self, name: &str) -> io::Result<u32> {
        let mut link = link_named(name);
        link.attributes
            .push(LinkAttribute::LinkInfo(vec![LinkInfo::Kind(
                InfoKind::Bridge,
            )]));
        self.request(RouteNetlinkMessage::NewLink(link), Intent::Create)
            .and_then(|()| self.interface_index(name))
            .map_err(attempting(format_args!("add bridge {name}")))
    }

    /// Adds a veth pair, down: `name` here and `peer_name` in `peer`, which may be this namespace.
    ///
    /// It goes when either namespace does. EEXIST when one of the names is taken.
    pub fn add_veth(&self, name: &str, peer: &Namespace, peer_name: &str) -> io::Result<()> {
        let mut far_end = link_named(peer_name);
        far_end
            .attributes
            .push(LinkAttribute::NetNsFd(peer.net.as_raw_fd()));
        let mut link = link_named(name);
        link.attributes.push(LinkAttribute::LinkInfo(vec![
            LinkInfo::Kind(InfoKind::Veth),
            LinkInfo::Data(InfoData::Veth(InfoVeth::Peer(far_end))),
        ]));
        self.request(RouteNetlinkMessage::NewLink(link), Intent::Create)
            .map_err(attempting(format_args!(
                "add veth pair {name} and {peer_name}"
            )))
    }

    /// Makes `link` a port of bridge `master`.
    pub fn set_master(&self, link: &str, master: &str) -> io::Result<()> {
        self.interface_index(master)
            .and_then(|index| self.change(link, LinkAttribute::Controller(index)))
            .map_err(attempting(format_args!("make {link} a port of {master}")))
    }

    /// Deletes `link`, with its peer if it has one. ENODEV when there is none.
    pub fn delete_link(&self, link: &str) -> io::Result<()> {
        self.link(link)
            .and_then(|found| self.request(RouteNetlinkMessage::DelLink(found), Intent::Change))
            .map_err(attempting(format_args!("delete {link}")))
    }

    /// Sets the MTU of `link`, in bytes of IP packet.
    pub fn set_mtu(&self, link: &str, mtu: u32) -> io::Result<()> {
        self.change(link, LinkAttribute::Mtu(mtu))
            .map_err(attempting(format_args!("set the MTU of {link} to {mtu}")))
    }

    /// Brings `link` up; it may not be ready yet, see [`wait_ready`](Namespace::wait_ready).
    pub fn set_up(&self, link: &str) -> io::Result<()> {
        self.set_flags(link, LinkFlags::Up)
            .map_err(attempting(format_args!("bring {link} up")))
    }

    /// Takes `link` down, which removes its IPv6 addresses and the routes through it.
    pub fn set_down(&self, link: &str) -> io::Result<()> {
        self.set_flags(link, LinkFlags::empty())
            .map_err(attempting(format_args!("take {link} down")))
    }

    /// Waits until `link`, brought up before, carries IPv4 and IPv6.
    ///
    /// The kernel starts queues and IPv6 on a link some time after its carrier is there, up to a
    /// second (net/core/link_watch.c), and loses what is sent before that. `TimedOut` when five
    /// seconds were not enough: no carrier, or the other end is down.
    pub fn wait_ready(&self, link: &str) -> io::Result<()> {
        wait_until(|| Ok(self.is_up(link)? && self.has_ipv6(link)?))
            .map_err(attempting(format_args!("wait for {link} to be ready")))
    }

    /// The index of `link`; ENODEV when there is none.
    pub fn interface_index(&self, link: &str) -> io::Result<u32> {
        self.with_netlink(|netlink| netlink.link(link))
            .map(|found| found.header.index)
            .map_err(attempting(format_args!("look up interface {link}")))
    }

    /// Adds `address` to `link` with its prefix and the route to it; usable at once.
    ///
    /// IPv6 addresses skip duplicate address detection (IFA_F_NODAD). EEXIST when it is there.
    pub fn add_address(&self, link: &str, address: IpNet) -> io::Result<()> {
        self.interface_index(link)
            .map(|index| RouteNetlinkMessage::NewAddress(address_message(index, address)))
            .and_then(|message| self.request(message, Intent::Create))
            .and_then(|()| self.wait_local(link, address.addr()))
            .map_err(attempting(format_args!("add address {address} to {link}")))
    }

    /// Adds an IPv6 `address` to `link`, which is first tried for a moment where `accept_dad` and
    /// `dad_transmits` of the link say so (ip-sysctl.rst in the kernel).
    pub fn add_tentative_address(&self, link: &str, address: IpNet) -> io::Result<()> {
        self.interface_index(link)
            .map(|index| RouteNetlinkMessage::NewAddress(tentative_message(index, address)))
            .and_then(|message| self.request(message, Intent::Create))
            .map_err(attempting(format_args!("add address {address} to {link}")))
    }

    /// Removes `address` from `link`; EADDRNOTAVAIL when it is not there.
    pub fn delete_address(&self, link: &str, address: IpNet) -> io::Result<()> {
        self.interface_index(link)
            .map(|index| RouteNetlinkMessage::DelAddress(address_message(index, address)))
            .and_then(|message| self.request(message, Intent::Change))
            .map_err(attempting(format_args!(
                "delete address {address} from {link}"
            )))
    }

    /// Adds `route`; EEXIST when there is one to the same destination.
    pub fn add_route(&self, route: &Route) -> io::Result<()> {
        self.route_index(route)
            .map(|index| RouteNetlinkMessage::NewRoute(route_message(route, index)))
            .and_then(|message| self.request(message, Intent::Create))
            .map_err(attempting(format_args!("add {route}")))
    }

    /// Removes `route`; ESRCH when it is not there.
    pub fn delete_route(&self, route: &Route) -> io::Result<()> {
        self.route_index(route)
            .map(|index| RouteNetlinkMessage::DelRoute(route_message(route, index)))
            .and_then(|message| self.request(message, Intent::Change))
            .map_err(attempting(format_args!("delete {route}")))
    }

    /// The setting at `/proc/sys/net/{name}`, such as `ipv4/ip_forward`, without line end.
    pub fn sysctl(&self, name: &str) -> io::Result<String> {
        let path = format!("/proc/sys/net/{name}");
        self.run(|| fs::read_to_string(&path))
            .map(|value| value.trim_end().to_owned())
            .map_err(attempting(format_args!("read {path}")))
    }

    /// Writes `value` to `/proc/sys/net/{name}`.
    ///
    /// Settings outside the namespace's own part of that tree are refused to a user namespace.
    pub fn set_sysctl(&self, name: &str, value: &str) -> io::Result<()> {
        let path = format!("/proc/sys/net/{name}");
        self.run(|| fs::write(&path, value))
            .map_err(attempting(format_args!("write {value} to {path}")))
    }

    /// Waits until the kernel has taken note of the carrier of `link`; `TimedOut` after five
    /// seconds.
    pub fn wait_up(&self, link: &str) -> io::Result<()> {
        wait_until(|| self.is_up(link)).map_err(attempting(format_args!("wait for {link}")))
    }

    /// Whether the kernel has taken note of the carrier (operational state, RFC 2863).
    fn is_up(&self, link: &str) -> io::Result<bool> {
        let link = self.with_netlink(|netlink| netlink.link(link))?;
        Ok(link
            .attributes
            .contains(&LinkAttribute::OperState(State::Up)))
    }

    /// Whether IPv6 runs on `link`, which shows in a settled link-local address; also true where
    /// there is no IPv6 to wait for.
    fn has_ipv6(&self, link: &str) -> io::Result<bool> {
        /// IFA_F_TENTATIVE in linux/if_addr.h.
        const TENTATIVE: u32 = 0x40;
        let has_none = |name: &str| self.sysctl(name).is_ok_and(|value| value == "1");
        let path = "/proc/thread-self/net/if_inet6";
        let Ok(addresses) = self.run(|| fs::read_to_string(path)) else {
            return Ok(true);
        };
        if has_none(&format!("ipv6/conf/{link}/disable_ipv6")) {
            return Ok(true);
        }
        // Address, index, prefix length, scope, flags (hexadecimal), device.
        Ok(addresses.lines().any(|line| {
            let fields: Vec<&str> = line.split_whitespace().collect();
            let [address, _, _, _, flags, device] = fields[..] else {
                return false;
            };
            let is_settled = u32::from_str_radix(flags, 16).is_ok_and(|bits| bits & TENTATIVE == 0);
            device == link && address.starts_with("fe80") && is_settled
        }))
    }

    /// Waits until packets to `ip`, added to `link`, are the host's own.
    ///
    /// The kernel routes to an IPv6 address from a work queue (addrconf_dad_work in
    /// net/ipv6/addrconf.c); on a link that is down it does so when that comes up.
    fn wait_local(&self, link: &str, ip: IpAddr) -> io::Result<()> {
        /// RTF_LOCAL in linux/ipv6_route.h.
        const LOCAL: u32 = 0x8000_0000;
        let IpAddr::V6(ip) = ip else { return Ok(()) };
        let found = self.with_netlink(|netlink| netlink.link(link))?;
        if !found.header.flags.contains(LinkFlags::Up) {
            return Ok(());
        }
        let destination = format!("{:032x} 80 ", ip.to_bits());
        wait_until(|| {
            let routes = self.run(|| fs::read_to_string("/proc/thread-self/net/ipv6_route"))?;
            // Destination, source and next hop with lengths, metric, two counts, flags, device.
            let flags = |line: &str| u32::from_str_radix(line.split_whitespace().nth(8)?, 16).ok();
            Ok(routes
                .lines()
                .filter(|line| line.starts_with(&destination))
                .any(|line| flags(line).is_some_and(|bits| bits & LOCAL != 0)))
        })
    }

    fn route_index(&self, route: &Route) -> io::Result<Option<u32>> {
        route
            .device
            .as_deref()
            .map(|device| self.interface_index(device))
            .transpose()
    }

    fn set_flags(&self, link: &str, flags: LinkFlags) -> io::Result<()> {
        let mut message = self.link(link)?;
        message.header.flags = flags;
        message.header.change_mask = LinkFlags::Up;
        self.request(RouteNetlinkMessage::SetLink(message), Intent::Change)
    }

    fn change(&self, link: &str, attribute: LinkAttribute) -> io::Result<()> {
        let mut message = self.link(link)?;
        message.attributes.push(attribute);
        self.request(RouteNetlinkMessage::SetLink(message), Intent::Change)
    }

    /// A message about the existing link `name`.
    fn link(&self, name: &str) -> io::Result<LinkMessage> {
        let mut message = LinkMessage::default();
        message.header.index = self.interface_index(name)?;
        Ok(message)
    }

    fn request(&self, message: RouteNetlinkMessage, intent: Intent) -> io::Result<()> {
        self.with_netlink(|netlink| netlink.request(message, intent))
            .map(drop)
    }

    fn with_netlink<T>(&self, body: impl FnOnce(&mut Netlink) -> T) -> T {
        // A panic in between leaves at most unread answers, which the next request skips by
        // their sequence number.
        body(&mut self.netlink.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// Polls `condition` every millisecond until it holds; `TimedOut` after five seconds.
fn wait_until(condition: impl Fn() -> io::Result<bool>) -> io::Result<()> {
    for _ in 0..5_000 {
        if condition()? {
            return Ok(());
        }
        thread::sleep(Duration::from_millis(1));
    }
    Err(io::ErrorKind::TimedOut.into())
}

fn link_named(name: &str) -> LinkMessage {
    let mut message = LinkMessage::default();
    message
        .attributes
        .push(LinkAttribute::IfName(name.to_owned()));
    message
}

/// Runs `body` on a fresh thread, which may change its namespaces and then ends.
fn on_thread<T: Send>(body: impl FnOnce() -> T + Send) -> T {
    thread::scope(|scope| {
        let name = thread::current().name().unwrap_or("namespace").to_owned();
        thread::Builder::new()
            .name(name)
            .spawn_scoped(scope, body)
            .expect("the system has room for a thread")
            .join()
            .unwrap_or_else(|payload| panic::resume_unwind(payload))
    })
}

#[cfg(test)]
mod tests;
