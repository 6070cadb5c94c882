//! Which CPUs the workers run on.

use std::collections::BTreeSet;

use core_affinity::CoreId;

use reflector_measure::error::Error;

/// One entry per worker: the CPU that it is pinned to, if to any.
///
/// # Errors
/// No worker at all, or a CPU in `cpus` that this process may not run on.
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
    Ok((0..count)
        .map(|worker| allowed.get(worker % allowed.len()).copied())
        .collect())
}

fn on_cpus(
    cpus: &[usize],
    allowed: &[CoreId],
    notes: &mut Vec<String>,
) -> Result<Vec<Option<CoreId>>, Error> {
    let is_missing = |cpu: &&usize| !allowed.iter().any(|it| it.id == **cpu);
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
