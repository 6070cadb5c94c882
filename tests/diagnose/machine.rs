//! Without a target: the checks of the machine.

mod network;

use std::fs;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{self, Command};
use std::thread;

use reflector_netlab::topology::{DockerHost, Namespace, in_namespaces, skip};
use serde_json::Value;

use super::{diagnose, run};
use reflector_testkit::{command, io_uring, program};

/// The check of that name, as `diagnose --json` says it in `namespace`.
fn check(namespace: &Namespace, name: &str) -> Value {
    let (exit, object) = diagnose(namespace, &[]);
    let checks = object["checks"].as_array().unwrap();
    let check = checks.iter().find(|check| check["name"] == name);
    let check = check
        .unwrap_or_else(|| panic!("no {name}: {object}"))
        .clone();
    assert!(check["is_ok"] == true || exit == 1, "{object}");
    check
}

/// What people read fits 80 columns.
#[track_caller]
fn assert_fits(namespace: &Namespace) {
    let text = String::from_utf8(run(namespace, &[]).stdout).unwrap();
    let mut lines = text.lines();
    assert!(lines.all(|line| line.chars().count() <= 80), "{text}");
}

/// It hinders, and says `found` and `remedy` of it.
#[track_caller]
fn assert_warns(check: &Value, found: &str, remedy: &str) {
    assert_eq!(check["is_ok"], false, "{check}");
    for (key, wanted) in [("found", found), ("remedy", remedy)] {
        assert!(check[key].as_str().unwrap().contains(wanted), "{check}");
    }
}

#[test]
fn a_machine_is_checked_and_what_hinders_is_named() {
    in_namespaces(
        "machine::a_machine_is_checked_and_what_hinders_is_named",
        || {
            let docker = DockerHost::new().unwrap();
            let (exit, object) = diagnose(&docker.host, &[]);
            assert_eq!(object["type"], "machine");
            let checks = object["checks"].as_array().unwrap();
            let is_ok = checks.iter().all(|check| check["is_ok"] == true);
            assert_eq!(
                (exit, &object["is_ok"]),
                (i32::from(!is_ok), &is_ok.into()),
                "{object}"
            );
            for check in checks {
                assert_eq!(check["is_ok"] == true, check["remedy"].is_null(), "{check}");
            }
            let found = |name: &str| {
                let check = checks.iter().find(|check| check["name"] == name);
                check.unwrap()["found"].as_str().unwrap()
            };
            assert!(found("kernel").starts_with("Linux "));
            assert!(found("GRO of interfaces").contains("docker0"));
            assert!(found("SO_REUSEPORT").contains("two sockets"));
            assert!(found("UDP_GRO, UDP_SEGMENT").contains("passed whole"));

            let output = run(&docker.host, &[]);
            let text = String::from_utf8(output.stdout).unwrap();
            assert_eq!(output.status.code(), Some(exit));
            assert_fits(&docker.host);
            assert!(
                text.starts_with("ok ") || text.starts_with("warn "),
                "{text}"
            );
        },
    );
}

/// A seccomp profile like Docker's refuses io_uring; the check names it.
#[test]
fn a_seccomp_profile_that_hinders_is_named() {
    use seccompiler::{SeccompAction, SeccompFilter, apply_filter};
    let refuse = [(libc::SYS_io_uring_setup, Vec::new())].into();
    let filter = SeccompFilter::new(
        refuse,
        SeccompAction::Allow,
        SeccompAction::Errno(libc::EPERM as u32),
        std::env::consts::ARCH.try_into().unwrap(),
    );
    let program: seccompiler::BpfProgram = filter.unwrap().try_into().unwrap();
    // The filter is of the thread and what it starts.
    let output = thread::spawn(move || {
        apply_filter(&program).unwrap();
        command(&["diagnose"]).output().unwrap()
    });
    let output = output.join().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    assert_eq!(output.status.code(), Some(1), "{text}");
    let line = text
        .lines()
        .find(|line| line.starts_with("warn  io_uring"))
        .unwrap();
    assert!(line.contains("blocked"), "{line}");
    assert!(
        text.contains("try: run the container with --security-opt"),
        "{text}"
    );
    assert!(text.contains("hindered: io_uring"), "{text}");
}

/// A cgroup of its own, gone when dropped; its limits are those of the version that has `cpu` here.
struct Cgroup(PathBuf);

impl Cgroup {
    /// Below `parent`, or at the top.
    fn new(parent: Option<&Cgroup>) -> std::io::Result<Self> {
        let top = [
            "/sys/fs/cgroup/cpu",
            "/sys/fs/cgroup/cpu,cpuacct",
            "/sys/fs/cgroup",
        ];
        let top = top
            .map(Path::new)
            .into_iter()
            .find(|it| it.join("cgroup.procs").exists());
        let top = top.ok_or(std::io::ErrorKind::NotFound)?;
        let parent = parent.map_or(top, |it| &it.0);
        let path = parent.join(format!("reflector-quota-{}", process::id()));
        fs::create_dir(&path)?;
        Ok(Self(path))
    }

    fn is_version_1(&self) -> bool {
        self.0.join("cpu.cfs_quota_us").exists()
    }

    /// Hands the controller on to cgroups below, which version 1 always does.
    fn hand_on(&self) -> std::io::Result<()> {
        if self.is_version_1() {
            return Ok(());
        }
        fs::write(self.0.join("cgroup.subtree_control"), "+cpu")
    }

    /// Allows `quota` microseconds of 100 ms; without, all of them.
    fn limit(&self, quota: Option<u32>) {
        let quota = quota.map(|it| it.to_string());
        if self.is_version_1() {
            let quota = quota.unwrap_or("-1".to_owned());
            fs::write(self.0.join("cpu.cfs_quota_us"), quota).unwrap();
        } else {
            let quota = quota.unwrap_or("max".to_owned());
            fs::write(self.0.join("cpu.max"), format!("{quota} 100000")).unwrap();
        }
    }

    /// What the check of CPUs says in it.
    fn cpus(&self) -> Value {
        let mut shell = Command::new("sh");
        shell.args(["-c", "echo $$ > \"$0\" && exec \"$1\" diagnose --json"]);
        let output = shell
            .arg(self.0.join("cgroup.procs"))
            .arg(program())
            .output()
            .unwrap();
        let object: Value = serde_json::from_slice(&output.stdout).unwrap();
        let checks = object["checks"].as_array().unwrap();
        checks
            .iter()
            .find(|it| it["name"] == "CPUs")
            .unwrap()
            .clone()
    }
}

impl Drop for Cgroup {
    fn drop(&mut self) {
        let removed = fs::remove_dir(&self.0);
        assert!(removed.is_ok() || thread::panicking(), "{removed:?}");
    }
}

#[test]
fn a_quota_of_the_cgroup_or_of_one_above_is_found() {
    let made = Cgroup::new(None).and_then(|above| {
        above.hand_on()?;
        let own = Cgroup::new(Some(&above))?;
        Ok((above, own))
    });
    // The inner one goes first.
    let (above, own) = match made {
        Ok(cgroups) => cgroups,
        Err(error) => {
            let name = "machine::a_quota_of_the_cgroup_or_of_one_above_is_found";
            return skip(name, "cgroup", &error.to_string());
        }
    };
    let found = |cpus: Value| cpus["found"].as_str().unwrap().to_owned();
    let before = found(own.cpus());
    assert!(!before.contains("quota is 0.50"), "{before}");
    above.limit(Some(50_000));
    assert_warns(&own.cpus(), "quota is 0.50 CPUs", "resources.limits.cpu");
    own.limit(Some(20_000));
    assert_warns(&own.cpus(), "quota is 0.20 CPUs", "resources.limits.cpu");
}

/// Rings are charged to the user, who may lock too little for all of them and enough for one.
#[test]
fn memory_for_a_trial_ring_but_not_for_all_is_told() {
    let name = "machine::memory_for_a_trial_ring_but_not_for_all_is_told";
    if let Err(blocker) = io_uring() {
        return skip(name, "uring", &blocker.what);
    }
    // A user who has no other rings, and may not reach the program by its path.
    let user = 60_000 + process::id() % 5_000;
    let found = |limit: &str| {
        let script = format!("ulimit -l {limit} && exec /proc/self/fd/0 diagnose --json");
        let mut shell = Command::new("sh");
        shell
            .args(["-c", &script])
            .env_remove("REFLECTOR_REQUIRE")
            .stdin(fs::File::open(program()).unwrap());
        if rustix::process::geteuid().is_root() {
            shell.uid(user).gid(user);
        }
        let output = shell.output().unwrap();
        let object: Value = serde_json::from_slice(&output.stdout).unwrap();
        assert!(output.stderr.is_empty(), "{output:?}");
        let checks = object["checks"].as_array().unwrap();
        checks
            .iter()
            .find(|it| it["name"] == "io_uring")
            .unwrap()
            .clone()
    };
    // In KiB: one ring takes 16, and those of a server 48 for its first worker.
    assert_warns(
        &found("24"),
        "limit on locked memory is too low",
        "ulimit -l unlimited",
    );
    assert_eq!(found("\"$(ulimit -H -l)\"")["is_ok"], true);
}
