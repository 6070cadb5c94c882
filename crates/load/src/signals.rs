//! What signals do to a measurement: none of them loses what was measured.

use std::io;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use signal_hook::flag;

use reflector_measure::error::Error;
use reflector_measure::exit::Exit;
use reflector_udp::signal::is_ignored;

/// The exit code of a second Ctrl-C: what was measured is not reported.
const CUT_SHORT: i32 = Exit::Failed as i32;
/// They end the sending, and a second one ends the program at once.
const STOP: [i32; 2] = [libc::SIGINT, libc::SIGTERM];
/// They end the sending. A terminal that goes may send the first of them twice.
const END: [i32; 8] = [
    libc::SIGHUP,
    libc::SIGALRM,
    libc::SIGVTALRM,
    libc::SIGPROF,
    libc::SIGXCPU,
    libc::SIGIO,
    libc::SIGPWR,
    libc::SIGSTKFLT,
];
/// They mean nothing here. What goes with the last is an error of the write.
const NOTHING: [i32; 3] = [libc::SIGUSR1, libc::SIGUSR2, libc::SIGXFSZ];

/// A flag that signals set which end the sending. What was ignored at the start stays so, except
/// for Ctrl-C: a shell ignores it for whatever it starts in the background.
///
/// # Errors
/// What sigaction(2) says, which knows all of these signals.
pub(crate) fn stop_flag() -> Result<Arc<AtomicBool>, Error> {
    let stop = Arc::new(AtomicBool::new(false));
    register(&stop).map_err(|e| Error::system("cannot listen to signals", &e))?;
    Ok(stop)
}

fn register(stop: &Arc<AtomicBool>) -> io::Result<()> {
    for signal in STOP {
        // In this order: the first signal finds the flag unset, and sets it.
        flag::register_conditional_shutdown(signal, CUT_SHORT, Arc::clone(stop))?;
        flag::register(signal, Arc::clone(stop))?;
    }
    for signal in END.into_iter().filter(|&it| !is_ignored(it)) {
        flag::register(signal, Arc::clone(stop))?;
    }
    for signal in NOTHING {
        flag::register(signal, Arc::default())?;
    }
    Ok(())
}
