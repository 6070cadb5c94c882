//! What the kernel tells of a received buffer, as a response.

use reflector_measure::clock::Timeline;
use reflector_udp::addr::parse_sockaddr;
use reflector_udp::cmsg::{self, Received};
use reflector_udp::mmsg::Incoming;

use crate::classify::Response;

/// The `payload` that came to a flow, with what the kernel tells of it; its stamp is corrected by
/// what the clock was set by, `step_ns`.
#[inline]
pub(crate) fn response<'a>(
    flow: u32,
    payload: &'a [u8],
    incoming: &Incoming<'_>,
    step_ns: i64,
    timeline: &Timeline,
) -> Response<'a> {
    let mut segment_len = payload.len();
    let mut stamp_ns = None;
    for message in cmsg::received(incoming.control) {
        match message {
            Received::SegmentLen(len) => segment_len = len as usize,
            Received::Timestamp(ns) => stamp_ns = Some(ns.wrapping_add_signed(-step_ns)),
            _ => {}
        }
    }
    Response {
        flow,
        source: parse_sockaddr(incoming.name),
        received_ns: stamp_ns.unwrap_or_else(|| timeline.now_ns()),
        payload,
        segment_len,
    }
}
