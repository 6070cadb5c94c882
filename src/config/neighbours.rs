//! Which CPUs other processes of this program have for themselves.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::{OsStr, OsString};
use std::fs::{self, File};
use std::io::{self, Read};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

/// For each CPU, how many threads of other processes with this one's name run there only. Two
/// servers of a few workers each then do not meet on the first CPUs while others have nothing to
/// do. `proc` is where procfs is; what it does not show, such as other containers, is not known.
pub fn pinned(proc: &Path) -> BTreeMap<usize, usize> {
    let mut pinned = BTreeMap::new();
    let own = fs::read_link(proc.join("self")).unwrap_or_default();
    let Ok(name) = name(&proc.join("self")) else {
        return pinned;
    };
    let processes = fs::read_dir(proc).into_iter().flatten().flatten();
    let kernels = kernel_threads(proc);
    // What else there is in /proc has no number for a name.
    let is_other = |file: &OsStr| {
        file != own && file.as_bytes()[0].is_ascii_digit() && !kernels.contains(file)
    };
    let processes = processes.filter(|it| is_other(&it.file_name()));
    let neighbours = processes
        .map(|it| it.path())
        .filter(|it| self::name(it).ok() == Some(name));
    for process in neighbours {
        let threads = fs::read_dir(process.join("task")).into_iter().flatten();
        for thread in threads.flatten() {
            let status = fs::read_to_string(thread.path().join("status")).unwrap_or_default();
            if let Some(cpu) = only_cpu(&status) {
                *pinned.entry(cpu).or_default() += 1;
            }
        }
    }
    pinned
}

/// The threads of the kernel, most of all that a machine of many CPUs has, and the few programs
/// that it starts itself: the children of its second process (proc_tid_children(5)). None where the
/// kernel does not list children, and where the second process is another one, as in a container.
fn kernel_threads(proc: &Path) -> BTreeSet<OsString> {
    let parent = proc.join("2");
    if !name(&parent).is_ok_and(|it| it.starts_with(b"kthreadd\n")) {
        return BTreeSet::new();
    }
    let children = fs::read_to_string(parent.join("task/2/children")).unwrap_or_default();
    children.split_whitespace().map(OsString::from).collect()
}

/// The name of a process, padded: 15 bytes and a line end at most (proc_pid_comm(5)). Of every
/// process of the machine, so by as few system calls as can be.
fn name(process: &Path) -> io::Result<[u8; 16]> {
    let mut name = [0; 16];
    let _ = File::open(process.join("comm"))?.read(&mut name)?;
    Ok(name)
}

/// The CPU of a thread that has one only, by its proc_pid_status(5).
fn only_cpu(status: &str) -> Option<usize> {
    let list = status
        .lines()
        .find_map(|line| line.strip_prefix("Cpus_allowed_list:"));
    list?.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn threads_of_other_processes_of_the_name_are_counted_by_cpu() {
        let proc = std::env::temp_dir().join(format!("reflector-proc-{}", std::process::id()));
        for (pid, name, lists) in [
            ("7", "reflector\n", &["0", "0-3"][..]),
            ("8", "reflector\n", &["0-3", "1", "2"]),
            ("9", "reflector\n", &["1", "0,2"]),
            ("10", "other\n", &["3"]),
            ("2", "kthreadd\n", &["0-3"]),
            // By its parent one of the kernel's, which is not looked at.
            ("11", "reflector\n", &["3"]),
        ] {
            for (thread, list) in lists.iter().enumerate() {
                let task = proc.join(format!("{pid}/task/{thread}"));
                fs::create_dir_all(&task).unwrap();
                let status = format!("Name:\t{name}Cpus_allowed_list:\t{list}\nThreads:\t1\n");
                fs::write(task.join("status"), status).unwrap();
            }
            fs::write(proc.join(pid).join("comm"), name).unwrap();
        }
        fs::create_dir(proc.join("2/task/2")).unwrap();
        fs::write(proc.join("2/task/2/children"), "3 11 ").unwrap();
        symlink("7", proc.join("self")).unwrap();
        let found = pinned(&proc);
        fs::remove_dir_all(&proc).unwrap();
        assert_eq!(found, [(1, 2), (2, 1)].into());
        assert!(pinned(&proc).is_empty(), "no procfs, no neighbours");
    }
}
