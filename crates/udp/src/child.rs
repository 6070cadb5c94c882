//! Children that do not outlive us.

use std::io;
use std::os::unix::process::CommandExt;
use std::process::Command;

use rustix::io::Errno;
use rustix::process::{Pid, Signal, getpid, getppid, set_parent_process_death_signal};

/// Has the process of `command` killed when the *thread* that spawns it ends, be it by the end of
/// the whole program (PR_SET_PDEATHSIG, prctl(2)).
///
/// So the spawning thread must stay as long as the child is wanted. The children of the child are
/// not covered.
pub fn end_with_this_thread(command: &mut Command) -> &mut Command {
    let parent = getpid();
    // SAFETY: the closure runs between fork and exec, where only async-signal-safe work is
    // allowed: prctl and getppid are raw system calls (rustix's linux_raw backend, no libc in
    // between), a `Pid` is copied and compared, and an io::Error from an errno does not allocate.
    unsafe { command.pre_exec(move || ask_for_signal(parent)) }
}

fn ask_for_signal(parent: Pid) -> io::Result<()> {
    set_parent_process_death_signal(Some(Signal::KILL))?;
    // A parent that ended before the call sends no signal any more.
    if getppid() == Some(parent) {
        Ok(())
    } else {
        Err(Errno::SRCH.into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::process::ExitStatusExt;
    use std::thread;

    #[test]
    fn a_child_ends_with_the_thread_that_spawned_it() {
        let spawn = || end_with_this_thread(Command::new("sleep").arg("60")).spawn();
        let mut child = thread::spawn(spawn).join().unwrap().unwrap();
        assert_eq!(child.wait().unwrap().signal(), Some(libc::SIGKILL));
    }
}
