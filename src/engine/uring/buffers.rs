//! The provided-buffer ring (io_uring_register_buf_ring(3)), and what a multishot receive leaves
//! in a buffer (io_uring_prep_recvmsg_multishot(3)).

use std::io;
use std::ops::Range;
use std::sync::atomic::{AtomicU16, Ordering};

use io_uring::types::BufRingEntry;

use reflector_udp::RECEIVE_MAX;
use reflector_udp::addr::SOCKADDR_IN6_LEN;
use reflector_udp::cmsg::RECEIVE_CONTROL_LEN;
use reflector_udp::memory::{Lease, Region};
use reflector_udp::mmsg::Incoming;

/// Bytes of `struct io_uring_recvmsg_out`: name, control and payload length, flags.
const OUT_LEN: usize = 4 * size_of::<u32>();
/// Room for the name, rounded up so that the control messages behind it are aligned.
pub const NAME_LEN: usize = SOCKADDR_IN6_LEN.next_multiple_of(8);
/// Room for the control messages.
pub const CONTROL_LEN: usize = RECEIVE_CONTROL_LEN;
/// Where the payload starts, in every buffer.
const HEADER_LEN: usize = OUT_LEN + NAME_LEN + CONTROL_LEN;
const CAPACITY: usize = HEADER_LEN + RECEIVE_MAX as usize;

/// The distance between buffers: their room and an odd number of cache lines, so that their
/// headers do not all compete for the same cache sets.
pub const STRIDE: usize = (CAPACITY.div_ceil(64) | 1) * 64;

/// Buffers for multishot receives.
///
/// # Errors
/// `ENOMEM` (mmap(2)).
pub fn carve(count: u16) -> io::Result<Vec<Lease>> {
    Lease::carve(count, CAPACITY as u32, STRIDE)
}

/// What the kernel wrote into a buffer of which `len` bytes are used: names, control messages,
/// flags; and where the payload is.
///
/// Every length comes from the kernel and is bounded by `len` and by the room that was asked for
/// all the same. A buffer that is not even a header long reads as an empty, truncated datagram.
pub fn parse(lease: &Lease, len: u32) -> (Incoming<'_>, Range<u32>) {
    let buffer = &lease.buffer()[..(len as usize).min(CAPACITY)];
    let Some((header, payload)) = buffer.split_at_checked(HEADER_LEN) else {
        return (
            Incoming {
                name: &[],
                control: &[],
                flags: libc::MSG_TRUNC,
            },
            0..0,
        );
    };
    let field = |index: usize| {
        let bytes = &header[index * size_of::<u32>()..][..size_of::<u32>()];
        u32::from_ne_bytes(bytes.try_into().expect("four bytes"))
    };
    let (name_room, control_room) = header[OUT_LEN..].split_at(NAME_LEN);
    let incoming = Incoming {
        name: &name_room[..(field(0) as usize).min(SOCKADDR_IN6_LEN)],
        control: &control_room[..(field(1) as usize).min(CONTROL_LEN)],
        flags: field(3) as i32,
    };
    let start = HEADER_LEN as u32;
    (incoming, start..start + payload.len() as u32)
}

/// Writes into a buffer what the kernel would; returns how many bytes are used.
#[cfg(test)]
pub fn fill(lease: &mut Lease, name: &[u8], control: &[u8], payload: &[u8], flags: i32) -> u32 {
    lease.set_window(0..lease.capacity());
    let out = [
        name.len() as u32,
        control.len() as u32,
        payload.len() as u32,
        flags as u32,
    ];
    for (index, field) in out.into_iter().enumerate() {
        lease[index * size_of::<u32>()..][..size_of::<u32>()].copy_from_slice(&field.to_ne_bytes());
    }
    lease[OUT_LEN..][..name.len()].copy_from_slice(name);
    lease[OUT_LEN + NAME_LEN..][..control.len()].copy_from_slice(control);
    lease[HEADER_LEN..][..payload.len()].copy_from_slice(payload);
    (HEADER_LEN + payload.len()) as u32
}

/// The ring through which buffers are given to the kernel.
///
/// Invariant: `held` has the leases of all buffers that the entries between the kernel's head and
/// `tail` name, and of those that the kernel has filled and nobody has [taken](Self::take) yet.
/// There are never more than `entries`, so no entry is overwritten before the kernel has read it.
pub struct BufferRing {
    region: Region,
    entries: u16,
    tail: u16,
    held: Vec<Option<Lease>>,
}

impl BufferRing {
    /// A ring with room for `buffers`, which are given to it by [`recycle`](Self::recycle).
    ///
    /// # Errors
    /// `ENOMEM` (mmap(2)); `InvalidInput` for more than 32 768 buffers.
    pub fn new(buffers: usize) -> io::Result<Self> {
        let entries = buffers.next_power_of_two();
        let region = Region::map(entries * size_of::<BufRingEntry>())?;
        let entries = u16::try_from(entries).map_err(|_| io::ErrorKind::InvalidInput)?;
        Ok(Self {
            region,
            entries,
            tail: 0,
            held: (0..buffers).map(|_| None).collect(),
        })
    }

    /// Address for the registration.
    pub fn address(&self) -> u64 {
        self.region.as_ptr() as u64
    }

    /// Number of entries, a power of two.
    pub fn entries(&self) -> u16 {
        self.entries
    }

    /// Gives a buffer to the kernel, which sees it at the next [`commit`](Self::commit).
    ///
    /// # Panics
    /// If the kernel has that buffer already.
    pub fn recycle(&mut self, lease: Lease) {
        let index = usize::from(self.tail & (self.entries - 1));
        // SAFETY: `index < entries`, for which the region has room; it is page-aligned, zeroed
        // memory, which is a valid `BufRingEntry`. By the type's invariant the kernel is done with
        // this entry, and it reads a new one only after the Release store in `commit`. The setters
        // write address, length and id, not the reserved field that the tail overlays in entry 0.
        unsafe {
            let entry = &mut *self.region.as_ptr().cast::<BufRingEntry>().add(index);
            entry.set_addr(lease.as_buffer_ptr() as u64);
            entry.set_len(lease.capacity());
            entry.set_bid(lease.id());
        }
        self.tail = self.tail.wrapping_add(1);
        let held = &mut self.held[usize::from(lease.id())];
        assert!(
            held.is_none(),
            "buffer {} is given to the kernel twice",
            lease.id()
        );
        *held = Some(lease);
    }

    /// Publishes what was recycled.
    pub fn commit(&mut self) {
        // SAFETY: the region starts with an entry, and `tail` points into it at a 16-bit field
        // that lies on an even address and is accessed by nobody here but through this atomic.
        let tail = unsafe {
            &*BufRingEntry::tail(self.region.as_ptr().cast_const().cast()).cast::<AtomicU16>()
        };
        tail.store(self.tail, Ordering::Release);
    }

    /// Takes back the buffer that a completion named, once for each completion.
    ///
    /// # Panics
    /// If it is not held: the kernel's memory and ours could no longer be told apart.
    pub fn take(&mut self, id: u16) -> Lease {
        self.held[usize::from(id)]
            .take()
            .expect("the kernel returns only buffers that it has")
    }

    /// All buffers that the kernel still has, once the ring is unregistered.
    pub fn into_leases(self) -> Vec<Lease> {
        self.held.into_iter().flatten().collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn filled(out: [u32; 4]) -> Lease {
        let mut lease = carve(1).unwrap().pop().unwrap();
        for (index, field) in out.into_iter().enumerate() {
            lease[index * 4..][..4].copy_from_slice(&field.to_ne_bytes());
        }
        lease
    }

    #[test]
    fn lengths_that_the_kernel_states_are_bounded() {
        let lease = filled([u32::MAX, u32::MAX, u32::MAX, 0]);
        let (incoming, payload) = parse(&lease, HEADER_LEN as u32 + 5);
        assert_eq!(incoming.name.len(), SOCKADDR_IN6_LEN);
        assert_eq!(incoming.control.len(), CONTROL_LEN);
        assert_eq!(payload.len(), 5);
        assert!(parse(&lease, u32::MAX).1.end <= lease.capacity());
    }

    #[test]
    fn a_result_shorter_than_the_header_is_truncated() {
        let lease = filled([16, 0, 4, 0]);
        for len in 0..HEADER_LEN as u32 {
            let (incoming, payload) = parse(&lease, len);
            assert_eq!((incoming.flags, payload), (libc::MSG_TRUNC, 0..0));
        }
    }

    #[test]
    fn the_stride_is_an_odd_number_of_cache_lines() {
        assert_eq!(STRIDE % 128, 64);
        const { assert!(STRIDE >= CAPACITY) };
    }

    #[test]
    #[should_panic(expected = "the kernel returns only buffers that it has")]
    fn a_buffer_is_not_taken_twice() {
        let mut ring = BufferRing::new(4).unwrap();
        Lease::carve(4, 64, 64)
            .unwrap()
            .into_iter()
            .for_each(|lease| ring.recycle(lease));
        ring.commit();
        let _first = ring.take(2);
        ring.take(2);
    }
}
