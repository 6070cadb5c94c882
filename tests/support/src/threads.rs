//! Threads of the program under test, one by one.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::mpsc::sync_channel;
use std::thread;

use nix::sys::ptrace;
use nix::sys::wait::{WaitPidFlag, waitpid};
use nix::unistd::Pid;

use crate::Reflector;

/// The threads that are workers, as directories of `/proc`.
pub fn workers(reflector: &Reflector) -> Vec<PathBuf> {
    of(reflector, true)
}

/// Those that are not.
pub fn others(reflector: &Reflector) -> Vec<PathBuf> {
    of(reflector, false)
}

fn of(reflector: &Reflector, workers: bool) -> Vec<PathBuf> {
    let tasks = fs::read_dir(format!("/proc/{}/task", reflector.pid())).expect("it runs");
    let paths = tasks.map(|entry| entry.expect("it runs").path());
    let is_wanted = |task: &PathBuf| {
        // One that has just ended is none.
        let name = fs::read_to_string(task.join("comm"));
        name.is_ok_and(|name| name.starts_with("worker-") == workers)
    };
    let mut threads: Vec<_> = paths.filter(is_wanted).collect();
    threads.sort();
    threads
}

/// Stops the thread `task`, and no other of its process, as a debugger does; for good.
pub fn stop(task: &Path) {
    let task = pid(task);
    let (stopped, is_stopped) = sync_channel(0);
    // A debugger has to be there at the end as well: until it has waited for the thread, nobody
    // learns of the end of the process (ptrace(2)).
    thread::spawn(move || {
        ptrace::seize(task, ptrace::Options::empty()).expect("it is a child's");
        ptrace::interrupt(task).expect("it has been seized");
        // A thread is waited for by its own number (__WALL, waitpid(2)).
        let wait = || waitpid(task, Some(WaitPidFlag::__WALL));
        wait().expect("it stops");
        stopped.send(()).expect("the test waits");
        while wait().is_ok() {}
    });
    is_stopped.recv().expect("the debugger does not panic");
}

/// Has the thread `task` make the system call `number` in the place of its next one, as code would
/// that has taken it over. The kernel asks a debugger before it asks a filter (seccomp(2)).
#[cfg(target_arch = "x86_64")]
pub fn make_call(task: &Path, number: i64) {
    let task = pid(task);
    let wait = || _ = waitpid(task, Some(WaitPidFlag::__WALL)).expect("it stops");
    ptrace::seize(task, ptrace::Options::PTRACE_O_TRACESYSGOOD).expect("it is a child's");
    ptrace::interrupt(task).expect("it has been seized");
    wait();
    loop {
        ptrace::syscall(task, None).expect("it has stopped");
        wait();
        let stopped = ptrace::syscall_info(task).expect("it has stopped");
        if stopped.op == libc::PTRACE_SYSCALL_INFO_ENTRY {
            break;
        }
    }
    let mut registers = ptrace::getregs(task).expect("it has stopped");
    registers.orig_rax = number as u64;
    ptrace::setregs(task, registers).expect("it has stopped");
    ptrace::detach(task, None).expect("it has stopped");
}

fn pid(task: &Path) -> Pid {
    let name = task
        .file_name()
        .and_then(|name| name.to_str()?.parse().ok());
    Pid::from_raw(name.expect("a directory of /proc"))
}
