//! What a socket would answer to a frame: the guard and an echo, behind the checks of the kernel's
//! receive path. Written without a look at what it judges.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use reflector::internals::datagram::{Arrival, Attributes};
use reflector::internals::guard::Guard;
use reflector::ipnet::{IpNet, Ipv4Net};
use reflector_accelerate::Local;
use reflector_udp::addr::PeerAddr;

/// A host with a socket for each of its listeners.
pub struct Host {
    pub guard: Guard,
    pub has_loop_guard: bool,
    pub listeners: Vec<SocketAddr>,
    pub own: Vec<Local>,
    pub networks: Vec<Ipv4Net>,
    /// What frames come by: its number, its own MAC, another that it takes frames for.
    pub ifindex: u32,
    pub other: Option<[u8; 6]>,
    pub is_loopback: bool,
    /// Each with the devices by which it leads.
    pub routes: Vec<(IpNet, Vec<u32>)>,
    pub tos: u8,
}

/// A datagram in a frame.
struct Datagram<'a> {
    source: SocketAddr,
    target: SocketAddr,
    hops: u8,
    payload: &'a [u8],
}

/// The default of replies.
const HOPS: u8 = 64;

impl Host {
    /// The reply to a frame, where it is one that the program has to answer: an option, an
    /// extension or a tag is the sockets' business.
    ///
    /// What is not looked at is the sum of UDP: the kernel may not have computed it yet.
    pub fn reply(&self, frame: &[u8], segment_len: u32) -> Option<Vec<u8>> {
        let (target_mac, source_mac) = (&frame[..6], &frame[6..12]);
        let is_own = target_mac == [0; 6] || self.other.is_some_and(|it| target_mac == it);
        if !is_own || source_mac[0] & 1 == 1 {
            return None;
        }
        let packet = &frame[14..];
        match u16::from_be_bytes([frame[12], frame[13]]) {
            0x0800 => {
                let datagram = datagram4(packet)?;
                let hops = self.answer(&datagram, segment_len)?;
                Some(ethernet(frame, reply4(packet, &datagram, hops, self.tos)))
            }
            0x86dd => {
                let datagram = datagram6(packet)?;
                let hops = self.answer(&datagram, segment_len)?;
                Some(ethernet(frame, reply6(packet, &datagram, hops, self.tos)))
            }
            _ => None,
        }
    }

    /// The hop limit of the reply, if there is one.
    fn answer(&self, datagram: &Datagram<'_>, segment_len: u32) -> Option<u8> {
        let (payload_len, segment_len) = (datagram.payload.len(), segment_len as usize);
        if segment_len > 0 && payload_len > 128 * segment_len {
            return None;
        }
        if !self.is_heard(datagram.target) || !self.can_come(datagram.source.ip()) {
            return None;
        }
        let mut arrival = Arrival::EMPTY;
        arrival.flow.peer = PeerAddr::new(datagram.source);
        arrival.attributes = Attributes::NONE.with_hop_limit(datagram.hops);
        self.guard.admit(&arrival).ok()?;
        let left = self.guard.limit(&arrival, Attributes::NONE).hop_limit();
        Some(if self.has_loop_guard { left? } else { HOPS })
    }

    /// Whether a socket listens there.
    fn is_heard(&self, target: SocketAddr) -> bool {
        let ip = target.ip();
        // An address that means something on one interface only is asked by that one.
        let is_scoped = match ip {
            IpAddr::V4(ip) => ip.is_loopback(),
            IpAddr::V6(ip) => ip.is_loopback() || ip.is_unicast_link_local(),
        };
        let is_local = |it: &Local| it.addr == ip && (!is_scoped || it.ifindex == self.ifindex);
        let listens = |it: &SocketAddr| {
            let is_it = it.ip() == ip || it.ip().is_unspecified() && it.is_ipv4() == ip.is_ipv4();
            is_it && it.port() == target.port()
        };
        self.own.iter().any(is_local) && self.listeners.iter().any(listens)
    }

    /// Whether the kernel takes such a source from this device.
    fn can_come(&self, source: IpAddr) -> bool {
        if let IpAddr::V6(ip) = source
            && ip.to_ipv4_mapped().is_some()
        {
            return false;
        }
        let is_broadcast = |it: &Ipv4Net| IpAddr::V4(it.broadcast()) == source;
        if self.networks.iter().any(is_broadcast) {
            return false;
        }
        let is_own = source.is_loopback() || self.own.iter().any(|it| it.addr == source);
        if is_own {
            return self.is_loopback;
        }
        // A reply has to find a way, and by the device of the request.
        let around = self.routes.iter().filter(|(net, _)| net.contains(&source));
        let longest = around.max_by_key(|(net, _)| net.prefix_len());
        longest.is_some_and(|(_, devices)| devices.contains(&self.ifindex))
    }
}

fn datagram4(packet: &[u8]) -> Option<Datagram<'_>> {
    let header = packet.get(..20)?;
    let fragment = u16::from_be_bytes([header[6], header[7]]);
    if header[0] != 0x45 || header[9] != 17 || fragment & 0xbfff != 0 || sum(header) != 0xffff {
        return None;
    }
    let total = usize::from(u16::from_be_bytes([header[2], header[3]]));
    let address = |at: usize| {
        let bytes: [u8; 4] = header[at..at + 4].try_into().unwrap();
        IpAddr::V4(Ipv4Addr::from(bytes))
    };
    udp(packet.get(20..total)?, address(12), address(16), header[8])
}

fn datagram6(packet: &[u8]) -> Option<Datagram<'_>> {
    let header = packet.get(..40)?;
    if header[0] >> 4 != 6 || header[6] != 17 {
        return None;
    }
    let len = usize::from(u16::from_be_bytes([header[4], header[5]]));
    let address = |at: usize| {
        let bytes: [u8; 16] = header[at..at + 16].try_into().unwrap();
        IpAddr::V6(Ipv6Addr::from(bytes))
    };
    let segment = packet.get(40..40 + len)?;
    if segment.get(6..8)? == [0, 0] {
        return None;
    }
    udp(segment, address(8), address(24), header[7])
}

fn udp(segment: &[u8], source: IpAddr, target: IpAddr, hops: u8) -> Option<Datagram<'_>> {
    let header = segment.get(..8)?;
    let number = |at: usize| u16::from_be_bytes([header[at], header[at + 1]]);
    // A socket would answer a shorter datagram with what is behind it left out.
    if usize::from(number(4)) != segment.len() {
        return None;
    }
    Some(Datagram {
        source: SocketAddr::new(source, number(0)),
        target: SocketAddr::new(target, number(2)),
        hops,
        payload: &segment[8..],
    })
}

fn ethernet(frame: &[u8], packet: Vec<u8>) -> Vec<u8> {
    [&frame[6..12], &frame[..6], &frame[12..14], &packet].concat()
}

fn reply4(packet: &[u8], datagram: &Datagram<'_>, hops: u8, tos: u8) -> Vec<u8> {
    let mut header = packet[..20].to_vec();
    header[1] = tos;
    header[8] = hops;
    header[10..12].fill(0);
    header[12..16].copy_from_slice(&packet[16..20]);
    header[16..20].copy_from_slice(&packet[12..16]);
    let check = !sum(&header);
    header[10..12].copy_from_slice(&check.to_be_bytes());
    [header, reply_udp(&packet[20..], datagram)].concat()
}

fn reply6(packet: &[u8], datagram: &Datagram<'_>, hops: u8, tos: u8) -> Vec<u8> {
    let mut header = packet[..40].to_vec();
    // No flow label.
    header[..4].copy_from_slice(&(6 << 28 | u32::from(tos) << 20).to_be_bytes());
    header[7] = hops;
    header[8..24].copy_from_slice(&packet[24..40]);
    header[24..40].copy_from_slice(&packet[8..24]);
    [header, reply_udp(&packet[40..], datagram)].concat()
}

fn reply_udp(segment: &[u8], datagram: &Datagram<'_>) -> Vec<u8> {
    [
        &segment[2..4],
        &segment[..2],
        &segment[4..8],
        datagram.payload,
    ]
    .concat()
}

/// The sum of a header (RFC 1071).
pub fn sum(bytes: &[u8]) -> u16 {
    let words = bytes.chunks(2);
    let words = words.map(|it| u32::from(it[0]) << 8 | it.get(1).map_or(0, |low| u32::from(*low)));
    let mut sum: u32 = words.sum();
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    sum as u16
}
