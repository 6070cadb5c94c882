//! The CPU quota of this process's cgroup (cgroup-v2.rst, `cpu.max`; sched-bwc.rst for version 1).

use std::fs;
use std::path::{Path, PathBuf};

/// The smallest quota of this process's cgroup and those above it, in CPUs. On a host with cgroups
/// of both versions the controller is in one of them.
pub fn cpu_quota() -> Option<f64> {
    let read = |path: &Path| fs::read_to_string(path).ok();
    quota(read)
}

/// The same, of files as `read` finds them.
fn quota(read: impl Fn(&Path) -> Option<String>) -> Option<f64> {
    let cgroups = read(Path::new("/proc/self/cgroup"))?;
    let mounts = read(Path::new("/proc/self/mountinfo"))?;
    let hierarchies = mounts.lines().filter_map(Hierarchy::parse);
    let quotas = hierarchies.filter_map(|hierarchy| {
        let directory = hierarchy.directory_of(&cgroups)?;
        let up = directory.ancestors();
        up.take_while(|it| it.starts_with(&hierarchy.mount))
            .filter_map(|it| hierarchy.quota_at(it, &read))
            .reduce(f64::min)
    });
    quotas.reduce(f64::min)
}

/// A mounted tree of cgroups that may limit CPU time.
struct Hierarchy {
    is_version_1: bool,
    /// The cgroup that is seen at `mount`: that of a container, if it has no cgroup namespace.
    root: PathBuf,
    mount: PathBuf,
}

impl Hierarchy {
    /// From a line of mountinfo (proc(5)), if it is one.
    fn parse(line: &str) -> Option<Self> {
        let (place, kind) = line.split_once(" - ")?;
        let mut place = place.split(' ').skip(3).map(PathBuf::from);
        let mut kind = kind.split(' ');
        let is_version_1 = match kind.next()? {
            "cgroup" => true,
            "cgroup2" => false,
            _ => return None,
        };
        let has_cpu = kind.nth(1)?.split(',').any(|option| option == "cpu");
        (has_cpu || !is_version_1).then_some(Self {
            is_version_1,
            root: place.next()?,
            mount: place.next()?,
        })
    }

    /// Where the files are of the process whose /proc/PID/cgroup is `cgroups`.
    fn directory_of(&self, cgroups: &str) -> Option<PathBuf> {
        let path = cgroups.lines().find_map(|line| {
            let mut parts = line.splitn(3, ':').skip(1);
            let controllers = parts.next()?;
            let is_it = if self.is_version_1 {
                controllers.split(',').any(|it| it == "cpu")
            } else {
                controllers.is_empty()
            };
            is_it.then(|| parts.next())?
        })?;
        // A cgroup outside of what is mounted has its limits at the mount, as far as they show.
        let below = Path::new(path)
            .strip_prefix(&self.root)
            .unwrap_or(Path::new(""));
        Some(self.mount.join(below))
    }

    fn quota_at(&self, directory: &Path, read: impl Fn(&Path) -> Option<String>) -> Option<f64> {
        if self.is_version_1 {
            let quota = read(&directory.join("cpu.cfs_quota_us"))?;
            parse(&quota, &read(&directory.join("cpu.cfs_period_us"))?)
        } else {
            let limits = read(&directory.join("cpu.max"))?;
            let (quota, period) = limits.split_once(' ')?;
            parse(quota, period)
        }
    }
}

/// Quota by period; there is none where the quota is `max` or -1.
fn parse(quota: &str, period: &str) -> Option<f64> {
    let quota: f64 = quota.trim().parse().ok()?;
    let period: f64 = period.trim().parse().ok()?;
    (quota >= 0.0).then_some(quota / period)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The quota where these files, by their paths, are all there is.
    fn quota_of(files: &[(&str, &str)]) -> Option<f64> {
        quota(|path| {
            let file = files.iter().find(|(name, _)| Path::new(name) == path);
            Some(file?.1.to_owned())
        })
    }

    const CGROUP: &str = "/proc/self/cgroup";
    const MOUNTS: &str = "/proc/self/mountinfo";
    const V1: &str = "33 31 0:29 / /sys/fs/cgroup/cpu,cpuacct rw - cgroup cgroup rw,cpu,cpuacct\n";
    const CPUSET: &str = "34 31 0:30 / /sys/fs/cgroup/cpuset rw - cgroup cgroup rw,cpuset\n";
    const HYBRID: &str = "35 31 0:31 / /sys/fs/cgroup/unified rw shared:9 - cgroup2 cgroup2 rw\n";
    const V2: &str = "31 23 0:28 / /sys/fs/cgroup rw,nosuid shared:4 - cgroup2 cgroup2 rw\n";

    #[test]
    fn the_smallest_quota_up_the_tree_counts_in_both_versions() {
        let v1 = |own: &str, above: &str| {
            quota_of(&[
                (CGROUP, "4:cpuset:/\n2:cpu,cpuacct:/a/b\n0::/a\n"),
                (MOUNTS, &[CPUSET, V1, HYBRID].concat()),
                ("/sys/fs/cgroup/cpu,cpuacct/a/b/cpu.cfs_quota_us", own),
                (
                    "/sys/fs/cgroup/cpu,cpuacct/a/b/cpu.cfs_period_us",
                    "100000\n",
                ),
                ("/sys/fs/cgroup/cpu,cpuacct/a/cpu.cfs_quota_us", above),
                ("/sys/fs/cgroup/cpu,cpuacct/a/cpu.cfs_period_us", "50000\n"),
            ])
        };
        assert_eq!(v1("150000\n", "-1\n"), Some(1.5));
        assert_eq!(v1("150000\n", "25000\n"), Some(0.5));
        assert_eq!(v1("-1\n", "25000\n"), Some(0.5));
        assert_eq!(v1("-1\n", "-1\n"), None);
        let v2 = |own: &str, above: &str| {
            quota_of(&[
                (CGROUP, "0::/a/b\n"),
                (MOUNTS, V2),
                ("/sys/fs/cgroup/a/b/cpu.max", own),
                ("/sys/fs/cgroup/a/cpu.max", above),
            ])
        };
        assert_eq!(v2("150000 100000\n", "max 100000\n"), Some(1.5));
        assert_eq!(v2("max 100000\n", "25000 50000\n"), Some(0.5));
        assert_eq!(v2("max 100000\n", "max 100000\n"), None);
        assert_eq!(v2("", ""), None);
    }

    /// Without a cgroup namespace a container is told its path on the host, and sees its own cgroup
    /// alone, at the place of the root.
    #[test]
    fn a_container_finds_its_own_cgroup() {
        let own = "33 31 0:29 /docker/1f /sys/fs/cgroup/cpu ro - cgroup cgroup rw,cpu\n";
        for path in ["2:cpu:/docker/1f\n", "2:cpu:/../elsewhere\n", "2:cpu:/\n"] {
            let files = [
                (CGROUP, path),
                (MOUNTS, own),
                ("/sys/fs/cgroup/cpu/cpu.cfs_quota_us", "200000\n"),
                ("/sys/fs/cgroup/cpu/cpu.cfs_period_us", "100000\n"),
            ];
            assert_eq!(quota_of(&files), Some(2.0), "{path}");
        }
    }

    #[test]
    fn no_cgroup_no_quota() {
        assert_eq!(quota_of(&[]), None);
        assert_eq!(
            quota_of(&[(CGROUP, "0::/\n"), (MOUNTS, "nonsense\n")]),
            None
        );
        assert_eq!(quota_of(&[(CGROUP, "nonsense\n"), (MOUNTS, V2)]), None);
    }
}
