//! The memory that datagrams live in: one mapping, cut into buffers that have one owner each.

use std::io;
use std::ops::{Deref, DerefMut, Range};
use std::ptr::{self, NonNull};
use std::rc::Rc;

/// An anonymous, zeroed, page-aligned mapping; unmapped when the last owner goes.
#[derive(Debug)]
pub struct Region {
    base: NonNull<u8>,
    len: usize,
}

impl Region {
    /// Maps `len` bytes (rounded up to pages by the kernel). Pages cost memory once touched.
    ///
    /// # Errors
    /// What mmap(2) says, `ENOMEM` for most.
    pub fn map(len: usize) -> io::Result<Self> {
        // SAFETY: mmap(2) with a null hint, MAP_ANONYMOUS and fd -1 has no precondition on our
        // memory: it makes a new mapping and touches no existing one.
        let address = unsafe {
            libc::mmap(
                ptr::null_mut(),
                len,
                libc::PROT_READ | libc::PROT_WRITE,
                libc::MAP_PRIVATE | libc::MAP_ANONYMOUS,
                -1,
                0,
            )
        };
        if address == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        let base = NonNull::new(address.cast()).ok_or(io::ErrorKind::OutOfMemory)?;
        Ok(Self { base, len })
    }

    /// Address of the first byte.
    #[inline]
    pub fn as_ptr(&self) -> *mut u8 {
        self.base.as_ptr()
    }
}

impl Drop for Region {
    fn drop(&mut self) {
        // SAFETY: `base` and `len` are those of the mapping made in `map`, which nobody else
        // unmaps; whoever points into it holds the `Rc` that keeps this value alive.
        unsafe { libc::munmap(self.base.as_ptr().cast(), self.len) };
    }
}

/// One buffer, owned.
///
/// Who holds the lease owns the bytes: moving it moves the buffer, and there is no second one for
/// the same bytes. Dereferences to the *window*, the payload of the datagram it holds.
///
/// Invariant: `window` lies inside the buffer's `capacity`; the buffer lies inside `region`; no
/// other lease of the region overlaps it.
#[derive(Debug)]
pub struct Lease {
    #[expect(
        dead_code,
        reason = "held so that the mapping lives as long as any of its buffers"
    )]
    region: Rc<Region>,
    base: NonNull<u8>,
    capacity: u32,
    start: u32,
    len: u32,
    id: u16,
}

impl Lease {
    /// Cuts a new mapping into `count` buffers of `capacity` bytes, `stride` bytes apart.
    ///
    /// # Errors
    /// `ENOMEM`: no address space, or none allowed (mmap(2)).
    ///
    /// # Panics
    /// If `capacity` exceeds `stride`.
    pub fn carve(count: u16, capacity: u32, stride: usize) -> io::Result<Vec<Self>> {
        assert!(capacity as usize <= stride, "buffers must not overlap");
        let region = Rc::new(Region::map(usize::from(count) * stride)?);
        let lease = |id: u16| {
            let offset = usize::from(id) * stride;
            // SAFETY: `offset < count * stride`, the length of the mapping, so the result stays
            // inside the one allocation, and is not null.
            let base = unsafe { region.base.add(offset) };
            // Invariant: ids differ, so buffers start `stride` apart and, each at most `stride`
            // long, do not overlap; the last ends inside the mapping.
            Self {
                region: Rc::clone(&region),
                base,
                capacity,
                start: 0,
                len: capacity,
                id,
            }
        };
        Ok((0..count).map(lease).collect())
    }

    /// Which buffer this is: its position in the mapping.
    #[inline]
    pub fn id(&self) -> u16 {
        self.id
    }

    /// Bytes that the buffer has room for.
    #[inline]
    pub fn capacity(&self) -> u32 {
        self.capacity
    }

    /// Address of the buffer, for the kernel.
    #[inline]
    pub fn as_buffer_ptr(&self) -> *mut u8 {
        self.base.as_ptr()
    }

    /// The whole buffer.
    #[inline]
    pub fn buffer(&self) -> &[u8] {
        // SAFETY: by the type's invariant these bytes lie inside the live mapping, which was
        // zeroed and so is initialised; they are borrowed for as long as `self`, and nobody else
        // writes them: no other lease overlaps, and the kernel writes only to buffers whose lease
        // its ring or its receive call holds.
        unsafe { std::slice::from_raw_parts(self.base.as_ptr(), self.capacity as usize) }
    }

    /// Makes `window` the payload.
    ///
    /// # Panics
    /// If it does not lie inside the buffer.
    #[inline]
    pub fn set_window(&mut self, window: Range<u32>) {
        assert!(
            window.start <= window.end && window.end <= self.capacity,
            "window inside buffer"
        );
        self.start = window.start;
        self.len = window.end - window.start;
    }
}

impl Deref for Lease {
    type Target = [u8];

    #[inline]
    fn deref(&self) -> &[u8] {
        &self.buffer()[self.start as usize..][..self.len as usize]
    }
}

impl DerefMut for Lease {
    #[inline]
    fn deref_mut(&mut self) -> &mut [u8] {
        // SAFETY: `start + len <= capacity` by the invariant that `set_window` upholds, so the
        // range lies inside the buffer; initialised and unaliased as argued in `buffer`, and
        // `&mut self` excludes every other borrow of this lease.
        unsafe {
            std::slice::from_raw_parts_mut(
                self.base.as_ptr().add(self.start as usize),
                self.len as usize,
            )
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn buffers_are_disjoint_and_outlive_each_other() {
        let mut leases = Lease::carve(4, 100, 128).unwrap();
        for lease in &mut leases {
            let id = lease.id() as u8;
            lease.fill(id + 1);
        }
        let last = leases.pop().unwrap();
        for lease in &leases {
            assert!(lease.iter().all(|&byte| byte == lease.id() as u8 + 1));
        }
        drop(leases);
        assert!(last.iter().all(|&byte| byte == 4));
    }

    #[test]
    fn the_window_is_the_payload() {
        let mut lease = Lease::carve(1, 100, 128).unwrap().pop().unwrap();
        lease.set_window(10..14);
        lease.copy_from_slice(b"ping");
        assert_eq!(&lease.buffer()[9..15], b"\0ping\0");
        lease.set_window(100..100);
        assert!(lease.is_empty());
    }

    #[test]
    #[should_panic(expected = "window inside buffer")]
    fn a_window_past_the_end_is_refused() {
        Lease::carve(1, 100, 128).unwrap()[0].set_window(0..101);
    }
}
