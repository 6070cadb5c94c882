//! Whole packets by the thousand: what an attacker sends who need not be answered.

use std::io::ErrorKind;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::os::fd::AsFd;
use std::thread;

use reflector_netlab::topology::Namespace;
use reflector_udp::addr::PeerAddr;
use reflector_udp::memory::Lease;
use reflector_udp::mmsg::{Outbox, Piece};
use socket2::Socket;

use crate::raw::raw_socket;

/// Packets of a volley, which one call of sendmmsg(2) takes.
pub const VOLLEY: usize = 512;

/// Sends packets of the caller's making, headers included, in volleys.
pub struct Volleys {
    raw: Socket,
    to: PeerAddr,
    leases: Vec<Lease>,
    outbox: Outbox,
    lens: Vec<u32>,
}

impl Volleys {
    /// From `namespace` to `ip`; a volley is `packets` in turn. What is in no header, such as the
    /// checksum of an IPv4 header, the kernel fills in.
    pub fn new(namespace: &Namespace, ip: IpAddr, packets: &[Vec<u8>]) -> Self {
        let longest = packets.iter().map(Vec::len).max().expect("a packet");
        let capacity = longest.next_multiple_of(64);
        let mut leases = Lease::carve(VOLLEY as u16, capacity as u32, capacity).expect("memory");
        for (lease, packet) in leases.iter_mut().zip(packets.iter().cycle()) {
            lease.set_window(0..packet.len() as u32);
            lease.copy_from_slice(packet);
        }
        let (raw, _) = raw_socket(namespace, ip);
        raw.set_send_buffer_size(1 << 20).expect("some buffer");
        raw.set_broadcast(true).expect("every kernel has it");
        Self {
            raw,
            to: PeerAddr::new(SocketAddr::new(ip, 0)),
            lens: leases.iter().map(|lease| lease.len() as u32).collect(),
            leases,
            outbox: Outbox::new(VOLLEY, VOLLEY, VOLLEY),
        }
    }

    /// From now on each packet, which is one of IPv4, is as if the next of `sources` had sent it.
    /// Its UDP checksum has to be 0, for none.
    pub fn forge(&mut self, mut sources: impl FnMut() -> Ipv4Addr) {
        for lease in &mut self.leases {
            lease[12..16].copy_from_slice(&sources().octets());
        }
    }

    /// Sends a volley.
    pub fn send(&mut self) {
        self.outbox.adopt_all(&mut self.leases);
        for (lease, &len) in (0..).zip(&self.lens) {
            let piece = Piece {
                lease,
                start: 0,
                len,
            };
            let (name, _) = self.outbox.push([piece].into_iter());
            *name = self.to;
        }
        self.outbox.seal();
        let mut sent = 0;
        while sent < VOLLEY {
            match self.outbox.send(self.raw.as_fd(), sent..VOLLEY) {
                Ok(count) => sent += count,
                Err(error) if error.kind() == ErrorKind::WouldBlock => thread::yield_now(),
                Err(error) => panic!("cannot send packet {sent}: {error}"),
            }
        }
        self.outbox.clear();
        while let Some(lease) = self.outbox.release() {
            self.leases.push(lease);
        }
        // They come back in any order.
        self.leases.sort_by_key(Lease::id);
    }
}
