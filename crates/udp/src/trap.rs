//! What becomes of a system call that a seccomp filter traps (SECCOMP_RET_TRAP, seccomp(2)).

use std::ffi::{c_int, c_void};
use std::io::{self, Write};
use std::mem;
use std::ptr;
use std::sync::OnceLock;

/// What the sentence ends with. Read in a handler, which a read of one that is set may be.
static REMEDY: OnceLock<&str> = OnceLock::new();

/// The status that the process ends with.
const STATUS: c_int = 1;

/// The longest name of a thread, with the zero behind it (PR_GET_NAME(2const)).
const NAME_LEN: usize = 16;

/// Has the process end with 1 at the first call that is trapped, and say on stderr which call of
/// which thread that was, and `remedy`. For good: a handler that returned would make the call
/// return its own number.
///
/// # Errors
/// None that sigaction(2) has for this signal.
pub fn end_at_trapped_calls(remedy: &'static str) -> io::Result<()> {
    let remedy = *REMEDY.get_or_init(|| remedy);
    debug_assert!(!remedy.is_empty(), "something can always be tried");
    let handler: extern "C" fn(c_int, *mut libc::siginfo_t, *mut c_void) = trapped;
    // SAFETY: a `sigaction` is integers, a set of bits and an optional function, for which all-zero
    // is a value: no flag, no signal in the mask, no restorer.
    let mut action: libc::sigaction = unsafe { mem::zeroed() };
    action.sa_sigaction = handler as libc::sighandler_t;
    action.sa_flags = libc::SA_SIGINFO | libc::SA_ONSTACK;
    // SAFETY: `action` is a local that is read; the handler has the three arguments that SA_SIGINFO
    // says, lives as long as the program, and does nothing that is not async-signal-safe, as it
    // argues itself. The old action is not asked for.
    match unsafe { libc::sigaction(libc::SIGSYS, &raw const action, ptr::null_mut()) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

/// The part of a `siginfo_t` that is about system calls (`_sigsys`, sigaction(2)).
#[repr(C)]
struct SystemCall {
    signo: c_int,
    errno: c_int,
    code: c_int,
    address: *mut c_void,
    number: c_int,
}

const _: () = assert!(size_of::<SystemCall>() <= size_of::<libc::siginfo_t>());
const _: () = assert!(align_of::<SystemCall>() <= align_of::<libc::siginfo_t>());

/// Says what was called, and ends the process. It allocates nothing, takes no lock and makes three
/// calls: prctl, write and exit_group, which a filter has to allow.
extern "C" fn trapped(_: c_int, info: *mut libc::siginfo_t, _: *mut c_void) {
    // SAFETY: with SA_SIGINFO the kernel passes a whole `siginfo_t`, which is as long and as
    // aligned as what is read of it, as asserted above; every bit pattern is a value of integers
    // and a pointer that nobody follows.
    let call = unsafe { info.cast::<SystemCall>().read() };
    let mut name = [0; NAME_LEN];
    // SAFETY: the kernel writes at most that many bytes to a local that has them.
    unsafe { libc::prctl(libc::PR_GET_NAME, name.as_mut_ptr()) };
    let mut said = [0; 512];
    let len = sentence(&mut said, &name, call.number);
    // SAFETY: the bytes are a local's; what cannot be written is lost, as the process is.
    unsafe { libc::write(libc::STDERR_FILENO, said.as_ptr().cast(), len) };
    // SAFETY: it runs nothing of this program, and does not return.
    unsafe { libc::_exit(STATUS) }
}

/// Writes the sentence about the call `number` of the thread `name` into `said`, as far as there is
/// room, and returns its length.
fn sentence(said: &mut [u8], name: &[u8; NAME_LEN], number: c_int) -> usize {
    let room = said.len();
    let len = name.iter().position(|&it| it == 0).unwrap_or(NAME_LEN);
    let name = str::from_utf8(&name[..len]).unwrap_or("?");
    let remedy = REMEDY.get().copied().unwrap_or_default();
    let mut rest = &mut *said;
    // What has no room is cut off.
    let _ = writeln!(
        rest,
        "ERROR the thread {name} made the system call {number}, which the sandbox does not allow, \
         so the process has ended; `ausyscall {number}` names it; {remedy}"
    );
    room - rest.len()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sentence_names_thread_and_call_and_is_cut_off_where_there_is_no_room() {
        let mut said = [0; 512];
        let len = sentence(&mut said, b"worker-0\0\0\0\0\0\0\0\0", 41);
        let text = str::from_utf8(&said[..len]).unwrap();
        assert!(text.starts_with("ERROR the thread worker-0 made the system call 41, "));
        assert_eq!(sentence(&mut said[..20], b"sixteen letters!", -1), 20);
    }
}
