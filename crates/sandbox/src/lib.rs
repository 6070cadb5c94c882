//! Takes from the process what it does not need any more: capabilities, files, system calls.
//!
//! [`enter`] is for the one thread that there is once files and sockets are open: threads that are
//! started afterwards have what it has left. A worker leaves more, by [`confine_worker`], when its
//! engine is open.
//!
//! Non-goal: to hide what the process has open. Sockets, the histogram log and the terminal stay.

#![forbid(unsafe_code)]

#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;

mod calls;
mod capabilities;
mod files;
mod filter;
mod needs;

use reflector_udp::trap;

pub use calls::{
    ACCELERATED, Call, LISTEN, OTHERS, SILENT, SILENT_OLD, TAKEOVER, WORKER, WORKER_OLD,
};
pub use needs::{Entered, Needs};

/// Leaves, for good, what is not in `needs`. Nothing that fails here ends the start.
///
/// The calling thread has to be the only one. A call that is refused to a worker from then on ends
/// the process with its number and `remedy`.
pub fn enter(needs: &Needs, remedy: &'static str) -> Entered {
    let mut entered = Entered::default();
    capabilities::drop_all_but(needs, &mut entered);
    if let Err(error) = rustix::thread::set_no_new_privs(true) {
        let said = format!("cannot rule out new privileges: {error}");
        entered.missing.push(said);
    }
    files::restrict(needs, &mut entered);
    let trapped = trap::end_at_trapped_calls(remedy).map_err(|error| error.to_string());
    if let Err(error) = trapped.and_then(|()| filter::apply_to_all(needs)) {
        let said = format!("cannot take system calls away from the other threads: {error}");
        entered.missing.push(said);
    }
    entered
}

/// Leaves what a worker does not need whose engine is open, for good, on the calling thread.
///
/// # Errors
/// What the kernel said, in a sentence: the thread keeps what the others have.
pub fn confine_worker() -> Result<(), String> {
    let dropped = capabilities::drop_all();
    filter::apply_to_worker()?;
    dropped.map_err(|error| format!("cannot drop capabilities: {error}"))
}
