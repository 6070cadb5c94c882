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
    let tasks = fs::read_dir(format!("/proc/{}/task", reflector.pid())).expect("it runs");
    let paths = tasks.map(|entry| entry.expect("it runs").path());
    let is_worker = |task: &PathBuf| {
        let name = fs::read_to_string(task.join("comm")).expect("it runs");
        name.starts_with("worker-")
    };
    let mut workers: Vec<_> = paths.filter(is_worker).collect();
    workers.sort();
    workers
}

/// Stops the thread `task`, and no other of its process, as a debugger does; for good.
pub fn stop(task: &Path) {
    let number = task
        .file_name()
        .and_then(|name| name.to_str()?.parse().ok());
    let task = Pid::from_raw(number.expect("a directory of /proc"));
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
