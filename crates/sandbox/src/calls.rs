//! The system calls that are left, as strace(1) names them.
//!
//! `scripts/sandbox.sh` compares these lists with what is really called.

use std::collections::BTreeMap;

use seccompiler::{SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompRule};

/// A system call, and which of its uses are meant.
#[derive(Clone, Copy, Debug)]
pub struct Call {
    constant: &'static str,
    number: i64,
    only: &'static [Only],
}

/// What an argument has to be. Any of those in a row will do; pointers cannot be followed.
#[derive(Clone, Copy, Debug)]
enum Only {
    /// The argument at `index`, masked.
    Is { index: u8, mask: u32, value: u32 },
    /// The first argument is the number of this process.
    OwnProcess,
}

const fn is(index: u8, value: i32) -> Only {
    has(index, -1, value)
}

const fn has(index: u8, mask: i32, value: i32) -> Only {
    let (mask, value) = (mask as u32, value as u32);
    Only::Is { index, mask, value }
}

impl Call {
    /// Its name.
    pub fn name(&self) -> &'static str {
        self.constant.trim_start_matches("SYS_")
    }

    /// Whether only some uses are meant.
    pub fn is_narrowed(&self) -> bool {
        !self.only.is_empty()
    }

    fn rules(&self) -> Result<Vec<SeccompRule>, String> {
        let only = self.only.iter();
        only.map(|only| only.rule().map_err(|error| error.to_string()))
            .collect()
    }
}

impl Only {
    fn rule(self) -> Result<SeccompRule, seccompiler::BackendError> {
        let (index, op, value) = match self {
            Self::Is { index, mask, value } => (index, SeccompCmpOp::MaskedEq(mask.into()), value),
            Self::OwnProcess => (0, SeccompCmpOp::Eq, std::process::id()),
        };
        let length = SeccompCmpArgLen::Dword;
        SeccompRule::new(vec![SeccompCondition::new(
            index,
            length,
            op,
            value.into(),
        )?])
    }
}

/// Calls by the constants of libc, each with what it is narrowed to.
macro_rules! calls {
    ($($constant:ident $([$($only:expr),+])?)*) => {
        &[$(Call {
            constant: stringify!($constant),
            number: libc::$constant,
            only: &[$($($only),+)?],
        }),*]
    };
}

/// `IORING_UNREGISTER_FILES` and `IORING_UNREGISTER_PBUF_RING` of linux/io_uring.h.
const UNREGISTER: [i32; 2] = [3, 23];

/// Names and numbers of interfaces (netdevice(7)); linux/sockios.h.
const SIOCGIFNAME: i32 = 0x8910;
/// The other way.
const SIOCGIFINDEX: i32 = 0x8933;

/// What a worker calls whose engine is open.
pub const WORKER: &[Call] = calls! {
    // Datagrams; the way to a peer by rtnetlink; what the handler of a signal wakes.
    SYS_io_uring_enter SYS_recvmmsg SYS_sendmmsg SYS_recvmsg SYS_sendmsg SYS_recvfrom SYS_sendto
    SYS_ppoll
    // The end of a ring.
    SYS_io_uring_register[is(1, UNREGISTER[0]), is(1, UNREGISTER[1])]
    // Wakes, the log, what a panic says, and whether and how wide a terminal hears of it.
    SYS_read SYS_write SYS_writev SYS_close
    // A descriptor is looked at before it is closed, where Rust's own checks are on.
    SYS_fcntl[is(1, libc::F_GETFD)]
    SYS_ioctl[is(1, libc::TCGETS as i32), is(1, libc::TIOCGWINSZ as i32)]
    // What the thread has used, which decides whether it looks before it sleeps.
    SYS_getrusage[is(0, libc::RUSAGE_THREAD)]
    // The other threads, and clocks that the vDSO does not have.
    SYS_futex SYS_sched_yield SYS_clock_gettime SYS_clock_nanosleep SYS_nanosleep
    SYS_restart_syscall
    // Memory that nothing is executed from.
    SYS_brk SYS_munmap SYS_mremap SYS_madvise SYS_getrandom SYS_sched_getaffinity
    SYS_mmap[has(2, libc::PROT_EXEC, 0)] SYS_mprotect[has(2, libc::PROT_EXEC, 0)]
    // Signals, and the end.
    SYS_rt_sigreturn SYS_rt_sigprocmask SYS_rt_sigaction SYS_sigaltstack SYS_getpid SYS_gettid
    SYS_exit SYS_exit_group SYS_tgkill[Only::OwnProcess] SYS_prctl[is(0, libc::PR_GET_NAME)]
};

/// What a panic tries that is to show where it came from: it fails in a worker, and ends nothing.
pub const SILENT: &[Call] = calls! {
    SYS_openat SYS_getcwd SYS_readlinkat SYS_newfstatat SYS_statx SYS_fstat SYS_lseek
};

/// What the other threads call as well, and workers before their engine is open.
pub const OTHERS: &[Call] = calls! {
    // Threads, and where they run.
    SYS_clone[has(0, libc::CLONE_THREAD, libc::CLONE_THREAD)] SYS_clone3 SYS_rseq
    SYS_set_robust_list SYS_sched_setaffinity SYS_eventfd2
    SYS_prctl[
        is(0, libc::PR_SET_NAME), is(0, libc::PR_SET_TIMERSLACK), is(0, libc::PR_SET_NO_NEW_PRIVS)
    ]
    // Rings, before they are enabled.
    SYS_io_uring_setup SYS_io_uring_register
    // What a worker leaves.
    SYS_capset SYS_seccomp
    // Sockets: of rtnetlink, of signals, of replies by a route with an MTU, of metrics.
    SYS_socket[
        is(0, libc::AF_INET), is(0, libc::AF_INET6), is(0, libc::AF_NETLINK), is(0, libc::AF_UNIX)
    ]
    SYS_socketpair[is(0, libc::AF_UNIX)]
    SYS_bind SYS_connect SYS_getsockname SYS_getsockopt SYS_setsockopt SYS_accept4 SYS_shutdown
    SYS_fcntl
    // The name of an interface and its number; std's way to make a socket non-blocking.
    SYS_ioctl[is(1, SIOCGIFNAME), is(1, SIOCGIFINDEX), is(1, libc::FIONBIO as i32)]
    // Files, of which Landlock leaves few; the kernel's release.
    SYS_pread64 SYS_uname
};

/// What the other threads call in order to hand their sockets over: whose process asks, and at the
/// end the file of the Unix socket is removed.
#[cfg(target_arch = "x86_64")]
pub const TAKEOVER: &[Call] = calls! { SYS_geteuid SYS_unlink };
/// The same, where there is no unlink(2).
#[cfg(not(target_arch = "x86_64"))]
pub const TAKEOVER: &[Call] = calls! { SYS_geteuid SYS_unlinkat };

/// What they call in order to listen at a TCP port that another process still has.
pub const LISTEN: &[Call] = calls! { SYS_listen };

/// Of bpf(2), enum bpf_cmd of linux/bpf.h: maps are read and written, programs attached, all by
/// descriptors that are there. Nothing is loaded or made.
const BPF_MAP_LOOKUP_ELEM: i32 = 1;
const BPF_MAP_UPDATE_ELEM: i32 = 2;
const BPF_MAP_DELETE_ELEM: i32 = 3;
const BPF_LINK_CREATE: i32 = 28;

/// What the other threads call as well where a program in the kernel answers.
pub const ACCELERATED: &[Call] = calls! {
    SYS_bpf[
        is(0, BPF_MAP_LOOKUP_ELEM), is(0, BPF_MAP_UPDATE_ELEM), is(0, BPF_MAP_DELETE_ELEM),
        is(0, BPF_LINK_CREATE)
    ]
};

/// What old programs and C libraries call on this machine, for [`WORKER`].
#[cfg(target_arch = "x86_64")]
pub const WORKER_OLD: &[Call] = calls! { SYS_poll };
/// The same for [`SILENT`].
#[cfg(target_arch = "x86_64")]
pub const SILENT_OLD: &[Call] = calls! { SYS_open SYS_readlink SYS_stat SYS_lstat };
/// None.
#[cfg(not(target_arch = "x86_64"))]
pub const WORKER_OLD: &[Call] = &[];
/// None.
#[cfg(not(target_arch = "x86_64"))]
pub const SILENT_OLD: &[Call] = &[];

/// The rules of a filter about `lists`: a call that is named twice is meant in either use.
///
/// # Errors
/// What the compiler of filters says, of an argument that there is not.
pub fn rules(lists: &[&[Call]]) -> Result<BTreeMap<i64, Vec<SeccompRule>>, String> {
    let mut rules: BTreeMap<i64, Vec<SeccompRule>> = BTreeMap::new();
    for call in lists.iter().copied().flatten() {
        let narrowed = call.rules()?;
        rules
            .entry(call.number)
            .and_modify(|known| {
                // No rule is every use.
                if known.is_empty() || narrowed.is_empty() {
                    known.clear();
                } else {
                    known.extend(narrowed.iter().cloned());
                }
            })
            .or_insert_with(|| narrowed.clone());
    }
    Ok(rules)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_call_that_is_named_twice_is_meant_in_either_use() {
        let rules = rules(&[WORKER, SILENT, OTHERS]).unwrap();
        assert_eq!(rules[&libc::SYS_prctl].len(), 4);
        assert!(rules[&libc::SYS_io_uring_register].is_empty(), "any");
        assert!(rules[&libc::SYS_read].is_empty());
        assert!(!rules.contains_key(&libc::SYS_execve));
        assert!(
            !rules.contains_key(&libc::SYS_bpf),
            "only where it is needed"
        );
    }

    #[test]
    fn calls_have_the_names_that_strace_gives_them() {
        assert_eq!(WORKER[0].name(), "io_uring_enter");
        assert!(!WORKER[0].is_narrowed());
    }
}
