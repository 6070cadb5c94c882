//! To whom a reply goes, and from which address. The one place that writes a source address.

use std::net::IpAddr;

use super::trains::Train;
use crate::datagram::{Attributes, Flow, LocalAddr};
use reflector_udp::addr::PeerAddr;
use reflector_udp::cmsg::Control;

/// To whom, and from which address: the source of every reply is written here, but where it is that
/// of the socket, which is bound to it.
///
/// Always inlined: made for each message, and a call of it costs 37 instructions.
#[inline(always)]
pub fn address(
    names_source: bool,
    train: &Train,
    name: &mut PeerAddr,
    control: &mut Control,
    is_stamped: bool,
) {
    let Flow { peer, local, .. } = &train.flow;
    *name = *peer;
    if names_source {
        let LocalAddr { addr, interface } = *local;
        control.push_source(addr, interface);
    }
    if train.attributes != Attributes::NONE {
        push_attributes(train.attributes, peer.ip(), control);
    }
    if is_stamped {
        control.push_stamp();
    }
    // A single datagram goes without, since with it the control messages outgrow the kernel's
    // stack buffer.
    if train.count > 1 {
        control.push_segment_len(train.segment_len() as u16);
    }
}

fn push_attributes(attributes: Attributes, peer: IpAddr, control: &mut Control) {
    if let Some(hop_limit) = attributes.hop_limit() {
        control.push_hop_limit(peer, hop_limit);
    }
    if let Some(tos) = attributes.tos() {
        control.push_tos(peer, tos);
    }
}
