//! Counting an arrival and putting it into the batch, whose buffers come back at the end.

use std::hint::black_box;

use reflector::internals::batch::Batch;
use reflector::internals::ingress;
use reflector::internals::stats::Stats;
use reflector_udp::memory::Lease;

use super::{CAPACITY, Run, SLOTS, STRIDE};

/// Of two sockets, one after the other, as a worker receives by default.
pub fn admit(segments: u32, segment_len: u32) -> Run {
    let mut batch = Batch::new(usize::from(SLOTS));
    let mut stats = Stats::new(2);
    let mut owned = Lease::carve(SLOTS, CAPACITY, STRIDE).expect("memory");
    Box::new(move || {
        for (lease, index) in owned.drain(..).zip(0..) {
            batch.spare().segment_len = segment_len;
            let window = 0..black_box(segments * segment_len);
            let socket = black_box(index / usize::from(SLOTS / 2));
            let counters = stats.of(socket);
            let back = ingress::admit(lease, window, socket, Ok(()), &mut batch, counters);
            assert!(back.is_none(), "it is answerable");
        }
        owned.append(batch.leases_mut());
        while batch.take().is_some() {}
    })
}
