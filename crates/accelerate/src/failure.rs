//! Why the program could not be loaded or attached, and what to try.

use std::io;

use reflector_measure::error::Error;
use rustix::io::Errno;
use rustix::thread::{CapabilitySet, capabilities};

/// Older kernels have no tcx. A filter of clsact in its place would outlive a SIGKILL.
const OLDEST: (u32, u32) = (6, 6);

/// Says so where the kernel is too old.
///
/// # Errors
/// The kernel's release, where it is older than [`OLDEST`].
pub fn check_kernel() -> Result<(), Error> {
    let release = rustix::system::uname();
    let release = release.release().to_string_lossy();
    if is_old(&release) {
        let said = format!("this kernel is Linux {release}, and tcx came with 6.6");
        return Err(Error::new("cannot answer in the kernel", said)
            .try_this("without --accelerate the sockets answer everything"));
    }
    Ok(())
}

/// Whether `release` is surely older; one that cannot be read is tried.
fn is_old(release: &str) -> bool {
    let mut numbers = release.split(|it: char| !it.is_ascii_digit());
    let mut next = || numbers.next().and_then(|it| it.parse().ok());
    matches!((next(), next()), (Some(major), Some(minor)) if (major, minor) < OLDEST)
}

/// What was `attempted` failed, as aya says.
pub fn of(attempted: impl Into<String>, said: &(dyn std::error::Error + 'static)) -> Error {
    let error = Error::new(attempted, sentence(said));
    match errno(said) {
        Some(Errno::PERM | Errno::ACCESS) => error.try_this(rights()),
        // The verifier's word for some of what it refuses without that right.
        Some(Errno::INVAL) if !has_perfmon(own_rights()) => error.try_this(OLDER_WANTS),
        _ => error,
    }
}

/// Two rights were tried on Linux 6.18. Older ones refuse what newer ones guard against.
const OLDER_WANTS: &str = "a kernel older than Linux 6.18 may want CAP_PERFMON as well";

/// CAP_SYS_ADMIN stands for it.
fn has_perfmon(rights: CapabilitySet) -> bool {
    rights.intersects(CapabilitySet::PERFMON | CapabilitySet::SYS_ADMIN)
}

fn own_rights() -> CapabilitySet {
    capabilities(None).map_or(CapabilitySet::empty(), |own| own.effective)
}

/// The same of what writes to a map, and what to say where that is full: a hash says E2BIG then, a
/// tree of prefixes ENOSPC.
pub fn of_full(
    attempted: impl Into<String>,
    said: &(dyn std::error::Error + 'static),
    full: &str,
) -> Error {
    let error = of(attempted, said);
    match errno(said) {
        Some(Errno::TOOBIG | Errno::NOSPC) => error.try_this(full),
        _ => error,
    }
}

/// What is missing of the rights, and how to give it.
fn rights() -> String {
    let needed = [
        (CapabilitySet::BPF, "CAP_BPF"),
        (CapabilitySet::NET_ADMIN, "CAP_NET_ADMIN"),
    ];
    let own = own_rights();
    let missing: Vec<_> = (needed.iter())
        .filter(|(it, _)| !own.contains(*it))
        .map(|(_, name)| *name)
        .collect();
    if missing.is_empty() {
        let there = "CAP_BPF and CAP_NET_ADMIN are there, but count in the first user namespace \
                     only, and a seccomp profile may refuse bpf(2)";
        return match has_perfmon(own) {
            true => there.to_owned(),
            false => format!("{there}; {OLDER_WANTS}"),
        };
    }
    format!(
        "{} missing: run as root, give the program CAP_BPF and CAP_NET_ADMIN \
         (AmbientCapabilities= of systemd, --cap-add of Docker), or go without --accelerate",
        match missing.as_slice() {
            [one] => format!("{one} is"),
            all => format!("{} are", all.join(" and ")),
        }
    )
}

/// The error and its causes, without the verifier's log, which is long.
fn sentence(error: &(dyn std::error::Error + 'static)) -> String {
    let mut said = first_line(&error.to_string());
    let mut cause = error.source();
    while let Some(error) = cause {
        let line = first_line(&error.to_string());
        if !said.contains(&line) {
            said = format!("{said}: {line}");
        }
        cause = error.source();
    }
    said
}

fn first_line(text: &str) -> String {
    text.lines().next().unwrap_or_default().to_owned()
}

/// The error number among the causes.
fn errno(error: &(dyn std::error::Error + 'static)) -> Option<Errno> {
    let mut next = Some(error);
    while let Some(error) = next {
        let number = error.downcast_ref::<io::Error>();
        if let Some(number) = number.and_then(io::Error::raw_os_error) {
            return Some(Errno::from_raw_os_error(number));
        }
        next = error.source();
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kernels_without_tcx_are_told() {
        for release in ["5.15.0-91-generic", "6.5.13", "6.1.0-18-amd64"] {
            assert!(is_old(release), "{release}");
        }
        for release in ["6.6.0", "6.18.44", "7.0-rc1", "unreadable"] {
            assert!(!is_old(release), "{release}");
        }
    }

    #[test]
    fn an_error_number_is_found_among_the_causes() {
        let error = io::Error::from_raw_os_error(1);
        assert_eq!(errno(&error), Some(Errno::PERM));
        assert_eq!(errno(&io::Error::other("none")), None);
    }
}
