//! Network namespaces with links, addresses, routes and rules, gone when they are dropped.
//!
//! [`Namespace`] is the base, [`DockerHost`] the ready-made picture of moby#15127, and
//! [`in_namespaces`] the way in for tests. Links, addresses and routes are made through
//! rtnetlink(7), never by running `ip`; only [`nft`] runs a program.
//!
//! ```no_run
//! use reflector_netlab::topology::{DockerHost, net};
//! let picture = DockerHost::new()?;
//! picture.host.add_address("eth0", net("172.16.13.14/24"))?;
//! picture.masquerade()?;
//! # Ok::<(), std::io::Error>(())
//! ```

mod messages;

use std::env;
use std::fmt;
use std::fs;
use std::io::{self, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::fs::MetadataExt;
use std::panic;
use std::process::{Command, Output, Stdio};
use std::sync::{Mutex, PoisonError};
use std::thread;
use std::time::Duration;

use ipnet::IpNet;
use netlink_packet_route::RouteNetlinkMessage;
use netlink_packet_route::link::{
    InfoData, InfoKind, InfoVeth, LinkAttribute, LinkFlags, LinkInfo, LinkMessage, State,
};

use crate::netlink::{Intent, Netlink};
use messages::{address_message, route_message};
use reflector_udp::attempting;
use reflector_udp::netns::{self, Ability};

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

    /// The result of `body`, run on a thread of its own inside the namespace.
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

    /// What tells it from all other namespaces of the machine: the inode of `/proc/PID/ns/net`
    /// of the processes that live in it (namespaces(7)).
    pub fn inode(&self) -> io::Result<u64> {
        let file = fs::File::from(self.net.try_clone()?);
        Ok(file.metadata()?.ino())
    }

    /// A bridge named `name`, without spanning tree, down; its index.
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

    /// A veth pair, down: `name` here and `peer_name` in `peer`, which may be this namespace.
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

    /// Removal of a link, and of its other end if it is a veth. ENODEV when there is none.
    pub fn delete_link(&self, name: &str) -> io::Result<()> {
        self.link(name)
            .and_then(|link| self.request(RouteNetlinkMessage::DelLink(link), Intent::Change))
            .map_err(attempting(format_args!("delete link {name}")))
    }

    /// `link` made a port of bridge `master`.
    pub fn set_master(&self, link: &str, master: &str) -> io::Result<()> {
        self.interface_index(master)
            .and_then(|index| self.change(link, LinkAttribute::Controller(index)))
            .map_err(attempting(format_args!("make {link} a port of {master}")))
    }

    /// The MTU of `link`, in bytes of IP packet.
    pub fn set_mtu(&self, link: &str, mtu: u32) -> io::Result<()> {
        self.change(link, LinkAttribute::Mtu(mtu))
            .map_err(attempting(format_args!("set the MTU of {link} to {mtu}")))
    }

    /// `link` brought up; not yet ready, see [`wait_ready`](Namespace::wait_ready).
    pub fn set_up(&self, link: &str) -> io::Result<()> {
        self.set_flags(link, LinkFlags::Up)
            .map_err(attempting(format_args!("bring {link} up")))
    }

    /// `link` taken down, which removes its IPv6 addresses and the routes through it.
    pub fn set_down(&self, link: &str) -> io::Result<()> {
        self.set_flags(link, LinkFlags::empty())
            .map_err(attempting(format_args!("take {link} down")))
    }

    /// A wait until `link`, brought up before, carries IPv4 and IPv6.
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

    /// `address` added to `link` with its prefix and the route to it; usable at once.
    ///
    /// IPv6 addresses skip duplicate address detection (IFA_F_NODAD). EEXIST when it is there.
    pub fn add_address(&self, link: &str, address: IpNet) -> io::Result<()> {
        self.interface_index(link)
            .map(|index| RouteNetlinkMessage::NewAddress(address_message(index, address)))
            .and_then(|message| self.request(message, Intent::Create))
            .and_then(|()| self.wait_local(link, address.addr()))
            .map_err(attempting(format_args!("add address {address} to {link}")))
    }

    /// `address` removed from `link`; EADDRNOTAVAIL when it is not there.
    pub fn delete_address(&self, link: &str, address: IpNet) -> io::Result<()> {
        self.interface_index(link)
            .map(|index| RouteNetlinkMessage::DelAddress(address_message(index, address)))
            .and_then(|message| self.request(message, Intent::Change))
            .map_err(attempting(format_args!(
                "delete address {address} from {link}"
            )))
    }

    /// `route` added; EEXIST when there is one to the same destination.
    pub fn add_route(&self, route: &Route) -> io::Result<()> {
        self.route_index(route)
            .map(|index| RouteNetlinkMessage::NewRoute(route_message(route, index)))
            .and_then(|message| self.request(message, Intent::Create))
            .map_err(attempting(format_args!("add {route}")))
    }

    /// `route` removed; ESRCH when it is not there.
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

    /// `value` written to `/proc/sys/net/{name}`.
    ///
    /// Settings outside the namespace's own part of that tree are refused to a user namespace.
    pub fn set_sysctl(&self, name: &str, value: &str) -> io::Result<()> {
        let path = format!("/proc/sys/net/{name}");
        self.run(|| fs::write(&path, value))
            .map_err(attempting(format_args!("write {value} to {path}")))
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

    /// A wait until packets to `ip`, added to `link`, are the host's own.
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

/// A wait until `condition` holds, looked at every millisecond for five seconds.
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

/// The result of `body` on a fresh thread, which may change its namespaces and then ends.
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

/// An address with its prefix length, or a network, from a literal such as `172.17.0.1/16`.
///
/// Panics on anything else: it is meant for constants in tests.
pub fn net(literal: &str) -> IpNet {
    literal
        .parse()
        .unwrap_or_else(|_| panic!("{literal} is not an address with prefix length"))
}

/// A route in a namespace's main or local table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Route {
    pub(super) destination: IpNet,
    pub(super) is_local: bool,
    pub(super) gateway: Option<IpAddr>,
    pub(super) device: Option<String>,
    pub(super) preferred_source: Option<IpAddr>,
}

impl Route {
    /// A route to `destination`; it needs a gateway, a device, or both.
    pub fn to(destination: IpNet) -> Route {
        Route {
            destination,
            is_local: false,
            gateway: None,
            device: None,
            preferred_source: None,
        }
    }

    /// The default route of the gateway's family, through `gateway`.
    pub fn default_via(gateway: IpAddr) -> Route {
        let everything = match gateway {
            IpAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
            IpAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
        };
        Route::to(IpNet::new(everything, 0).expect("0 fits both families")).via(gateway)
    }

    /// AnyIP: every address of `destination` is this host's own, through `lo`, although no
    /// interface has it (`ip route add local … dev lo`). Sending from one of them needs
    /// IP_FREEBIND or IPV6_FREEBIND for IPv6 (ip(7)).
    pub fn local(destination: IpNet) -> Route {
        Route {
            is_local: true,
            ..Route::to(destination)
        }
        .device("lo")
    }

    /// The same, through the router `gateway`.
    pub fn via(self, gateway: IpAddr) -> Route {
        Route {
            gateway: Some(gateway),
            ..self
        }
    }

    /// The same, out of `device`.
    pub fn device(self, device: &str) -> Route {
        Route {
            device: Some(device.to_owned()),
            ..self
        }
    }

    /// The same, with `source` for sockets that choose none themselves.
    pub fn preferred_source(self, source: IpAddr) -> Route {
        Route {
            preferred_source: Some(source),
            ..self
        }
    }
}

impl fmt::Display for Route {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kind = if self.is_local {
            "local route"
        } else {
            "route"
        };
        write!(f, "{kind} to {}", self.destination)?;
        if let Some(gateway) = self.gateway {
            write!(f, " via {gateway}")?;
        }
        if let Some(device) = &self.device {
            write!(f, " through {device}")?;
        }
        Ok(())
    }
}

/// Why an nft ruleset is not in force.
#[derive(Debug)]
pub enum NftError {
    /// There is no `nft` program: not in `PATH`, not in `/usr/sbin`.
    Missing,
    /// It could not be run, or it refused the ruleset; the message holds what it said.
    Io(io::Error),
}

impl fmt::Display for NftError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            NftError::Missing => {
                write!(
                    f,
                    "the program nft is missing; install the package nftables"
                )
            }
            NftError::Io(error) => error.fmt(f),
        }
    }
}

impl std::error::Error for NftError {}

impl From<NftError> for io::Error {
    fn from(error: NftError) -> io::Error {
        match error {
            NftError::Missing => io::Error::new(io::ErrorKind::NotFound, error),
            NftError::Io(error) => error,
        }
    }
}

/// `ruleset` put in force in `namespace` by the program `nft` (nft(8), `nft -f -`).
///
/// All of it or nothing. Statements end with `;` or a line end. Rules with `ct state` and NAT
/// chains also start connection tracking there (see [`super::observe::conntrack`]).
pub fn nft(namespace: &Namespace, ruleset: &str) -> Result<(), NftError> {
    let output = ["nft", "/usr/sbin/nft"]
        .into_iter()
        .map(|program| namespace.run(|| pipe_into(program, ruleset)))
        .find(|result| !matches!(result, Err(error) if error.kind() == io::ErrorKind::NotFound))
        .ok_or(NftError::Missing)?
        .map_err(|error| NftError::Io(attempting("run nft")(error)))?;
    if output.status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&output.stderr);
    Err(NftError::Io(io::Error::other(format!(
        "nft refused a ruleset: {}",
        said.trim_end()
    ))))
}

fn pipe_into(program: &str, ruleset: &str) -> io::Result<Output> {
    let mut child = Command::new(program)
        .args(["-f", "-"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()?;
    let mut stdin = child.stdin.take().expect("stdin was piped");
    // A program that gives up early says why on stderr, which is the better message.
    let _ = stdin.write_all(ruleset.as_bytes());
    drop(stdin);
    child.wait_with_output()
}

/// The picture of moby#15127: a host with a bridge, a container behind it, a host outside.
///
/// ```text
///  container                        host                          outside
///  eth0 172.17.0.3/16 ──▶ veth1 ─ docker0 172.17.0.1/16
///       fd17::3/64                fd17::1/64
///                                 eth0 172.16.13.13/24 ◀──▶ eth0 172.16.13.2/24, .3/24
///                                      fd13::13/64               fd13::2/64
/// ```
///
/// The container's default routes lead to docker0; the host forwards both families; outside
/// knows the way back to the container, so that NAT is a choice ([`DockerHost::masquerade`]).
#[derive(Debug)]
pub struct DockerHost {
    /// The machine with docker0 and eth0, which runs the server.
    pub host: Namespace,
    /// The container behind docker0; its end of the link is eth0, the host's is veth1.
    pub container: Namespace,
    /// A machine on the host's uplink, with two IPv4 addresses.
    pub outside: Namespace,
}

impl DockerHost {
    /// docker0's IPv4 address: the wrong source.
    pub const DOCKER0: Ipv4Addr = Ipv4Addr::new(172, 17, 0, 1);
    /// docker0's IPv6 address.
    pub const DOCKER0_V6: Ipv6Addr = Ipv6Addr::new(0xfd17, 0, 0, 0, 0, 0, 0, 1);
    /// The host's other IPv4 address, the one that the container asks.
    pub const HOST: Ipv4Addr = Ipv4Addr::new(172, 16, 13, 13);
    /// The host's other IPv6 address.
    pub const HOST_V6: Ipv6Addr = Ipv6Addr::new(0xfd13, 0, 0, 0, 0, 0, 0, 0x13);
    /// The container's IPv4 address.
    pub const CONTAINER: Ipv4Addr = Ipv4Addr::new(172, 17, 0, 3);
    /// The container's IPv6 address.
    pub const CONTAINER_V6: Ipv6Addr = Ipv6Addr::new(0xfd17, 0, 0, 0, 0, 0, 0, 3);
    /// The first IPv4 address outside, which the kernel there prefers as source.
    pub const OUTSIDE: Ipv4Addr = Ipv4Addr::new(172, 16, 13, 2);
    /// The second IPv4 address outside.
    pub const OUTSIDE_SECOND: Ipv4Addr = Ipv4Addr::new(172, 16, 13, 3);
    /// The IPv6 address outside.
    pub const OUTSIDE_V6: Ipv6Addr = Ipv6Addr::new(0xfd13, 0, 0, 0, 0, 0, 0, 2);

    /// The three namespaces, connected, with all links ready and no nft rule.
    pub fn new() -> io::Result<DockerHost> {
        let picture = DockerHost {
            host: Namespace::new()?,
            container: Namespace::new()?,
            outside: Namespace::new()?,
        };
        picture.connect_container()?;
        picture.connect_outside()?;
        picture.host.set_sysctl("ipv4/ip_forward", "1")?;
        picture.host.set_sysctl("ipv6/conf/all/forwarding", "1")?;
        picture.host.wait_ready("docker0")?;
        picture.host.wait_ready("eth0")?;
        picture.container.wait_ready("eth0")?;
        picture.outside.wait_ready("eth0")?;
        Ok(picture)
    }

    /// Source NAT for the container, both families: what leaves by another link than docker0
    /// does so from the host's address there. Starts connection tracking on the host.
    pub fn masquerade(&self) -> Result<(), NftError> {
        nft(
            &self.host,
            "table inet nat {
                chain postrouting {
                    type nat hook postrouting priority srcnat;
                    ip saddr 172.17.0.0/16 oifname != \"docker0\" masquerade;
                    ip6 saddr fd17::/64 oifname != \"docker0\" masquerade;
                }
            }",
        )
    }

    /// A stateful filter on the host: forwarded are datagrams from the container, and answers to
    /// them; the rest is dropped in silence. Starts connection tracking on the host.
    pub fn stateful_filter(&self) -> Result<(), NftError> {
        nft(
            &self.host,
            "table inet filter {
                chain forward {
                    type filter hook forward priority filter; policy drop;
                    ct state established,related accept;
                    iifname \"docker0\" accept;
                }
            }",
        )
    }

    fn connect_container(&self) -> io::Result<()> {
        let (host, container) = (&self.host, &self.container);
        host.add_bridge("docker0")?;
        host.add_address("docker0", prefixed(Self::DOCKER0, 16))?;
        host.add_address("docker0", prefixed(Self::DOCKER0_V6, 64))?;
        host.add_veth("veth1", container, "eth0")?;
        host.set_master("veth1", "docker0")?;
        container.add_address("eth0", prefixed(Self::CONTAINER, 16))?;
        container.add_address("eth0", prefixed(Self::CONTAINER_V6, 64))?;
        container.set_up("eth0")?;
        host.set_up("veth1")?;
        // A bridge that comes up after its port need not wait for a carrier of its own.
        wait_until(|| host.is_up("veth1"))?;
        host.set_up("docker0")?;
        container.add_route(&Route::default_via(Self::DOCKER0.into()))?;
        container.add_route(&Route::default_via(Self::DOCKER0_V6.into()))
    }

    fn connect_outside(&self) -> io::Result<()> {
        let (host, outside) = (&self.host, &self.outside);
        host.add_veth("eth0", outside, "eth0")?;
        host.add_address("eth0", prefixed(Self::HOST, 24))?;
        host.add_address("eth0", prefixed(Self::HOST_V6, 64))?;
        outside.add_address("eth0", prefixed(Self::OUTSIDE, 24))?;
        outside.add_address("eth0", prefixed(Self::OUTSIDE_SECOND, 24))?;
        outside.add_address("eth0", prefixed(Self::OUTSIDE_V6, 64))?;
        host.set_up("eth0")?;
        outside.set_up("eth0")?;
        outside.add_route(&Route::to(prefixed(Self::DOCKER0, 16)).via(Self::HOST.into()))?;
        outside.add_route(&Route::to(prefixed(Self::DOCKER0_V6, 64)).via(Self::HOST_V6.into()))
    }
}

fn prefixed(address: impl Into<IpAddr>, prefix_len: u8) -> IpNet {
    IpNet::new(address.into(), prefix_len).expect("the prefix length fits the family")
}

/// A test whose `body` makes namespaces, run by root and by ordinary users alike.
///
/// With the capabilities for it `body` runs here. Without them this test program is run again in
/// a user namespace, for this one test, and its failure is ours. Where neither is possible the
/// line `SKIPPED {test_name}: {reason}` goes to stderr, past the capture of libtest, and the
/// function returns; with `netns` in the comma-separated `REFLECTOR_REQUIRE` it panics instead.
///
/// `test_name` is the test's path as libtest prints it; it is also the filter of the second run
/// where the thread has no name of its own (`--test-threads=1`).
pub fn in_namespaces(test_name: &str, body: impl FnOnce()) {
    if env::var_os(RERUN).is_some() {
        body();
        say(&format!("{RERUN} {test_name}"));
        return;
    }
    match netns::ability() {
        Ability::Direct => body(),
        Ability::ThroughUserNamespace => rerun_in_user_namespace(test_name),
        Ability::None(reason) => skip(test_name, "netns", reason),
    }
}

/// The variable that tells a test program that it was started by [`in_namespaces`], and the word
/// by which it reports that a body came to its end.
const RERUN: &str = "REFLECTOR_RERUN";

fn rerun_in_user_namespace(test_name: &str) {
    let thread = thread::current();
    let filter = thread
        .name()
        .filter(|name| *name != "main")
        .unwrap_or(test_name);
    let output =
        netns::user_namespace_command(["--exact", filter, "--nocapture", "--include-ignored"])
            .env(RERUN, "1")
            .stdin(Stdio::null())
            .output()
            .expect("a user namespace was made a moment ago");
    let stderr = String::from_utf8_lossy(&output.stderr);
    print!("{}", String::from_utf8_lossy(&output.stdout));
    eprint!("{stderr}");
    assert!(
        output.status.success(),
        "{test_name} failed in a user namespace"
    );
    // A filter that matches nothing would be a success too.
    let report = format!("{RERUN} {test_name}");
    assert!(
        stderr.lines().any(|line| line.ends_with(&report)),
        "{filter} did not run {test_name} in a user namespace"
    );
}

/// Whether `rules` are in force, for tests of NAT and filters.
///
/// `false`, and a line `SKIPPED {test_name}: {reason}` on stderr, where the program `nft` is
/// missing; with `nft` in the comma-separated `REFLECTOR_REQUIRE` that panics, as does any other
/// error.
pub fn in_force(test_name: &str, rules: Result<(), NftError>) -> bool {
    match rules {
        Ok(()) => true,
        Err(missing @ NftError::Missing) => {
            skip(test_name, "nft", &missing.to_string());
            false
        }
        Err(NftError::Io(error)) => panic!("{error}"),
    }
}

/// Says that `test_name` is skipped for want of `need`, or panics where `REFLECTOR_REQUIRE` demands
/// that.
pub fn skip(test_name: &str, need: &str, reason: &str) {
    let required = env::var("REFLECTOR_REQUIRE").unwrap_or_default();
    assert!(
        !required.split(',').any(|word| word.trim() == need),
        "{test_name} needs {need}, which REFLECTOR_REQUIRE demands: {reason}"
    );
    say(&format!("SKIPPED {test_name}: {reason}"));
}

/// A line on stderr that libtest does not hold back.
fn say(line: &str) {
    // Nobody to tell if stderr is closed.
    let _ = io::stderr().write_all(format!("{line}\n").as_bytes());
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::UdpSocket;
    use std::sync::atomic::{AtomicBool, Ordering};

    fn path(test: &str) -> String {
        format!("lab::topology::tests::{test}")
    }

    #[test]
    fn a_namespace_is_empty_and_its_own() {
        in_namespaces(&path("a_namespace_is_empty_and_its_own"), || {
            let namespace = Namespace::new().unwrap();
            let devices = namespace.run(|| fs::read_to_string("/proc/thread-self/net/dev"));
            assert_eq!(
                devices
                    .unwrap()
                    .lines()
                    .filter(|line| line.contains(':'))
                    .count(),
                1
            );
            let (one, other) = (
                namespace.run(|| UdpSocket::bind("127.0.0.1:5151").unwrap()),
                Namespace::new()
                    .unwrap()
                    .run(|| UdpSocket::bind("127.0.0.1:5151").unwrap()),
            );
            one.set_read_timeout(Some(Duration::from_millis(50)))
                .unwrap();
            other.send_to(b"lost", "127.0.0.1:5151").unwrap();
            one.recv_from(&mut [0; 8]).unwrap_err();
        });
    }

    #[test]
    fn children_live_in_the_namespace() {
        in_namespaces(&path("children_live_in_the_namespace"), || {
            let namespace = Namespace::new().unwrap();
            let own = namespace.run(|| fs::read_link("/proc/thread-self/ns/net").unwrap());
            let output = namespace
                .run(|| Command::new("readlink").arg("/proc/self/ns/net").output())
                .unwrap();
            assert_eq!(
                String::from_utf8_lossy(&output.stdout).trim(),
                own.to_str().unwrap()
            );
            assert_ne!(fs::read_link("/proc/thread-self/ns/net").unwrap(), own);
        });
    }

    #[test]
    fn a_panic_inside_comes_out_with_its_payload() {
        in_namespaces(&path("a_panic_inside_comes_out_with_its_payload"), || {
            let namespace = Namespace::new().unwrap();
            let name = thread::current().name().map(str::to_owned);
            assert_eq!(
                namespace.run(|| thread::current().name().map(str::to_owned)),
                name
            );
            let inside =
                panic::AssertUnwindSafe(|| namespace.run(|| panic::resume_unwind(Box::new(7))));
            let payload = panic::catch_unwind(inside).map(|()| 0).unwrap_err();
            assert_eq!(payload.downcast_ref(), Some(&7));
        });
    }

    /// A datagram from the namespace to itself at `ip`, received on a wildcard socket.
    fn reach(namespace: &Namespace, ip: IpAddr) -> io::Result<()> {
        let wildcard = if ip.is_ipv4() { "0.0.0.0:0" } else { "[::]:0" };
        let socket = namespace.run(|| UdpSocket::bind(wildcard))?;
        socket.set_read_timeout(Some(Duration::from_secs(2)))?;
        socket.send_to(b"self", (ip, socket.local_addr()?.port()))?;
        socket.recv_from(&mut [0; 8]).map(drop)
    }

    #[test]
    fn addresses_and_routes_come_and_go() {
        in_namespaces(&path("addresses_and_routes_come_and_go"), || {
            let namespace = Namespace::new().unwrap();
            namespace.add_bridge("br0").unwrap();
            namespace.set_up("br0").unwrap();
            namespace.set_mtu("br0", 1300).unwrap();
            let bind = |ip: &str| namespace.run(|| UdpSocket::bind((ip, 0)).map(drop));
            for address in ["198.18.0.1/24", "fd98::1/64"] {
                let ip = address.split_once('/').unwrap().0;
                bind(ip).unwrap_err();
                namespace.add_address("br0", net(address)).unwrap();
                bind(ip).unwrap();
                let error = namespace.add_address("br0", net(address)).unwrap_err();
                assert_eq!(error.kind(), io::ErrorKind::AlreadyExists, "{error}");
                assert!(error.to_string().contains(address), "{error}");
                namespace.delete_address("br0", net(address)).unwrap();
                bind(ip).unwrap_err();
            }
            for anywhere in ["198.18.9.0/24", "fd99::/64"] {
                let ip = net(anywhere).hosts().nth(6).unwrap();
                let route = Route::local(net(anywhere));
                reach(&namespace, ip).unwrap_err();
                namespace.add_route(&route).unwrap();
                reach(&namespace, ip).unwrap();
                let error = namespace.add_route(&route).unwrap_err();
                assert_eq!(error.kind(), io::ErrorKind::AlreadyExists, "{error}");
                namespace.delete_route(&route).unwrap();
                reach(&namespace, ip).unwrap_err();
            }
            let index = namespace.interface_index("br0").unwrap();
            assert!(index > 1);
            namespace.delete_link("br0").unwrap();
            namespace.interface_index("br0").unwrap_err();
        });
    }

    /// The kernel makes IPv6 addresses known to its routing from a work queue.
    #[test]
    fn an_address_is_reachable_as_soon_as_it_is_added() {
        in_namespaces(
            &path("an_address_is_reachable_as_soon_as_it_is_added"),
            || {
                let namespace = Namespace::new().unwrap();
                namespace.add_bridge("br0").unwrap();
                namespace.set_up("br0").unwrap();
                for address in ["198.18.0.1/24", "fd98::1/64"].map(net) {
                    for _ in 0..50 {
                        namespace.add_address("br0", address).unwrap();
                        reach(&namespace, address.addr()).unwrap();
                        namespace.delete_address("br0", address).unwrap();
                    }
                }
            },
        );
    }

    #[test]
    fn a_route_can_prefer_a_source() {
        in_namespaces(&path("a_route_can_prefer_a_source"), || {
            let namespace = Namespace::new().unwrap();
            namespace.add_bridge("br0").unwrap();
            namespace.set_up("br0").unwrap();
            for (address, second, destination) in [
                ("198.18.0.1/24", "198.18.0.2/24", "198.18.5.0/24"),
                ("fd98::1/64", "fd98::2/64", "fd99::/64"),
            ] {
                namespace.add_address("br0", net(address)).unwrap();
                namespace.add_address("br0", net(second)).unwrap();
                let source = net(second).addr();
                let route = Route::to(net(destination))
                    .device("br0")
                    .preferred_source(source);
                namespace.add_route(&route).unwrap();
                let peer = net(destination).hosts().nth(6).unwrap();
                let chosen = namespace.run(|| {
                    let wildcard = if peer.is_ipv4() {
                        "0.0.0.0:0"
                    } else {
                        "[::]:0"
                    };
                    let socket = UdpSocket::bind(wildcard).unwrap();
                    socket.connect((peer, 9)).unwrap();
                    socket.local_addr().unwrap().ip()
                });
                assert_eq!(chosen, source);
            }
        });
    }

    #[test]
    fn everybody_reaches_everybody_in_the_picture() {
        in_namespaces(&path("everybody_reaches_everybody_in_the_picture"), || {
            let picture = DockerHost::new().unwrap();
            for (namespace, address) in [
                (&picture.container, IpAddr::from(DockerHost::CONTAINER)),
                (&picture.container, DockerHost::CONTAINER_V6.into()),
                (&picture.host, DockerHost::HOST.into()),
                (&picture.host, DockerHost::HOST_V6.into()),
            ] {
                let server = namespace.run(|| UdpSocket::bind((address, 0)).unwrap());
                server
                    .set_read_timeout(Some(Duration::from_secs(5)))
                    .unwrap();
                let wildcard = if address.is_ipv4() {
                    "0.0.0.0:0"
                } else {
                    "[::]:0"
                };
                let client = picture.outside.run(|| UdpSocket::bind(wildcard).unwrap());
                client
                    .send_to(b"ping", server.local_addr().unwrap())
                    .unwrap();
                let (len, _) = server.recv_from(&mut [0; 8]).unwrap();
                assert_eq!(len, 4);
            }
        });
    }

    #[test]
    fn a_refused_ruleset_is_quoted() {
        in_namespaces(&path("a_refused_ruleset_is_quoted"), || {
            let namespace = Namespace::new().unwrap();
            if in_force(
                "a_refused_ruleset_is_quoted",
                nft(&namespace, "table ip empty {}"),
            ) {
                let error = nft(&namespace, "table ip nonsense { chain").unwrap_err();
                assert!(error.to_string().contains("syntax error"), "{error}");
            }
        });
    }

    #[test]
    fn a_body_runs_or_its_absence_is_a_failure() {
        static RAN: AtomicBool = AtomicBool::new(false);
        in_namespaces(&path("a_body_runs_or_its_absence_is_a_failure"), || {
            RAN.store(true, Ordering::Relaxed);
        });
        let is_here = *netns::ability() == Ability::Direct || env::var_os(RERUN).is_some();
        assert_eq!(RAN.load(Ordering::Relaxed), is_here);
    }
}
