//! Network namespaces of threads, and user namespaces for those who are not root.
//!
//! A network namespace belongs to a *thread* (network_namespaces(7)): a thread may make one or
//! enter one while its siblings stay where they are, and sockets and child processes made by that
//! thread live where it is. A namespace lives as long as a thread, a descriptor or a mount holds
//! it; here only threads and descriptors do, so nothing is left behind by a program that dies.
//!
//! Not here: what is inside a namespace (see the netlab crate).

use std::ffi::CStr;
use std::ffi::OsStr;
use std::fs::{self, File};
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::process::CommandExt;
use std::process::{Command, Stdio};
use std::sync::OnceLock;
use std::thread;

use crate::attempting;

/// The network namespace of the calling thread, held open.
///
/// The descriptor keeps the namespace alive. Fails where `/proc` is not mounted
/// (network_namespaces(7)).
pub fn current_net() -> io::Result<OwnedFd> {
    let path = "/proc/thread-self/ns/net";
    let file = File::open(path).map_err(attempting(format_args!("open {path}")))?;
    Ok(file.into())
}

/// A move of the calling thread into a new, empty network namespace (`unshare(CLONE_NEWNET)`).
///
/// The thread's other namespaces and all other threads stay. Needs CAP_SYS_ADMIN in the thread's
/// user namespace; EPERM otherwise (unshare(2)).
pub fn unshare_net() -> io::Result<()> {
    unshare(libc::CLONE_NEWNET).map_err(attempting("make a network namespace"))
}

/// A move of the calling thread into `net`, a namespace held by [`current_net`] (setns(2)).
///
/// Needs CAP_SYS_ADMIN in the thread's user namespace and in the one that owns `net`. EINVAL when
/// the descriptor is not a network namespace.
pub fn set_net(net: &OwnedFd) -> io::Result<()> {
    // SAFETY: setns takes a descriptor and a flag and no pointers. `net` is borrowed, so it is
    // open during the call; one that is not a network namespace gives EINVAL because the type is
    // named. The call changes the calling thread only, on which no Rust invariant depends.
    let result = unsafe { libc::setns(net.as_raw_fd(), libc::CLONE_NEWNET) };
    errno_of(result).map_err(attempting("enter a network namespace"))
}

/// How network namespaces can be had by this process.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Ability {
    /// Any thread can make them: CAP_SYS_ADMIN, CAP_NET_ADMIN and CAP_NET_RAW are there.
    Direct,
    /// A child started with [`user_namespace_command`] can make them.
    ThroughUserNamespace,
    /// They cannot be had; the sentence says why and what to do about it.
    None(String),
}

/// The way to network namespaces that works here, found once by trying and then remembered.
pub fn ability() -> &'static Ability {
    static ABILITY: OnceLock<Ability> = OnceLock::new();
    ABILITY.get_or_init(|| {
        if has_capabilities()
            && thread::spawn(unshare_net)
                .join()
                .is_ok_and(|made| made.is_ok())
        {
            return Ability::Direct;
        }
        match probe_user_namespace() {
            Ok(()) => Ability::ThroughUserNamespace,
            Err(error) => Ability::None(refusal(&error)),
        }
    })
}

/// A command that runs this very program again, with `arguments`, in new user, network and mount
/// namespaces in which the caller's user is root (user_namespaces(7)).
///
/// The caller adds environment and pipes and spawns it. Spawning fails with the errno of the
/// first step that the kernel refused (EPERM, ENOSPC, EINVAL); [`ability`] turns these into a
/// sentence.
pub fn user_namespace_command<A: AsRef<OsStr>>(arguments: impl IntoIterator<Item = A>) -> Command {
    let mut command = Command::new("/proc/self/exe");
    command.args(arguments);
    let identity = Identity::of_caller();
    // SAFETY: the closure runs between fork and exec, where only async-signal-safe work is
    // allowed: `enter` makes the system calls unshare, open, write and close, on strings that
    // were built before the fork, and neither allocates nor takes locks.
    unsafe { command.pre_exec(move || identity.enter()) };
    command
}

/// The lines that make the caller's user and group root in a user namespace.
struct Identity {
    uid_map: String,
    gid_map: String,
}

impl Identity {
    fn of_caller() -> Identity {
        // SAFETY: geteuid and getegid take nothing and cannot fail (getuid(2)).
        let (uid, gid) = unsafe { (libc::geteuid(), libc::getegid()) };
        Identity {
            uid_map: format!("0 {uid} 1\n"),
            gid_map: format!("0 {gid} 1\n"),
        }
    }

    /// New user, network and mount namespaces for the calling, single-threaded process.
    ///
    /// Async-signal-safe. An unprivileged process must give up setgroups(2) before it may write
    /// its gid_map (user_namespaces(7)).
    fn enter(&self) -> io::Result<()> {
        unshare(libc::CLONE_NEWUSER | libc::CLONE_NEWNET | libc::CLONE_NEWNS)?;
        write_whole(c"/proc/self/setgroups", b"deny")?;
        write_whole(c"/proc/self/uid_map", self.uid_map.as_bytes())?;
        write_whole(c"/proc/self/gid_map", self.gid_map.as_bytes())
    }
}

/// One write of `text` to the existing file at `path`; async-signal-safe, unlike `fs::write`.
fn write_whole(path: &CStr, text: &[u8]) -> io::Result<()> {
    // SAFETY: `path` ends with NUL and lives through the call. Without O_CREAT no mode is read.
    let fd = unsafe { libc::open(path.as_ptr(), libc::O_WRONLY | libc::O_CLOEXEC) };
    errno_of(fd)?;
    // SAFETY: `fd` was opened above; pointer and length are those of the live slice `text`.
    let written = unsafe { libc::write(fd, text.as_ptr().cast(), text.len()) };
    let outcome = if written < 0 {
        Err(io::Error::last_os_error())
    } else {
        Ok(written.unsigned_abs())
    };
    // SAFETY: `fd` is ours, still open, and not used after this line.
    unsafe { libc::close(fd) };
    // The kernel takes each of these files in one write or not at all.
    if outcome? == text.len() {
        Ok(())
    } else {
        Err(io::Error::from_raw_os_error(libc::EIO))
    }
}

fn unshare(flags: libc::c_int) -> io::Result<()> {
    // SAFETY: unshare takes flags and no pointers. CLONE_NEWNET, CLONE_NEWNS and CLONE_NEWUSER
    // leave memory and descriptors of the process shared as they were.
    errno_of(unsafe { libc::unshare(flags) })
}

fn errno_of(result: libc::c_int) -> io::Result<()> {
    if result < 0 {
        Err(io::Error::last_os_error())
    } else {
        Ok(())
    }
}

/// Whether the calling thread has what the lab needs, by `CapEff` in proc_pid_status(5).
fn has_capabilities() -> bool {
    /// CAP_NET_ADMIN, CAP_NET_RAW and CAP_SYS_ADMIN in linux/capability.h.
    const NEEDED: u64 = 1 << 12 | 1 << 13 | 1 << 21;
    let status = fs::read_to_string("/proc/thread-self/status").unwrap_or_default();
    status
        .lines()
        .find_map(|line| line.strip_prefix("CapEff:"))
        .and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok())
        .is_some_and(|mask| mask & NEEDED == NEEDED)
}

/// A child that enters a user namespace and goes no further: nothing is executed.
fn probe_user_namespace() -> io::Result<()> {
    /// What the child's last step before exec "fails" with when all before it went well.
    const ENTERED: i32 = libc::ECANCELED;
    let identity = Identity::of_caller();
    let mut command = Command::new("/proc/self/exe");
    command
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null());
    // SAFETY: as in `user_namespace_command`: system calls on strings made before the fork;
    // building an io::Error from an errno does not allocate.
    unsafe {
        command.pre_exec(move || {
            identity.enter()?;
            Err(io::Error::from_raw_os_error(ENTERED))
        })
    };
    match command.spawn() {
        Err(error) if error.raw_os_error() == Some(ENTERED) => Ok(()),
        Err(error) => Err(error),
        Ok(_) => unreachable!("the closure before exec always fails"),
    }
}

/// Why neither way to a network namespace is open, and what to do about it.
fn refusal(error: &io::Error) -> String {
    let is_set = |path: &str, value: &str| {
        fs::read_to_string(path).is_ok_and(|content| content.trim() == value)
    };
    let remedy = if is_set(
        "/proc/sys/kernel/apparmor_restrict_unprivileged_userns",
        "1",
    ) {
        "set kernel.apparmor_restrict_unprivileged_userns=0 with sysctl, or run as root"
    } else if is_set("/proc/sys/kernel/unprivileged_userns_clone", "0") {
        "set kernel.unprivileged_userns_clone=1 with sysctl, or run as root"
    } else if is_set("/proc/sys/user/max_user_namespaces", "0") {
        "set user.max_user_namespaces above 0 with sysctl, or run as root"
    } else if matches!(error.raw_os_error(), Some(libc::EINVAL | libc::ENOSYS)) {
        "this kernel was built without user namespaces (CONFIG_USER_NS): run as root"
    } else {
        "a container or security module refuses it: run as root with CAP_SYS_ADMIN, \
         CAP_NET_ADMIN and CAP_NET_RAW (docker run --privileged)"
    };
    format!(
        "the capabilities for network namespaces are missing, and a user namespace cannot be \
         made ({error}); {remedy}"
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::MetadataExt;

    #[test]
    fn a_refusal_names_the_error_and_a_remedy() {
        let sentence = refusal(&io::Error::from_raw_os_error(libc::EPERM));
        assert!(sentence.contains("os error 1"), "{sentence}");
        assert!(sentence.contains("run as root"), "{sentence}");
    }

    #[test]
    fn only_the_thread_that_unshares_moves() {
        if *ability() != Ability::Direct {
            return; // Covered by the tests of `lab::topology`, which find a way in.
        }
        let inode = |net: OwnedFd| File::from(net).metadata().unwrap().ino();
        let before = inode(current_net().unwrap());
        let elsewhere = thread::spawn(move || {
            unshare_net().unwrap();
            inode(current_net().unwrap())
        });
        assert_ne!(elsewhere.join().unwrap(), before);
        assert_eq!(inode(current_net().unwrap()), before);
    }
}
