//! Control messages and names, as the kernel writes them and as nothing writes them, up to who
//! asked at which address (`ingress`).

#![no_main]

use std::net::SocketAddr;

use libfuzzer_sys::fuzz_target;
use reflector::internals::datagram::{Arrival, Endpoint, SEGMENTS_MAX};
use reflector::internals::ingress;
use reflector_udp::addr::{self, SOCKADDR_IN6_LEN};
use reflector_udp::cmsg;
use reflector_udp::mmsg::Incoming;

fuzz_target!(|data: &[u8]| {
    let Some((&[choice, flags, a, b], rest)) = data.split_first_chunk() else {
        return;
    };
    let (name, control) = rest.split_at(rest.len().min(SOCKADDR_IN6_LEN));
    let _ = addr::parse_sockaddr(name);
    assert!(cmsg::received(control).count() <= control.len() / 16);
    let wildcard: SocketAddr = match choice & 1 {
        0 => "0.0.0.0:9007".parse().unwrap(),
        _ => "[::]:9007".parse().unwrap(),
    };
    let endpoint = Endpoint {
        addr: wildcard,
        has_pktinfo: choice & 2 == 0,
        same_interface: choice & 4 != 0,
    };
    let incoming = Incoming {
        name,
        control,
        flags: i32::from(flags),
    };
    let payload_len = usize::from(u16::from_le_bytes([a, b]));
    let mut arrival = Arrival::EMPTY;
    if ingress::arrival(&endpoint, &incoming, payload_len, &mut arrival).is_ok() {
        // What a reply rests on.
        assert!(!endpoint.has_pktinfo || !arrival.flow.local.addr.is_unspecified());
        assert!(arrival.segment_len as usize <= payload_len);
        let segments = payload_len.div_ceil(arrival.segment_len.max(1) as usize);
        assert!(segments <= SEGMENTS_MAX);
    }
});
