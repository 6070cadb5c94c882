//! The ring as the kernel makes it, and what may be asked of it.

use std::io;

use io_uring::register::Restriction;
use io_uring::{IoUring, opcode, squeue};

/// What each submission has to have: the ring moves datagrams by the files that it was opened over,
/// and by no other.
pub const REQUIRED: squeue::Flags = squeue::Flags::FIXED_FILE;

/// `IORING_UNREGISTER_FILES` and `IORING_UNREGISTER_PBUF_RING` of linux/io_uring.h, for the end.
const UNREGISTER: [u8; 2] = [3, 23];

/// The ring with the flags that the engine's proofs rest on; one `is_restricted` is to be
/// [enabled](enable) when all is registered.
///
/// # Errors
/// `EPERM` where it is not allowed, `ENOMEM`, `EINVAL` before Linux 6.1 (io_uring_setup(2)).
pub fn build(sq_entries: u32, cq_entries: u32, is_restricted: bool) -> io::Result<IoUring> {
    let mut builder = IoUring::builder();
    builder
        .setup_single_issuer()
        .setup_defer_taskrun()
        .setup_taskrun_flag()
        .setup_submit_all()
        .setup_cqsize(cq_entries);
    if is_restricted {
        builder.setup_r_disabled();
    }
    // Saves an indirection since Linux 6.6; before that, EINVAL.
    let without_array = builder.clone().setup_no_sqarray().build(sq_entries);
    match without_array {
        Err(error) if error.raw_os_error() == Some(libc::EINVAL) => builder.build(sq_entries),
        result => result,
    }
}

/// Enables a ring that was built to be restricted: from now on it does what the engine asks of it,
/// and for good nothing else. A seccomp filter does not see what is submitted to a ring.
///
/// # Errors
/// `EBADFD` of a ring that was not built for it, `EINVAL` before Linux 5.10
/// (io_uring_register(2)).
pub fn enable(ring: &IoUring) -> io::Result<()> {
    let operations = [
        opcode::RecvMsgMulti::CODE,
        opcode::SendMsg::CODE,
        opcode::PollAdd::CODE,
        opcode::AsyncCancel::CODE,
    ];
    let flags = REQUIRED | squeue::Flags::BUFFER_SELECT | squeue::Flags::SKIP_SUCCESS;
    let mut restrictions: Vec<_> = (operations.into_iter().map(Restriction::sqe_op))
        .chain(UNREGISTER.map(Restriction::register_op))
        .chain([
            Restriction::sqe_flags_allowed(flags.bits()),
            Restriction::sqe_flags_required(REQUIRED.bits()),
        ])
        .collect();
    ring.submitter().register_restrictions(&mut restrictions)?;
    ring.submitter().register_enable_rings()
}

#[cfg(test)]
mod tests {
    use io_uring::types;
    use reflector_netlab::topology::skip;

    use super::*;

    fn ring(is_restricted: bool) -> Option<IoUring> {
        let built = build(4, 8, is_restricted);
        let skipped = |error: &io::Error| skip("a ring", "uring", &error.to_string());
        built.inspect_err(skipped).ok()
    }

    /// What the kernel answers to `entry`.
    fn result_of(ring: &mut IoUring, entry: squeue::Entry) -> i32 {
        // SAFETY: no entry of these tests points to anything.
        unsafe { ring.submission().push(&entry) }.unwrap();
        ring.submit_and_wait(1).unwrap();
        ring.completion().next().unwrap().result()
    }

    #[test]
    fn a_ring_refuses_what_the_engine_does_not_ask_of_it() {
        let Some(mut ring) = ring(true) else { return };
        let files = [0];
        ring.submitter().register_files(&files).unwrap();
        enable(&ring).unwrap();
        let cancel = || opcode::AsyncCancel::new(1).build();
        let fixed = |entry: squeue::Entry| entry.flags(REQUIRED);
        let refused = -libc::EACCES;
        assert_eq!(
            result_of(&mut ring, fixed(cancel())),
            -libc::ENOENT,
            "nothing is there to be cancelled"
        );
        let nop = opcode::Nop::new().build();
        assert_eq!(result_of(&mut ring, fixed(nop)), refused, "an operation");
        assert_eq!(result_of(&mut ring, cancel()), refused, "a flag is missing");
        let poll = opcode::PollAdd::new(types::Fd(0), libc::POLLIN as u32).build();
        assert_eq!(result_of(&mut ring, poll), refused, "a file of its own");
        let linked = fixed(cancel()).flags(squeue::Flags::IO_LINK);
        assert_eq!(result_of(&mut ring, linked), refused, "a flag too many");
        let registered = ring.submitter().register_files(&files).unwrap_err();
        assert_eq!(registered.raw_os_error(), Some(libc::EACCES), "a file more");
        ring.submitter().unregister_files().unwrap();
    }

    #[test]
    fn one_that_is_not_restricted_does_anything() {
        let Some(mut ring) = ring(false) else { return };
        assert_eq!(result_of(&mut ring, opcode::Nop::new().build()), 0);
    }
}
