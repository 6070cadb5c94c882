//! Whether io_uring is available here, and what it can do, tried out rather than guessed.
//!
//! A tiny ring with the engine's own flags receives datagrams from an AF_UNIX pair through
//! multishot receives and a buffer ring. No network is involved: a loopback interface that is down
//! must not look like a missing io_uring.

use std::fs;
use std::io;
use std::os::fd::AsFd;
use std::os::unix::net::UnixDatagram;
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use super::uring::{Completion, FdPair, KernelRing, Ring, buffers};
use reflector_measure::clock;
use reflector_measure::host::kernel_release;
use reflector_udp::wake::Wake;

/// Why io_uring is not available, and what would change that.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Blocker {
    /// What is in the way.
    pub what: String,
    /// What to do about it.
    pub remedy: String,
}

/// What a ring can do here, beyond what the engine rests on.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Abilities {
    /// Whether a receive that finds nothing leaves its buffer in the buffer ring. Older kernels,
    /// Linux 6.6 for one, complete it with EAGAIN and count the buffer as used (`io_queue_async`
    /// and `io_req_defer_failed` of io_uring/io_uring.c), so that a few hundred of them would use
    /// up all.
    pub keeps_unused_buffers: bool,
}

/// How long the trial may take, which is a few milliseconds where it works.
const TRIAL_MAX: Duration = Duration::from_secs(3);

/// Tries everything that the engine rests on, and what it can do without.
///
/// # Errors
/// The blocker: no such system call, not permitted, too old, or too little memory to lock.
pub fn probe() -> Result<Abilities, Blocker> {
    // Some time after a ring is closed, the kernel interrupts what its thread is waiting for
    // (io_ring_exit_work of io_uring/io_uring.c); so the ring is not the caller's, but a thread's
    // of its own. Nobody joins that thread: a seccomp profile may end it in the middle, and then
    // it never counts as finished.
    let (sender, result) = mpsc::sync_channel(1);
    let trial = thread::Builder::new().name("probe".to_owned());
    let trial = trial.spawn(move || {
        // Nobody listens any more if it took too long.
        let _ = sender.send(try_out());
    });
    if let Err(error) = trial {
        return Err(blocker(&error));
    }
    match result.recv_timeout(TRIAL_MAX) {
        Ok(tried) => tried.map_err(|error| blocker(&error)),
        Err(_) => Err(Blocker {
            what: "a seccomp profile ends whoever calls it, or a trial ring hangs".into(),
            remedy: "--engine mmsg does without; deploy/seccomp.json allows io_uring".into(),
        }),
    }
}

/// How long locked memory may be short that was another ring's: the kernel gives it back some 15 to
/// 40 ms after the ring was closed (`io_ring_exit_work`).
const SHORT_MAX: Duration = Duration::from_millis(200);

/// Calls `open` until it finds the memory that it has to lock, for a while; pauses at `wake`.
///
/// # Errors
/// What `open` says; `ENOMEM` where memory stays short.
pub fn with_patience<T>(wake: &Wake, open: impl Fn() -> io::Result<T>) -> io::Result<T> {
    const PAUSE: Duration = Duration::from_millis(10);
    let until = clock::monotonic() + SHORT_MAX;
    loop {
        match open() {
            Err(error)
                if error.raw_os_error() == Some(libc::ENOMEM) && clock::monotonic() < until =>
            {
                wake.wait(Some(PAUSE));
            }
            result => return result,
        }
    }
}

fn try_out() -> io::Result<Abilities> {
    let wake = Wake::open()?;
    with_patience(&wake, || try_once(&wake))
}

fn try_once(wake: &Wake) -> io::Result<Abilities> {
    let (receiver, sender) = UnixDatagram::pair()?;
    let pair = FdPair {
        receiver: receiver.as_fd(),
        sender: sender.as_fd(),
    };
    let mut ring = KernelRing::open(&[pair], wake.as_fd(), buffers::carve(1)?, 1, true)?;
    ring.arm_receive(0);
    enter(&mut ring, false)?;
    sender.send(b"probe")?;
    enter(&mut ring, true)?;
    match ring.reap() {
        Some(Completion::Received {
            result: Ok((id, len)),
            has_ended: false,
            ..
        }) => {
            let lease = ring.take(id);
            let (_, payload) = buffers::parse(&lease, len);
            if &lease.buffer()[payload.start as usize..payload.end as usize] != b"probe" {
                return Err(io::ErrorKind::InvalidData.into());
            }
            ring.recycle(lease);
            ring.commit();
        }
        Some(Completion::Received {
            result: Err(errno), ..
        }) => return Err(io::Error::from_raw_os_error(errno)),
        _ => return Err(io::ErrorKind::Unsupported.into()),
    }
    ring.disarm(0);
    enter(&mut ring, false)?;
    Ok(Abilities {
        keeps_unused_buffers: !receives(&mut ring)? && {
            sender.send(b"probe")?;
            receives(&mut ring)?
        },
    })
}

/// Whether there is something to receive, into the one buffer of the ring.
fn receives(ring: &mut KernelRing) -> io::Result<bool> {
    while ring.reap().is_some() {}
    ring.receive(0);
    enter(ring, false)?;
    let completion = ring.reap();
    Ok(matches!(
        completion,
        Some(Completion::Received { result: Ok(_), .. })
    ))
}

/// A signal that happens to arrive is no blocker.
fn enter(ring: &mut KernelRing, wait: bool) -> io::Result<()> {
    loop {
        match ring.enter(wait) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            result => return result,
        }
    }
}

/// Names the blocker behind an error of set-up. EPERM and EINVAL have several causes, which /proc
/// tells apart.
pub fn blocker(error: &io::Error) -> Blocker {
    match error.raw_os_error() {
        Some(libc::EPERM | libc::EACCES) => not_permitted(),
        Some(libc::ENOSYS) => Blocker {
            what: "the kernel has no io_uring, or a seccomp profile hides it (ENOSYS)".into(),
            remedy: "run a kernel with CONFIG_IO_URING, or allow io_uring_setup, io_uring_enter \
                     and io_uring_register in the seccomp profile (deploy/seccomp.json does)"
                .into(),
        },
        Some(libc::EINVAL) => Blocker {
            what: format!("the kernel is too old (Linux {}, EINVAL)", kernel_release()),
            remedy: "io_uring is used from Linux 6.1 on".into(),
        },
        Some(libc::ENOMEM) => Blocker {
            what: "the limit on locked memory is too low for a ring (ENOMEM)".into(),
            remedy: "raise it: `ulimit -l unlimited`, LimitMEMLOCK=infinity, or \
                     --ulimit memlock=-1"
                .into(),
        },
        _ => Blocker {
            what: format!("a trial ring failed: {error}"),
            remedy: "--engine mmsg does without".into(),
        },
    }
}

fn not_permitted() -> Blocker {
    let sysctl = fs::read_to_string("/proc/sys/kernel/io_uring_disabled").unwrap_or_default();
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    not_permitted_by(sysctl.trim(), &status)
}

/// The blocker behind EPERM, from the sysctl's value and /proc/self/status.
fn not_permitted_by(sysctl: &str, status: &str) -> Blocker {
    let is_filtered = status
        .lines()
        .filter_map(|line| line.strip_prefix("Seccomp:"))
        .any(|mode| mode.trim() == "2");
    match sysctl {
        "2" => Blocker {
            what: "kernel.io_uring_disabled is 2 (EPERM)".into(),
            remedy: "`sysctl -w kernel.io_uring_disabled=0` allows it".into(),
        },
        "1" if !is_filtered => Blocker {
            what: "kernel.io_uring_disabled is 1 (EPERM)".into(),
            remedy: "`sysctl -w kernel.io_uring_disabled=0` allows it; so does membership in \
                     kernel.io_uring_group, or CAP_SYS_ADMIN"
                .into(),
        },
        _ if is_filtered => Blocker {
            what: "a seccomp profile refuses it (EPERM), as those of Docker, containerd and \
                   Podman do by default"
                .into(),
            remedy: "run the container with --security-opt seccomp=deploy/seccomp.json".into(),
        },
        _ => Blocker {
            what: "it is not permitted (EPERM), perhaps by a security module".into(),
            remedy: "look for a denial in the audit log".into(),
        },
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use super::*;

    #[test]
    fn eperm_is_told_apart_by_sysctl_and_seccomp() {
        let plain = "Name:\treflector\nSeccomp:\t0\n";
        let filtered = "Name:\treflector\nSeccomp:\t2\nSeccomp_filters:\t1\n";
        assert!(
            not_permitted_by("2", filtered)
                .what
                .contains("io_uring_disabled is 2")
        );
        assert!(
            not_permitted_by("1", plain)
                .what
                .contains("io_uring_disabled is 1")
        );
        assert!(not_permitted_by("0", filtered).what.contains("seccomp"));
        assert!(not_permitted_by("", filtered).what.contains("seccomp"));
        assert!(
            not_permitted_by("0", plain)
                .what
                .contains("security module")
        );
    }

    #[test]
    fn memory_that_is_short_for_a_moment_is_waited_for() {
        let short = || Err(io::Error::from_raw_os_error(libc::ENOMEM));
        let wake = Wake::open().unwrap();
        let tries = Cell::new(0);
        let third = with_patience(&wake, || match tries.replace(tries.get() + 1) {
            2 => Ok(()),
            _ => short(),
        });
        assert!(third.is_ok() && tries.get() == 3);
        assert!(with_patience(&wake, short as fn() -> io::Result<()>).is_err());
        let refused = with_patience(&wake, || -> io::Result<()> {
            tries.set(tries.get() + 1);
            Err(io::Error::from_raw_os_error(libc::EPERM))
        });
        assert!(
            refused.is_err() && tries.get() == 4,
            "it is not tried again"
        );
    }

    #[test]
    fn every_errno_has_a_remedy() {
        for errno in [
            libc::EPERM,
            libc::ENOSYS,
            libc::EINVAL,
            libc::ENOMEM,
            libc::EMFILE,
        ] {
            let blocker = blocker(&io::Error::from_raw_os_error(errno));
            assert!(!blocker.what.is_empty() && !blocker.remedy.is_empty());
        }
    }
}
