//! What a receive brought, on its way into the batch.

use std::collections::VecDeque;

use super::buffers;
use super::ring::Ring;
use crate::batch::Batch;
use crate::datagram::Endpoint;
use crate::ingress;
use crate::stats::Stats;

/// A buffer that a receive has filled.
#[derive(Clone, Copy)]
pub struct Arrived {
    /// Which.
    pub id: u16,
    /// Of which socket.
    pub socket: u16,
    /// Bytes used.
    pub len: u32,
}

/// Moves all that has `arrived` at `endpoints` into `batch`, in the order of arrival. Gives the
/// buffers of what cannot be answered back to `ring`, and says how many.
pub fn take_all(
    arrived: &mut VecDeque<Arrived>,
    ring: &mut impl Ring,
    endpoints: &[Endpoint],
    batch: &mut Batch,
    stats: &mut Stats,
) -> usize {
    let mut refused = 0;
    while let Some(Arrived { id, socket, len }) = arrived.pop_front() {
        let lease = ring.take(id);
        let (incoming, window) = buffers::parse(&lease, len);
        let socket = usize::from(socket);
        let endpoint = &endpoints[socket];
        let arrival = ingress::arrival(endpoint, &incoming, window.len(), batch.spare());
        let counters = stats.of(socket);
        if let Some(lease) = ingress::admit(lease, window, socket, arrival, batch, counters) {
            ring.recycle(lease);
            refused += 1;
        }
    }
    if refused > 0 {
        ring.commit();
    }
    refused
}
