//! Children that do not outlive us.

use std::io;
use std::os::unix::process::CommandExt;
use std::process::Command;

/// `command` with the wish that its process is killed when the *thread* that spawns it ends, be
/// it by the end of the whole program (PR_SET_PDEATHSIG, prctl(2)).
///
/// So the spawning thread must stay as long as the child is wanted. The children of the child are
/// not covered.
pub fn end_with_this_thread(command: &mut Command) -> &mut Command {
    let parent = std::process::id();
    // SAFETY: the closure runs between fork and exec, where only async-signal-safe work is
    // allowed: it makes the system calls prctl and getppid and neither allocates nor locks;
    // building an io::Error from an errno does not allocate.
    unsafe { command.pre_exec(move || ask_for_signal(parent)) }
}

fn ask_for_signal(parent: u32) -> io::Result<()> {
    // SAFETY: PR_SET_PDEATHSIG takes one integer, a signal number, and no pointers.
    if unsafe { libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL) } < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: getppid takes nothing and cannot fail (getpid(2)).
    let current = unsafe { libc::getppid() };
    // A parent that ended before the call sends no signal any more.
    if u32::try_from(current) == Ok(parent) {
        Ok(())
    } else {
        Err(io::Error::from_raw_os_error(libc::ESRCH))
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
