//! Control messages as the kernel writes them.

use std::net::IpAddr;

use super::{Family, RECEIVED_NS, local};

/// The control buffer that a wildcard socket gets, in the kernel's order: the stamp, the segment
/// length of a train, the address asked, the hops left.
pub fn received(family: Family, segment_len: Option<u32>, hops: Option<u8>) -> Vec<u8> {
    let mut control = Vec::new();
    let stamp = [RECEIVED_NS / 1_000_000_000, RECEIVED_NS % 1_000_000_000];
    let stamp = stamp.map(u64::to_ne_bytes).concat();
    push_message(
        &mut control,
        libc::SOL_SOCKET,
        libc::SCM_TIMESTAMPNS,
        &stamp,
    );
    if let Some(len) = segment_len {
        push_message(
            &mut control,
            libc::SOL_UDP,
            libc::UDP_GRO,
            &len.to_ne_bytes(),
        );
    }
    let interface = 3u32.to_ne_bytes();
    match local(family) {
        IpAddr::V4(addr) => {
            let value = [interface, addr.octets(), addr.octets()].concat();
            push_message(&mut control, libc::SOL_IP, libc::IP_PKTINFO, &value);
        }
        IpAddr::V6(addr) => {
            let value = [&addr.octets()[..], &interface].concat();
            push_message(&mut control, libc::SOL_IPV6, libc::IPV6_PKTINFO, &value);
        }
    }
    if let Some(hops) = hops {
        let (level, kind) = match family {
            Family::V4 => (libc::SOL_IP, libc::IP_TTL),
            Family::V6 => (libc::SOL_IPV6, libc::IPV6_HOPLIMIT),
        };
        push_message(&mut control, level, kind, &i32::from(hops).to_ne_bytes());
    }
    control
}

fn push_message(control: &mut Vec<u8>, level: i32, kind: i32, value: &[u8]) {
    let len = size_of::<libc::cmsghdr>() + value.len();
    control.extend(len.to_ne_bytes());
    control.extend(level.to_ne_bytes());
    control.extend(kind.to_ne_bytes());
    control.extend(value);
    control.resize(control.len().next_multiple_of(size_of::<usize>()), 0);
}
