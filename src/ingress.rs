//! Kernel message → who sent it, to which address, when; or the reason why it cannot be answered.
//!
//! A socket bound to no particular address must learn the address asked from the control messages.
//! Where it does not, the datagram is dropped: letting the kernel choose the reply's source is the
//! mistake this program exists to avoid.

use std::net::IpAddr;
use std::ops::Range;

use crate::batch::Batch;
use crate::datagram::{
    Arrival, Attributes, DropReason, Endpoint, LocalAddr, SEGMENTS_MAX, segment_count,
};
use crate::stats::counters::Counters;
use reflector_udp::cmsg::{self, Received};
use reflector_udp::memory::Lease;
use reflector_udp::mmsg::Incoming;

/// A received buffer that cannot be answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Unanswerable {
    /// Why.
    pub reason: DropReason,
    /// Bytes of each of its datagrams, as far as the kernel told.
    pub segment_len: u32,
}

/// Fills in what arrived at `endpoint` with `payload_len` bytes, but for the socket's index.
///
/// In place, where it is going to stay: written in small pieces, it would be copied in large ones
/// before the processor has put them together.
///
/// # Errors
/// The first of `Truncated`, `TooLong`, `NoPktinfo`, `NotUnicast` that applies; then `arrival` is
/// of no use.
pub fn arrival(
    endpoint: &Endpoint,
    incoming: &Incoming<'_>,
    payload_len: usize,
    arrival: &mut Arrival,
) -> Result<(), Unanswerable> {
    let local = &mut arrival.flow.local;
    let mut is_unicast = None;
    let mut segment_len = payload_len as u32;
    arrival.received_ns = None;
    arrival.attributes = Attributes::NONE;
    for message in cmsg::received(incoming.control) {
        match message {
            Received::Timestamp(ns) => arrival.received_ns = Some(ns),
            Received::SegmentLen(len) => segment_len = len.min(payload_len as u32),
            Received::HopLimit(hops) => {
                arrival.attributes = arrival.attributes.with_hop_limit(hops);
            }
            Received::Tos(tos) => arrival.attributes = arrival.attributes.with_tos(tos),
            // A dual-stack socket gets both for an IPv4 datagram, this one last and only this one
            // with the specific destination, so it wins.
            Received::Pktinfo {
                destination,
                specific,
                interface,
            } => {
                is_unicast = Some(destination == specific);
                *local = LocalAddr {
                    addr: IpAddr::V4(specific),
                    interface,
                };
            }
            Received::Pktinfo6 {
                destination,
                interface,
            } => {
                is_unicast = Some(!destination.is_multicast());
                *local = LocalAddr {
                    addr: destination.to_canonical(),
                    interface,
                };
            }
        }
    }
    let unanswerable = |reason| Unanswerable {
        reason,
        segment_len,
    };
    if incoming.flags & (libc::MSG_TRUNC | libc::MSG_CTRUNC) != 0 {
        return Err(unanswerable(DropReason::Truncated));
    }
    // No kernel makes longer ones; room for them is not counted on.
    if segment_count(payload_len, segment_len) > SEGMENTS_MAX as u64 {
        return Err(unanswerable(DropReason::TooLong));
    }
    if !arrival.flow.peer.set_received(incoming.name) {
        return Err(unanswerable(DropReason::Truncated));
    }
    check_local(endpoint, local, is_unicast).map_err(unanswerable)?;
    arrival.segment_len = segment_len;
    Ok(())
}

/// Makes `local` the source of the reply: the address that the kernel told, where it is one and was
/// asked for alone, or the only one that it can be.
fn check_local(
    endpoint: &Endpoint,
    local: &mut LocalAddr,
    is_unicast: Option<bool>,
) -> Result<(), DropReason> {
    if !endpoint.has_pktinfo {
        *local = LocalAddr {
            addr: endpoint.addr.ip(),
            interface: 0,
        };
        return Ok(());
    }
    match is_unicast {
        None => return Err(DropReason::NoPktinfo),
        Some(_) if local.addr.is_unspecified() => return Err(DropReason::NoPktinfo),
        Some(false) => return Err(DropReason::NotUnicast),
        Some(true) => {}
    }
    // A link-local source is an address only together with its interface; any other source leaves
    // the way to the routing table, which an interface index would bypass.
    let is_link_local = matches!(local.addr, IpAddr::V6(v6) if v6.is_unicast_link_local());
    if !is_link_local && !endpoint.same_interface {
        local.interface = 0;
    }
    Ok(())
}

/// Counts a received buffer whose arrival is written into `batch`, by the `counters` of its
/// `socket`, and leaves it there; or gives it back with the reason counted.
#[inline]
pub fn admit(
    lease: Lease,
    window: Range<u32>,
    socket: usize,
    arrived: Result<(), Unanswerable>,
    batch: &mut Batch,
    counters: &mut Counters,
) -> Option<Lease> {
    let payload_len = window.len();
    match arrived {
        Ok(()) => {
            let count = batch.push(lease, window, socket).count();
            counters.receive(count, payload_len);
            None
        }
        Err(unanswerable) => {
            let count = segment_count(payload_len, unanswerable.segment_len);
            counters.receive(count, payload_len);
            counters.drop(unanswerable.reason, count);
            Some(lease)
        }
    }
}

#[cfg(test)]
mod tests {
    use std::net::SocketAddr;

    use super::*;
    use reflector_udp::addr::PeerAddr;
    use reflector_udp::cmsg::Control;

    fn endpoint(addr: &str) -> Endpoint {
        let addr: SocketAddr = addr.parse().unwrap();
        Endpoint {
            addr,
            has_pktinfo: addr.ip().is_unspecified(),
            same_interface: false,
        }
    }

    fn arrive(at: &Endpoint, control: &[u8], flags: i32) -> Result<Arrival, DropReason> {
        let name = PeerAddr::new("192.0.2.9:4000".parse().unwrap());
        let incoming = Incoming {
            name: name.as_bytes(),
            control,
            flags,
        };
        let mut arrived = Arrival::EMPTY;
        match arrival(at, &incoming, 4, &mut arrived) {
            Ok(()) => Ok(arrived),
            Err(unanswerable) => Err(unanswerable.reason),
        }
    }

    fn pktinfo(specific: [u8; 4], destination: [u8; 4]) -> Vec<u8> {
        let mut control = Control::EMPTY;
        control.push_source(IpAddr::from(specific), 3);
        let mut bytes = control.as_bytes().to_vec();
        bytes[24..28].copy_from_slice(&destination);
        bytes
    }

    #[test]
    fn a_wildcard_socket_without_pktinfo_is_silent() {
        assert_eq!(
            arrive(&endpoint("0.0.0.0:7"), &[], 0),
            Err(DropReason::NoPktinfo)
        );
        let zero = pktinfo([0; 4], [0; 4]);
        assert_eq!(
            arrive(&endpoint("0.0.0.0:7"), &zero, 0),
            Err(DropReason::NoPktinfo)
        );
    }

    #[test]
    fn a_bound_socket_needs_none() {
        let local = arrive(&endpoint("192.0.2.1:7"), &[], 0).unwrap().flow.local;
        assert_eq!(
            local,
            LocalAddr {
                addr: "192.0.2.1".parse().unwrap(),
                interface: 0
            }
        );
    }

    #[test]
    fn unicast_is_answered_from_the_address_asked_by_the_routing_table() {
        let control = pktinfo([192, 0, 2, 1], [192, 0, 2, 1]);
        let local = arrive(&endpoint("0.0.0.0:7"), &control, 0)
            .unwrap()
            .flow
            .local;
        assert_eq!(
            local,
            LocalAddr {
                addr: "192.0.2.1".parse().unwrap(),
                interface: 0
            }
        );
        let same = Endpoint {
            same_interface: true,
            ..endpoint("0.0.0.0:7")
        };
        assert_eq!(arrive(&same, &control, 0).unwrap().flow.local.interface, 3);
    }

    #[test]
    fn broadcast_and_multicast_are_not() {
        let control = pktinfo([172, 17, 0, 1], [172, 17, 255, 255]);
        assert_eq!(
            arrive(&endpoint("0.0.0.0:7"), &control, 0),
            Err(DropReason::NotUnicast)
        );
        let mut group = Control::EMPTY;
        group.push_source("ff02::1".parse().unwrap(), 3);
        assert_eq!(
            arrive(&endpoint("[::]:7"), group.as_bytes(), 0),
            Err(DropReason::NotUnicast)
        );
    }

    #[test]
    fn only_a_link_local_source_keeps_its_interface() {
        for (addr, interface) in [("fe80::1", 3), ("2001:db8::1", 0), ("fd17::1", 0)] {
            let mut control = Control::EMPTY;
            control.push_source(addr.parse().unwrap(), 3);
            let local = arrive(&endpoint("[::]:7"), control.as_bytes(), 0)
                .unwrap()
                .flow
                .local;
            assert_eq!(local.interface, interface, "{addr}");
        }
    }

    #[test]
    fn a_train_longer_than_any_kernel_makes_is_not_answered() {
        let name = PeerAddr::new("192.0.2.9:4000".parse().unwrap());
        let train_len = b"abcd".len();
        for (segments, is_answered) in [(SEGMENTS_MAX, true), (SEGMENTS_MAX + 1, false)] {
            let mut control = Vec::new();
            control.extend(20usize.to_ne_bytes());
            control.extend(libc::SOL_UDP.to_ne_bytes());
            control.extend(libc::UDP_GRO.to_ne_bytes());
            control.extend((train_len as i32).to_ne_bytes());
            control.resize(24, 0);
            let incoming = Incoming {
                name: name.as_bytes(),
                control: &control,
                flags: 0,
            };
            let arrived = arrival(
                &endpoint("192.0.2.1:7"),
                &incoming,
                segments * train_len,
                &mut Arrival::EMPTY.clone(),
            );
            assert_eq!(arrived.is_ok(), is_answered, "{arrived:?}");
        }
    }

    #[test]
    fn truncation_comes_before_everything() {
        for flag in [libc::MSG_TRUNC, libc::MSG_CTRUNC] {
            assert_eq!(
                arrive(&endpoint("0.0.0.0:7"), &[], flag),
                Err(DropReason::Truncated)
            );
        }
    }
}
