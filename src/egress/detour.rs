//! Another way out for replies that their socket has no room for.
//!
//! All peers of a socket share its send buffer, and what waits in the kernel stays charged to it:
//! up to three seconds in the queue of a neighbour that answers no ARP or ND
//! (net/core/neighbour.c), or behind a slow device for as long as that takes. So that such peers
//! cost others nothing, the kernel is asked for the way to a peer once there is no room: what goes
//! to a neighbour that does not resolve is dropped, anything else leaves by a socket that only
//! peers of its interface use.

use std::fmt;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use crate::clock;
use crate::datagram::Flow;
use reflector_udp::path::{Neighbour, Path};

/// Sockets of one listener and family for replies that make a detour: one for peers of which the
/// kernel knows no neighbour, and the others for one interface each, while there are so few.
pub const LANES: u8 = 4;

/// How long it is remembered what the kernel said of a peer.
const REMEMBERED: Duration = Duration::from_millis(250);
/// Peers remembered, each at the place that its address gives.
const PEERS_MAX: usize = 256;

/// Who can be asked for the way to a peer.
pub trait Paths: fmt::Debug + Send {
    /// The way to `peer`, by the interface with the index `through` if it is not 0.
    ///
    /// # Errors
    /// `ENETUNREACH` and the like where there is none; `EPERM` in a sandbox.
    fn path(&mut self, peer: SocketAddr, through: u32) -> io::Result<Path>;

    /// Whether a route leads to `peer` by the interface with the index `through`.
    ///
    /// # Errors
    /// `EPERM` in a sandbox, and the like.
    fn has_route(&mut self, peer: SocketAddr, through: u32) -> io::Result<bool>;

    /// Packets that the queues of all devices have dropped, a train once unless it was cut.
    ///
    /// # Errors
    /// `EPERM` in a sandbox, and the like.
    fn queue_drops(&mut self) -> io::Result<u64>;
}

/// The sockets of all listeners for detours, which all workers share: they are used in need only.
#[derive(Debug, Default)]
pub struct Detours {
    /// By listener: those for IPv4 peers and those for IPv6 peers, empty where there are none.
    listeners: Vec<[Vec<OwnedFd>; 2]>,
    /// Whose interface the lanes after the first are; 0 for nobody's.
    interfaces: [AtomicU32; LANES as usize - 1],
    paths: Option<Mutex<Box<dyn Paths>>>,
}

impl Detours {
    /// By listener, [`LANES`] sockets for IPv4 peers and as many for IPv6 peers, each none where
    /// it has no such peers; and who is asked for the way to a peer.
    pub fn new(listeners: Vec<[Vec<OwnedFd>; 2]>, paths: Option<Box<dyn Paths>>) -> Self {
        Self {
            listeners,
            interfaces: Default::default(),
            paths: paths.map(Mutex::new),
        }
    }

    /// Every socket.
    pub fn sockets(&self) -> impl Iterator<Item = BorrowedFd<'_>> {
        let sockets = self.listeners.iter().flatten().flatten();
        sockets.map(AsFd::as_fd)
    }

    /// By listener, those for IPv4 peers and those for IPv6 peers.
    pub fn listeners(&self) -> &[[Vec<OwnedFd>; 2]] {
        &self.listeners
    }

    /// The socket of `lane` for the replies of `flow`.
    fn socket(&self, flow: &Flow, lane: usize) -> Option<BorrowedFd<'_>> {
        let family = usize::from(flow.peer.ip().is_ipv6());
        // A worker has one socket of each listener, or several times one of each.
        let listener = flow.socket as usize % self.listeners.len().max(1);
        let lanes = &self.listeners.get(listener)?[family];
        lanes.get(lane).map(AsFd::as_fd)
    }

    fn ask(&self, flow: &Flow) -> Option<Path> {
        let paths = self.paths.as_ref()?.lock();
        let mut paths = paths.unwrap_or_else(PoisonError::into_inner);
        paths.path(flow.peer.addr(), flow.local.interface).ok()
    }

    /// Whether a route leads to `peer` by the interface with the index `through`, if that can be
    /// told.
    pub fn has_route(&self, peer: SocketAddr, through: u32) -> Option<bool> {
        let paths = self.paths.as_ref()?.lock();
        let mut paths = paths.unwrap_or_else(PoisonError::into_inner);
        paths.has_route(peer, through).ok()
    }

    /// Packets that the queues of all devices have dropped, if that can be told.
    pub fn queue_drops(&self) -> Option<u64> {
        let paths = self.paths.as_ref()?.lock();
        let mut paths = paths.unwrap_or_else(PoisonError::into_inner);
        paths.queue_drops().ok()
    }

    /// The lane of an interface: its own, or one that it shares where there are more than lanes.
    fn lane(&self, interface: u32) -> usize {
        for (lane, owner) in (1..).zip(&self.interfaces) {
            let claimed =
                owner.compare_exchange(0, interface, Ordering::Relaxed, Ordering::Relaxed);
            if claimed.is_ok() || claimed == Err(interface) {
                return lane;
            }
        }
        1 + interface as usize % self.interfaces.len()
    }
}

/// What is to become of a reply that its socket has no room for.
#[derive(Clone, Copy, Debug)]
pub enum Detour<'a> {
    /// It leaves by this socket.
    By(BorrowedFd<'a>),
    /// It would only wait for a neighbour that does not resolve.
    Unresolved,
    /// There is no other way.
    None,
}

/// What the kernel said of peers, for a while: a fixed table, of one worker.
#[derive(Debug, Default)]
pub struct Said(Vec<Option<Entry>>);

#[derive(Clone, Copy, Debug)]
struct Entry {
    peer: IpAddr,
    /// `None` where it does not resolve.
    lane: Option<usize>,
    until: Instant,
}

impl Said {
    /// What is to become of a reply of `flow`. The table is allocated with the first.
    pub fn detour<'a>(&mut self, flow: &Flow, detours: &'a Detours) -> Detour<'a> {
        let peer = flow.peer.ip();
        self.0.resize(PEERS_MAX, None);
        let entry = &mut self.0[place(peer)];
        let now = clock::monotonic();
        let lane = match entry.filter(|entry| entry.peer == peer && now < entry.until) {
            Some(known) => known.lane,
            None => {
                let (lane, is_known) = match detours.ask(flow).map(|it| (it.neighbour, it)) {
                    Some((Neighbour::Resolved, path)) => (Some(detours.lane(path.interface)), true),
                    Some((Neighbour::Unresolved, _)) => (None, true),
                    // The reply makes the kernel look for it, so the next one may be told more.
                    Some((Neighbour::Unknown, _)) | None => (Some(0), false),
                };
                let until = now + REMEMBERED;
                *entry = is_known.then_some(Entry { peer, lane, until });
                lane
            }
        };
        match lane {
            None => Detour::Unresolved,
            Some(lane) => detours.socket(flow, lane).map_or(Detour::None, Detour::By),
        }
    }
}

/// The place of a peer in the table.
fn place(peer: IpAddr) -> usize {
    // Neighbours differ in their last bits: a multiple of an odd number keeps them apart.
    let bits = match peer {
        IpAddr::V4(ip) => u64::from(ip.to_bits()),
        IpAddr::V6(ip) => (ip.to_bits() ^ (ip.to_bits() >> 64)) as u64,
    };
    (bits.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 56) as usize % PEERS_MAX
}
