//! What one `receive` brought: slots, each one buffer with what is known of it and its answer.

use std::ops::Range;

use crate::datagram::{Arrival, Attributes, DropReason, SEGMENTS_MAX, Verdict, segment_count};
use reflector_udp::memory::Lease;

/// What is known of one received buffer: of a datagram, or a train of them.
#[derive(Clone, Copy, Debug)]
pub struct Slot {
    /// From where, to where, when.
    pub arrival: Arrival,
    /// Payload bytes.
    pub len: u32,
    /// What becomes of it.
    pub answer: Answer,
    /// How its replies leave.
    pub attributes: Attributes,
}

impl Slot {
    const EMPTY: Self = Self {
        arrival: Arrival::EMPTY,
        len: 0,
        answer: Answer::Whole,
        attributes: Attributes::NONE,
    };

    /// Number of datagrams in it.
    #[inline]
    pub fn count(&self) -> u64 {
        segment_count(self.len as usize, self.arrival.segment_len)
    }
}

/// What becomes of a slot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Answer {
    /// All of it goes back, train or not.
    Whole,
    /// Silence for all of it.
    Drop(DropReason),
    /// One verdict for each segment, among the batch's from this index on.
    Each(u32),
}

/// The slots between a `receive` and its `transmit`, and their buffers.
///
/// Slots stay where they are: filled in, decided and read in place. The buffers change hands all
/// at once.
#[derive(Debug)]
pub struct Batch {
    slots: Vec<Slot>,
    /// Slots that have been taken.
    taken: usize,
    /// Slots that were filled, the taken among them.
    filled: usize,
    /// The buffer of each filled slot, until they are handed on; the window is the payload.
    leases: Vec<Lease>,
    verdicts: Vec<Verdict>,
}

impl Batch {
    /// A batch with room for `slots_max` slots, allocated now.
    pub fn new(slots_max: usize) -> Self {
        Self {
            slots: vec![Slot::EMPTY; slots_max],
            taken: 0,
            filled: 0,
            leases: Vec::with_capacity(slots_max),
            verdicts: Vec::with_capacity(slots_max * SEGMENTS_MAX),
        }
    }

    /// Whether every slot has been taken.
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.taken == self.filled
    }

    /// Number of slots that have not been taken.
    #[inline]
    pub fn len(&self) -> usize {
        self.filled - self.taken
    }

    /// Datagrams in the slots that have not been taken.
    pub fn in_flight(&self) -> u64 {
        let slots = &self.slots[self.taken..self.filled];
        slots.iter().map(Slot::count).sum()
    }

    /// Where the next arrival is to be written; it counts from [`push`](Self::push) on.
    ///
    /// # Panics
    /// If every slot is filled: there is one for each buffer.
    #[inline]
    pub fn spare(&mut self) -> &mut Arrival {
        if self.is_empty() {
            (self.taken, self.filled) = (0, 0);
        }
        &mut self.slots[self.filled].arrival
    }

    /// Fills the slot whose arrival was written last with its buffer, of which `window` is the
    /// payload, to be answered whole until somebody decides otherwise.
    ///
    /// # Panics
    /// If every slot is filled.
    #[inline]
    pub fn push(&mut self, lease: Lease, window: Range<u32>, socket: usize) -> &Slot {
        let slot = &mut self.slots[self.filled];
        self.filled += 1;
        slot.arrival.flow.socket = socket as u32;
        slot.len = window.len() as u32;
        slot.answer = Answer::Whole;
        slot.attributes = Attributes::NONE;
        self.leases.push(lease);
        if let Some(lease) = self.leases.last_mut() {
            lease.set_window(window);
        }
        slot
    }

    /// The slots in the order of arrival with their buffers, and where their segments' verdicts go.
    #[inline]
    pub fn parts_mut(
        &mut self,
    ) -> (
        impl Iterator<Item = (&mut Slot, &mut Lease)>,
        &mut Vec<Verdict>,
    ) {
        self.verdicts.clear();
        let slots = self.slots[..self.filled].iter_mut();
        (slots.zip(&mut self.leases), &mut self.verdicts)
    }

    /// What has been decided of the slots, in the order of arrival, each with its buffer.
    #[cfg(test)]
    pub fn decided(&self) -> (impl Iterator<Item = (&Slot, &Lease)>, &[Verdict]) {
        let slots = self.slots[self.taken..self.filled].iter();
        let leases = self.leases.get(self.taken..).unwrap_or_default();
        (slots.zip(leases), &self.verdicts)
    }

    /// The buffers, each at the index of its slot, to be handed on before a slot is taken.
    #[inline]
    pub fn leases_mut(&mut self) -> &mut Vec<Lease> {
        &mut self.leases
    }

    /// The first slot that has not been taken, with its index and the batch's verdicts.
    #[inline]
    pub fn take(&mut self) -> Option<(usize, &Slot, &[Verdict])> {
        let index = self.taken;
        let slot = self.slots[..self.filled].get(index)?;
        self.taken += 1;
        Some((index, slot, &self.verdicts))
    }
}
