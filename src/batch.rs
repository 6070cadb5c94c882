//! What one `receive` brought: slots, each one buffer with what is known of it and its answer.

use std::collections::VecDeque;

use crate::datagram::{Arrival, DropReason, SEGMENTS_MAX, Verdict, segment_count};
use crate::sys::memory::Lease;

/// One received buffer: a datagram, or a train of them.
#[derive(Debug)]
pub struct Slot {
    /// The buffer; its window is the payload.
    pub lease: Lease,
    /// Index of the socket it came from, and leaves by.
    pub socket: u32,
    /// Who, to which address, when.
    pub arrival: Arrival,
    /// What becomes of it.
    pub answer: Answer,
}

impl Slot {
    /// Number of datagrams in it.
    pub fn count(&self) -> u64 {
        segment_count(self.lease.len(), self.arrival.segment_len)
    }
}

/// What becomes of a slot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Answer {
    /// All of it goes back, train or not.
    Whole,
    /// Silence for all of it.
    Drop(DropReason),
    /// One verdict for each segment, in [`Batch::verdicts`] from this index on.
    Each(u32),
}

// Slots are moved about; what is longer is moved by a call.
const _: () = assert!(size_of::<Slot>() <= 128);

/// The slots between a `receive` and its `transmit`.
#[derive(Debug)]
pub struct Batch {
    slots: VecDeque<Slot>,
    verdicts: Vec<Verdict>,
}

impl Batch {
    /// A batch with room for `slots_max` slots, allocated now.
    pub fn new(slots_max: usize) -> Self {
        Self {
            slots: VecDeque::with_capacity(slots_max),
            verdicts: Vec::with_capacity(slots_max * SEGMENTS_MAX),
        }
    }

    /// Whether there is no slot.
    pub fn is_empty(&self) -> bool {
        self.slots.is_empty()
    }

    /// Number of slots.
    pub fn len(&self) -> usize {
        self.slots.len()
    }

    /// Appends a slot, to be answered whole until somebody decides otherwise.
    pub fn push(&mut self, lease: Lease, socket: usize, arrival: Arrival) {
        debug_assert!(
            self.slots.len() < self.slots.capacity(),
            "a slot for each buffer"
        );
        self.slots.push_back(Slot {
            lease,
            socket: socket as u32,
            arrival,
            answer: Answer::Whole,
        });
    }

    /// The slots in the order of arrival, and where their segments' verdicts go.
    pub fn parts_mut(&mut self) -> (impl Iterator<Item = &mut Slot>, &mut Vec<Verdict>) {
        self.verdicts.clear();
        (self.slots.iter_mut(), &mut self.verdicts)
    }

    /// The first slot, taken out.
    pub fn pop(&mut self) -> Option<Slot> {
        self.slots.pop_front()
    }

    /// The verdicts of a slot's `count` segments.
    pub fn verdicts(&self, first: u32, count: u64) -> &[Verdict] {
        &self.verdicts[first as usize..][..count as usize]
    }
}
