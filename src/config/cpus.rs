//! Which CPUs the workers run on.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use core_affinity::CoreId;
use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};

use super::neighbours;
use reflector_measure::error::Error;

/// One entry per worker: the CPU that it is pinned to, if to any.
///
/// # Errors
/// No worker at all, or a CPU in `cpus` that the kernel does not let this process run on.
pub fn workers(
    cores: Option<u16>,
    cpus: Option<&[usize]>,
    notes: &mut Vec<String>,
) -> Result<Vec<Option<CoreId>>, Error> {
    if cores == Some(0) || cpus.is_some_and(<[usize]>::is_empty) {
        return Err(Error::usage(
            "cannot run without a worker",
            "--cores takes 1 or more, --cpus a list of CPUs",
        ));
    }
    let allowed = core_affinity::get_core_ids().unwrap_or_default();
    if let Some(cpus) = cpus {
        return on_cpus(cpus, &allowed, notes);
    }
    let quota = std::thread::available_parallelism().map_or(1, usize::from);
    if allowed.is_empty() {
        let count = cores.map_or(quota, usize::from);
        notes.push(format!(
            "the CPUs of this process cannot be read (sched_getaffinity), perhaps for a \
             seccomp profile: {count} workers run, not pinned"
        ));
        return Ok(vec![None; count]);
    }
    let Some(count) = cores.map(usize::from) else {
        if quota < allowed.len() {
            notes.push(format!(
                "the cgroup's quota allows {quota} of {} CPUs: the workers are not pinned, so \
                 that containers do not meet on the same cores; --cpus pins them",
                allowed.len()
            ));
            return Ok(vec![None; quota]);
        }
        return Ok(allowed.into_iter().map(Some).collect());
    };
    note_sharing(count, allowed.len(), notes);
    let chosen = match count < allowed.len() {
        true => free_first(allowed, &neighbours::pinned(Path::new("/proc"))),
        false => allowed,
    };
    Ok((0..count)
        .map(|worker| chosen.get(worker % chosen.len()).copied())
        .collect())
}

/// The CPUs in the order in which they are taken, where not all are: those first that the fewest
/// neighbours have `pinned` their workers to.
fn free_first(mut allowed: Vec<CoreId>, pinned: &BTreeMap<usize, usize>) -> Vec<CoreId> {
    allowed.sort_by_key(|core| pinned.get(&core.id).copied().unwrap_or(0));
    allowed
}

fn on_cpus(
    cpus: &[usize],
    allowed: &[CoreId],
    notes: &mut Vec<String>,
) -> Result<Vec<Option<CoreId>>, Error> {
    // A mask may be narrower than what the kernel allows: with isolated CPUs it is by default.
    let is_missing = |&&cpu: &&usize| !allowed.iter().any(|it| it.id == cpu) && !takes_us(cpu);
    if let Some(missing) = cpus.iter().find(is_missing) {
        let list: Vec<_> = allowed.iter().map(|core| core.id.to_string()).collect();
        return Err(Error::usage(
            format!("cannot run on CPU {missing}"),
            format!("this process may use CPUs {}", list.join(",")),
        ));
    }
    let distinct: BTreeSet<_> = cpus.iter().collect();
    note_sharing(cpus.len(), distinct.len(), notes);
    Ok(cpus.iter().map(|&id| Some(CoreId { id })).collect())
}

/// Whether the kernel lets this thread run on `cpu`, tried.
fn takes_us(cpu: usize) -> bool {
    let Ok(before) = sched_getaffinity(None) else {
        return false;
    };
    if cpu >= CpuSet::MAX_CPU {
        return false;
    }
    let mut only = CpuSet::new();
    only.set(cpu);
    let is_taken = sched_setaffinity(None, &only).is_ok();
    // Where nothing was changed, nothing is to be restored.
    is_taken && sched_setaffinity(None, &before).is_ok()
}

fn note_sharing(workers: usize, cpus: usize, notes: &mut Vec<String>) {
    if workers > cpus {
        let s = if cpus == 1 { "" } else { "s" };
        notes.push(format!(
            "{workers} workers share {cpus} CPU{s}: they take turns, which costs latency"
        ));
    }
}

#[cfg(test)]
mod tests {
    use seccompiler::{BpfProgram, SeccompAction, SeccompFilter};

    use super::*;

    #[test]
    fn a_cpu_that_is_not_ours_is_refused() {
        let error = workers(None, Some(&[4000]), &mut Vec::new()).unwrap_err();
        assert!(error.is_usage());
        let said = error.to_string();
        assert!(
            said.starts_with("cannot run on CPU 4000: this process may"),
            "{said}"
        );
    }

    #[test]
    fn workers_leave_cpus_to_their_neighbours() {
        let all = [0, 1, 2, 5].map(|id| CoreId { id });
        let order = |pinned: &[(usize, usize)]| {
            let pinned = pinned.iter().copied().collect();
            let order = free_first(all.to_vec(), &pinned);
            order.iter().map(|core| core.id).collect::<Vec<_>>()
        };
        assert_eq!(order(&[]), [0, 1, 2, 5]);
        assert_eq!(order(&[(0, 1)]), [1, 2, 5, 0]);
        assert_eq!(order(&[(0, 2), (1, 1), (5, 1), (7, 1)]), [2, 1, 5, 0]);
    }

    #[test]
    fn a_cpu_outside_the_mask_is_tried() {
        // A mask is of its thread.
        let thread = std::thread::spawn(|| {
            let allowed = core_affinity::get_core_ids().unwrap();
            let (first, last) = (allowed[0], *allowed.last().unwrap());
            assert!(core_affinity::set_for_current(first));
            let narrow = sched_getaffinity(None).unwrap();
            let found = workers(None, Some(&[last.id]), &mut Vec::new()).unwrap();
            assert_eq!(found, [Some(last)]);
            assert_eq!(sched_getaffinity(None).unwrap(), narrow, "as before");
        });
        thread.join().unwrap();
    }

    /// A container's seccomp profile may refuse it.
    #[test]
    fn workers_run_unpinned_where_the_cpus_cannot_be_read() {
        let refuse = SeccompFilter::new(
            [(libc::SYS_sched_getaffinity, vec![])].into(),
            SeccompAction::Allow,
            SeccompAction::Errno(libc::EPERM as u32),
            std::env::consts::ARCH.try_into().unwrap(),
        );
        let refuse = BpfProgram::try_from(refuse.unwrap()).unwrap();
        let unpinned = |cores: Option<u16>| {
            let refuse = &refuse;
            // A filter stays with its thread.
            let thread = move || {
                seccompiler::apply_filter(refuse).unwrap();
                let mut notes = Vec::new();
                let workers = workers(cores, None, &mut notes).unwrap();
                assert!(notes[0].starts_with("the CPUs"), "{notes:?}");
                workers
            };
            std::thread::scope(|scope| scope.spawn(thread).join().unwrap())
        };
        assert_eq!(unpinned(Some(3)), [None; 3]);
        let by_default = unpinned(None);
        assert!(!by_default.is_empty());
        assert!(by_default.iter().all(Option::is_none));
    }

    #[test]
    fn more_workers_than_cpus_run_with_a_warning() {
        let mut notes = Vec::new();
        let workers = workers(Some(1000), None, &mut notes).unwrap();
        assert_eq!(workers.len(), 1000);
        assert!(notes[0].contains("1000 workers share"));
    }
}
