//! Seccomp filters: what is not in a list of [`calls`](crate::calls) is refused.

use std::collections::BTreeMap;
use std::env::consts::ARCH;

use seccompiler::{
    BpfProgram, SeccompAction, SeccompFilter, SeccompRule, TargetArch, apply_filter,
};

use crate::calls::{
    ACCELERATED, LISTEN, OTHERS, SILENT, SILENT_OLD, TAKEOVER, WORKER, WORKER_OLD, rules,
};
use crate::needs::Needs;

type Rules = BTreeMap<i64, Vec<SeccompRule>>;

/// The filter of every thread from now on: what neither is listed nor in `needs` fails with EPERM.
///
/// # Errors
/// What the kernel said, or that there is no filter for this machine.
pub fn apply_to_all(needs: &Needs) -> Result<(), String> {
    let mut lists = vec![WORKER, WORKER_OLD, SILENT, SILENT_OLD, OTHERS];
    if needs.takeover.is_some() {
        lists.push(TAKEOVER);
    }
    if needs.listen.is_some() {
        lists.push(LISTEN);
    }
    if needs.is_accelerated {
        lists.push(ACCELERATED);
    }
    let allowed = rules(&lists)?;
    let refused = SeccompAction::Errno(libc::EPERM as u32);
    // The arguments of clone3 are in memory, where no filter looks; without it the C library makes
    // threads by clone.
    let unknown = SeccompAction::Errno(libc::ENOSYS as u32);
    apply(
        Rules::from([(libc::SYS_clone3, vec![])]),
        unknown,
        SeccompAction::Allow,
    )?;
    apply(allowed, SeccompAction::Allow, refused)
}

/// The filter of a worker: what is not listed is trapped, but for what a panic tries, which fails.
///
/// # Errors
/// As [`apply_to_all`].
pub fn apply_to_worker() -> Result<(), String> {
    let allowed = rules(&[WORKER, WORKER_OLD, SILENT, SILENT_OLD])?;
    let failing = rules(&[SILENT, SILENT_OLD])?;
    // Of two filters the stricter one decides (seccomp(2)).
    let refused = SeccompAction::Errno(libc::EACCES as u32);
    apply(failing, refused, SeccompAction::Allow)?;
    apply(allowed, SeccompAction::Allow, SeccompAction::Trap)
}

/// Does `listed` to the calls of `rules`, and `others` to all others, on the calling thread and
/// those that it starts.
fn apply(rules: Rules, listed: SeccompAction, others: SeccompAction) -> Result<(), String> {
    let machine =
        TargetArch::try_from(ARCH).map_err(|_| format!("there is no seccomp filter for {ARCH}"))?;
    let program = SeccompFilter::new(rules, others, listed, machine)
        .and_then(BpfProgram::try_from)
        .map_err(|error| error.to_string())?;
    apply_filter(&program).map_err(|error| error.to_string())
}
