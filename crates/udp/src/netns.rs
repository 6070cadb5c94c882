//! Network namespaces of threads, and user namespaces for those who are not root.
//!
//! A network namespace belongs to a *thread* (network_namespaces(7)): a thread may make one or
//! enter one while its siblings stay where they are, and sockets and child processes made by that
//! thread live where it is. A namespace lives as long as a thread, a descriptor or a mount holds
//! it; here only threads and descriptors do, so nothing is left behind by a program that dies.
//!
//! Not here: what is inside a namespace (see the netlab crate).

use std::ffi::{CStr, OsStr};
use std::fs::{self, File};
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::process::CommandExt;
use std::process::{Command, Stdio};
use std::sync::OnceLock;
use std::thread;

use rustix::fs::{Mode, OFlags, open};
use rustix::io::{Errno, write};
use rustix::process::{getegid, geteuid};
use rustix::thread::{LinkNameSpaceType, UnshareFlags, move_into_link_name_space, unshare_unsafe};

use crate::context::attempting;

/// The network namespace of the calling thread, held open.
///
/// The descriptor keeps the namespace alive. Fails where `/proc` is not mounted
/// (network_namespaces(7)).
pub fn current_net() -> io::Result<OwnedFd> {
    let path = "/proc/thread-self/ns/net";
    let file = File::open(path).map_err(attempting(format_args!("open {path}")))?;
    Ok(file.into())
}

/// Moves the calling thread into a new, empty network namespace (`unshare(CLONE_NEWNET)`).
///
/// The thread's other namespaces and all other threads stay. Needs CAP_SYS_ADMIN in the thread's
/// user namespace; EPERM otherwise (unshare(2)).
pub fn unshare_net() -> io::Result<()> {
    unshare(Namespaces::Network)
        .map_err(|errno| attempting("make a network namespace")(errno.into()))
}

/// Moves the calling thread into `net`, a namespace held by [`current_net`] (setns(2)).
///
/// Needs CAP_SYS_ADMIN in the thread's user namespace and in the one that owns `net`; EPERM
/// otherwise. EINVAL when the descriptor is not a network namespace.
pub fn set_net(net: &OwnedFd) -> io::Result<()> {
    move_into_link_name_space(net.as_fd(), Some(LinkNameSpaceType::Network))
        .map_err(|errno| attempting("enter a network namespace")(errno.into()))
}

/// How this process can get network namespaces.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Ability {
    /// Any thread can make them: CAP_SYS_ADMIN, CAP_NET_ADMIN and CAP_NET_RAW are there.
    Direct,
    /// A child started with [`user_namespace_command`] can make them.
    ThroughUserNamespace,
    /// They are not available; the sentence says why and what to do about it.
    None(String),
}

/// The way to network namespaces that works here, found once by trying and then remembered.
pub fn ability() -> &'static Ability {
    static ABILITY: OnceLock<Ability> = OnceLock::new();
    ABILITY.get_or_init(|| {
        if has_capabilities()
            && thread::Builder::new()
                .spawn(unshare_net)
                .is_ok_and(|trial| trial.join().is_ok_and(|made| made.is_ok()))
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
    enter_before_exec(&mut command, Ok(()));
    command
}

/// Has the process of `command` enter new namespaces before it executes anything, and then go on,
/// or fail with the errno in `then`.
fn enter_before_exec(command: &mut Command, then: Result<(), Errno>) {
    let identity = Identity::of_caller();
    let enter = move || {
        identity.enter()?;
        Ok(then?)
    };
    // SAFETY: the closure runs between fork and exec, where only async-signal-safe work is
    // allowed: `enter` makes the system calls unshare, open, write and close, raw ones (rustix's
    // linux_raw backend, no libc in between), on strings that were built before the fork; an
    // io::Error from an errno does not allocate. Nothing takes a lock.
    unsafe { command.pre_exec(enter) };
}

/// The lines that make the caller's user and group root in a user namespace.
struct Identity {
    uid_map: String,
    gid_map: String,
}

impl Identity {
    fn of_caller() -> Identity {
        let (uid, gid) = (geteuid().as_raw(), getegid().as_raw());
        Identity {
            uid_map: format!("0 {uid} 1\n"),
            gid_map: format!("0 {gid} 1\n"),
        }
    }

    /// New user, network and mount namespaces for the calling, single-threaded process.
    ///
    /// Async-signal-safe. An unprivileged process must give up setgroups(2) before it may write
    /// its gid_map (user_namespaces(7)).
    fn enter(&self) -> Result<(), Errno> {
        unshare(Namespaces::UserNetworkAndMount)?;
        write_whole(c"/proc/self/setgroups", b"deny")?;
        write_whole(c"/proc/self/uid_map", self.uid_map.as_bytes())?;
        write_whole(c"/proc/self/gid_map", self.gid_map.as_bytes())
    }
}

/// Writes `text` at once to the existing file at `path`; async-signal-safe, unlike `fs::write`.
fn write_whole(path: &CStr, text: &[u8]) -> Result<(), Errno> {
    let file = open(path, OFlags::WRONLY | OFlags::CLOEXEC, Mode::empty())?;
    // The kernel takes each of these files in one write or not at all.
    if write(&file, text)? == text.len() {
        Ok(())
    } else {
        Err(Errno::IO)
    }
}

/// What [`unshare`] can be asked for.
#[derive(Clone, Copy)]
enum Namespaces {
    Network,
    UserNetworkAndMount,
}

fn unshare(namespaces: Namespaces) -> Result<(), Errno> {
    let flags = match namespaces {
        Namespaces::Network => UnshareFlags::NEWNET,
        Namespaces::UserNetworkAndMount => {
            UnshareFlags::NEWUSER | UnshareFlags::NEWNET | UnshareFlags::NEWNS
        }
    };
    // SAFETY: `unshare_unsafe` asks that no thread sees descriptors of a table that it no longer
    // shares, which only CLONE_FILES could bring about, and that is not among the flags above.
    unsafe { unshare_unsafe(flags) }
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
    const ENTERED: Errno = Errno::CANCELED;
    let mut command = Command::new("/proc/self/exe");
    command
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null());
    enter_before_exec(&mut command, Err(ENTERED));
    match command.spawn() {
        Err(error) if error.raw_os_error() == Some(ENTERED.raw_os_error()) => Ok(()),
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
            return; // The tests of the netlab crate find a way in.
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
