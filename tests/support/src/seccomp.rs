//! The program under test under seccomp filters.

use std::collections::BTreeMap;
use std::env::consts::ARCH;
use std::process::{Child, Command};

use reflector_netlab::topology::Namespace;
use seccompiler::{
    BpfProgram, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompFilter,
    SeccompRule, apply_filter,
};

/// Starts `command` in `namespace` under a filter that does `action` to each of `calls`.
///
/// A filter is the thread's and what it starts, for good; the thread here is the namespace's and
/// ends with the call.
pub fn spawn_without(
    namespace: &Namespace,
    calls: &[i64],
    action: SeccompAction,
    command: Command,
) -> Child {
    let rules = calls.iter().map(|&call| (call, Vec::new()));
    spawn_under(namespace, rules, action, command)
}

/// The same where `rules` say which of the calls.
pub fn spawn_under(
    namespace: &Namespace,
    rules: impl IntoIterator<Item = (i64, Vec<SeccompRule>)> + Send,
    action: SeccompAction,
    mut command: Command,
) -> Child {
    namespace.run(|| {
        apply(rules, action);
        command.spawn().expect("the program starts")
    })
}

/// Starts `command` in `namespace` so that it gets no thread besides its first, as where
/// `RLIMIT_NPROC` or `pids.max` is reached.
pub fn spawn_without_threads(namespace: &Namespace, mut command: Command) -> Child {
    let is_thread = SeccompCmpOp::MaskedEq(libc::CLONE_THREAD as u64);
    let flags = libc::CLONE_THREAD as u64;
    let is_thread = SeccompCondition::new(0, SeccompCmpArgLen::Qword, is_thread, flags);
    let is_thread = SeccompRule::new(vec![is_thread.expect("an argument that there is")]);
    let rule = (
        libc::SYS_clone,
        vec![is_thread.expect("it has a condition")],
    );
    namespace.run(|| {
        // Its arguments are in memory, where no filter looks; without it clone(2) is made.
        apply(
            [(libc::SYS_clone3, Vec::new())],
            SeccompAction::Errno(libc::ENOSYS as u32),
        );
        apply([rule], SeccompAction::Errno(libc::EAGAIN as u32));
        command.spawn().expect("the program starts")
    })
}

/// Has the kernel refuse one socket option to the calling thread, and to what it starts, for good,
/// as one that does not know it would.
pub fn refuse_option(level: i32, option: i32) {
    answer_option(level, option, libc::EOPNOTSUPP);
}

/// Has the kernel accept one socket option and do nothing, in the same way.
pub fn ignore_option(level: i32, option: i32) {
    answer_option(level, option, 0);
}

fn answer_option(level: i32, option: i32, errno: i32) {
    let is = |index, value: i32| {
        let (len, value) = (SeccompCmpArgLen::Dword, value as u64);
        SeccompCondition::new(index, len, SeccompCmpOp::Eq, value).expect("such an argument")
    };
    let is_option = SeccompRule::new(vec![is(1, level), is(2, option)]);
    let rule = (
        libc::SYS_setsockopt,
        vec![is_option.expect("it has conditions")],
    );
    apply([rule], SeccompAction::Errno(errno as u32));
}

/// Puts the calling thread, and what it starts, under a filter.
fn apply(rules: impl IntoIterator<Item = (i64, Vec<SeccompRule>)>, action: SeccompAction) {
    let filter = SeccompFilter::new(
        BTreeMap::from_iter(rules),
        SeccompAction::Allow,
        action,
        ARCH.try_into().expect("seccompiler knows this machine"),
    );
    let program: BpfProgram = filter
        .and_then(TryInto::try_into)
        .expect("the filter is a few rules");
    apply_filter(&program).expect("no_new_privs makes filters everybody's right");
}
