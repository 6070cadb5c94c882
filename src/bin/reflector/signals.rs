//! Signals: those that end a run in order, and those that end nothing.

use std::io;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use signal_hook::consts::{
    SIGALRM, SIGHUP, SIGINT, SIGIO, SIGPROF, SIGTERM, SIGUSR1, SIGUSR2, SIGVTALRM, SIGXCPU, SIGXFSZ,
};
use signal_hook::flag;

use reflector_udp::signal::is_ignored;

/// The signals that end a server in order. `SIGHUP` is not one of them where it is ignored, since
/// the program was started by nohup(1) then.
pub fn ending() -> Vec<i32> {
    let signals = [SIGTERM, SIGINT, SIGHUP, SIGXCPU].into_iter();
    signals
        .filter(|&signal| signal != SIGHUP || !is_ignored(signal))
        .collect()
}

/// Keeps those signals from ending the process that would do so with nothing said, and mean
/// nothing here. `SIGXFSZ` is one of them: a write beyond the limit fails with `EFBIG` then, which
/// is reported.
///
/// # Errors
/// `EINVAL` for a signal that cannot be caught.
pub fn ignore_others() -> io::Result<()> {
    let named = [
        SIGUSR1, SIGUSR2, SIGALRM, SIGVTALRM, SIGPROF, SIGIO, SIGXFSZ,
    ];
    let others = [libc::SIGSTKFLT, libc::SIGPWR];
    let real_time = libc::SIGRTMIN()..=libc::SIGRTMAX();
    for signal in named.into_iter().chain(others).chain(real_time) {
        // A handler, since what is ignored would be for the programs that lab starts as well.
        flag::register(signal, Arc::new(AtomicBool::new(false)))?;
    }
    Ok(())
}
