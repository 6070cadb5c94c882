//! What becomes of a signal.

use std::mem;
use std::ptr;

/// Whether this process ignores `signal`, as what nohup(1) starts does with `SIGHUP`.
pub fn is_ignored(signal: i32) -> bool {
    // SAFETY: a `sigaction` is integers and a pointer-sized handler, for which all-zero is a value
    // (SIG_DFL). sigaction(2) with a null for the new action only writes the present one to `now`,
    // which is a local of the right type; a signal that there is not is EINVAL and writes nothing.
    let now = unsafe {
        let mut now: libc::sigaction = mem::zeroed();
        libc::sigaction(signal, ptr::null(), &raw mut now);
        now
    };
    now.sa_sigaction == libc::SIG_IGN
}

/// Has this process ignore `signal`, and what it starts.
pub fn ignore(signal: i32) {
    // SAFETY: signal(2) reads and writes no memory of ours; SIG_IGN runs nothing. A signal that
    // cannot be ignored stays as it is.
    unsafe { libc::signal(signal, libc::SIG_IGN) };
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_ignored_says_so() {
        assert!(!is_ignored(libc::SIGTTIN));
        ignore(libc::SIGTTIN);
        assert!(is_ignored(libc::SIGTTIN));
        ignore(libc::SIGKILL);
    }

    #[test]
    fn it_is_told_from_what_ends_or_stops() {
        // The standard library ignores it in every program, before main.
        assert!(is_ignored(libc::SIGPIPE));
        assert!(!is_ignored(libc::SIGUSR2) && !is_ignored(libc::SIGKILL));
        assert!(!is_ignored(-1), "there is none");
    }
}
