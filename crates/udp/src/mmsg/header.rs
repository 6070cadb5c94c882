//! An empty message header.

use std::mem;

/// An all-zero header: null pointers, zero lengths.
pub fn empty() -> libc::mmsghdr {
    // SAFETY: `mmsghdr` is a C struct of integers and pointers, for which all-zero is a value.
    unsafe { mem::zeroed() }
}
