//! What a running reflector has left, and what it still does.

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus};

use reflector_netlab::topology::{Namespace, in_namespaces, skip};
use reflector_testkit::seccomp::spawn_without;
use reflector_testkit::threads::{others, workers};
use reflector_testkit::{
    Client, HistogramLog, Reflector, command, on_both_engines, program, train, wait_until,
};
use rustix::process::Signal;
use rustix::thread::{CapabilitySet, capabilities};
use seccompiler::SeccompAction;

use super::FAILED;

/// Capabilities that a thread other than a worker may have left: where the limit of locked memory
/// cannot be raised, that to lock it.
const LEFT: u64 = CapabilitySet::IPC_LOCK.bits();

/// The value of `key` in the status of the thread `task`.
fn status(task: &Path, key: &str) -> String {
    let text = fs::read_to_string(task.join("status")).unwrap();
    let value = text.lines().find_map(|line| line.strip_prefix(key));
    value
        .unwrap_or_else(|| panic!("no {key}: {text}"))
        .trim()
        .to_owned()
}

fn sets(task: &Path) -> [u64; 5] {
    let names = ["CapInh:", "CapPrm:", "CapEff:", "CapBnd:", "CapAmb:"];
    names.map(|name| u64::from_str_radix(&status(task, name), 16).unwrap())
}

fn filters(task: &Path) -> u32 {
    status(task, "Seccomp_filters:").parse().unwrap()
}

/// Asserts that the threads of `reflector` have left what they can.
pub fn assert_confined(reflector: &Reflector) {
    let own = filters(Path::new("/proc/thread-self"));
    for task in workers(reflector).iter().chain(&others(reflector)) {
        assert_eq!(status(task, "NoNewPrivs:"), "1");
        assert_eq!(status(task, "Seccomp:"), "2");
    }
    for task in workers(reflector) {
        let [inheritable, permitted, effective, _, ambient] = sets(&task);
        assert_eq!([inheritable, permitted, effective, ambient], [0; 4]);
        assert_eq!(filters(&task), own + 4);
    }
    for task in others(reflector) {
        let [inheritable, permitted, effective, _, ambient] = sets(&task);
        assert_eq!(
            [inheritable, permitted & !LEFT, effective & !LEFT, ambient],
            [0; 4]
        );
        assert_eq!(filters(&task), own + 2);
    }
}

on_both_engines! {
    fn each_thread_has_left_what_it_does_not_need(engine: Engine) {
        let host = Namespace::new().unwrap();
        let reflector = Reflector::start(&host, engine, &["-l", "127.0.0.1:0", "--metrics", "0"]);
        Client::connect(&host, reflector.listen(0)).ask(b"ping");
        assert_confined(&reflector);
        let may = capabilities(None).unwrap().effective;
        if may.contains(CapabilitySet::SETPCAP) {
            let tasks = workers(&reflector).into_iter().chain(others(&reflector));
            tasks.for_each(|task| assert_eq!(sets(&task)[3], 0, "the bounding set"));
        }
        reflector.stop_with_log();
    }

    fn who_takes_over_and_hands_over_leaves_it_as_well(engine: Engine) {
        let host = Namespace::new().unwrap();
        let place = Directory::new("takeover", engine.name());
        let socket = place.0.join("socket");
        let args = ["-l", "127.0.0.1:5151", "--takeover", socket.to_str().unwrap()];
        let first = Reflector::start(&host, engine, &args);
        assert_confined(&first);
        let next = Reflector::start(&host, engine, &args);
        let (_, log, ended) = first.wait();
        assert!(ended.success(), "{log}");
        assert_confined(&next);
        Client::connect(&host, next.listen(0)).ask(b"ping");
        assert_eq!(next.stop_with_log().0["replied"], 1);
        assert!(!socket.exists(), "it has been removed");
    }

    fn sockets_bound_to_an_interface_can_be_bound_again(engine: Engine) {
        let host = Namespace::new().unwrap();
        let args = ["-l", "127.0.0.1:0", "--device", "lo"];
        let reflector = Reflector::start(&host, engine, &args);
        let had = capabilities(None).unwrap().permitted & CapabilitySet::NET_RAW;
        for task in others(&reflector) {
            assert_eq!(sets(&task)[2] & !LEFT, had.bits());
        }
        workers(&reflector).iter().for_each(|task| assert_eq!(sets(task)[2], 0));
        reflector.stop();
    }

    fn without_the_sandbox_all_is_as_it_was(engine: Engine) {
        let host = Namespace::new().unwrap();
        let reflector = Reflector::start(&host, engine, &["-l", "127.0.0.1:0", "--no-sandbox"]);
        let own = Path::new("/proc/thread-self");
        for task in workers(&reflector).iter().chain(&others(&reflector)) {
            for key in ["CapEff:", "CapBnd:", "NoNewPrivs:", "Seccomp_filters:"] {
                assert_eq!(status(task, key), status(own, key), "{key}");
            }
        }
        reflector.stop();
    }

    #[cfg(target_arch = "x86_64")]
    fn a_worker_that_calls_what_is_not_left_ends_the_process_and_says_so(engine: Engine) {
        let host = Namespace::new().unwrap();
        for call in [libc::SYS_socket, libc::SYS_execve, libc::SYS_io_uring_setup] {
            let reflector = Reflector::start(&host, engine, &["-l", "127.0.0.1:0"]);
            reflector_testkit::threads::make_call(&workers(&reflector)[0], call);
            let (_, log, ended) = reflector.wait();
            assert_eq!(ended.code(), Some(FAILED), "{log}");
            let said = format!(
                "ERROR the thread worker-0 made the system call {call}, which the sandbox does not \
                 allow, so the process has ended; `ausyscall {call}` names it; please report it; \
                 --no-sandbox starts without\n"
            );
            assert!(log.ends_with(&said), "{log}");
        }
    }

    #[cfg(target_arch = "x86_64")]
    fn another_thread_that_does_is_refused_it_and_goes_on(engine: Engine) {
        let host = Namespace::new().unwrap();
        let args = ["-l", "127.0.0.1:0", "--interval", "50ms"];
        let reflector = Reflector::start(&host, engine, &args);
        // It waits by futex(2), which may fail for any reason.
        let named = |task: &PathBuf| fs::read_to_string(task.join("comm")).unwrap() == "reports\n";
        let task = others(&reflector).into_iter().find(named).unwrap();
        reflector_testkit::threads::make_call(&task, libc::SYS_unshare);
        reflector.next_report();
        Client::connect(&host, reflector.listen(0)).ask(b"ping");
        assert_eq!(reflector.stop_with_log().0["replied"], 1);
    }

    fn a_list_that_leads_out_of_its_directory_is_not_read(engine: Engine) {
        let host = Namespace::new().unwrap();
        let [inside, outside] = ["inside", "outside"].map(|it| Directory::new(it, engine.name()));
        let (list, secret) = (inside.0.join("allow"), outside.0.join("secret"));
        fs::write(&secret, "any").unwrap();
        fs::write(&list, "private").unwrap();
        let hdr = HistogramLog::new(&format!("sandbox-{}", engine.name()));
        let args = [
            "-l", "127.0.0.1:0", "--allow-file", list.to_str().unwrap(), "--hdr",
            hdr.path(), "--interval", "50ms",
        ];
        let reflector = Reflector::start(&host, engine, &args);
        let client = train::Client::any(&host, reflector.listen(0));
        // Replaced by another file: this is how lists change.
        let new = inside.0.join("new");
        fs::write(&new, "192.0.2.0/24").unwrap();
        fs::rename(&new, &list).unwrap();
        reflector.signal(Signal::HUP);
        reflector.wait_for_report("the list has been read again", |report| {
            client.send(b"denied?");
            report["dropped"]["not_allowed"].as_u64() > Some(0)
        });
        fs::remove_file(&list).unwrap();
        symlink(&secret, &list).unwrap();
        reflector.signal(Signal::HUP);
        // A histogram log that has been emptied goes on.
        fs::write(hdr.path(), "").unwrap();
        wait_until("the log goes on", || fs::metadata(hdr.path()).unwrap().len() > 0);
        let (_, log) = reflector.stop_with_log();
        assert!(log.contains("cannot read the list") && log.contains("Permission denied"), "{log}");
        assert!(!hdr.intervals().is_empty());
    }

    fn an_ordinary_user_leaves_the_same(engine: Engine) {
        let host = Namespace::new().unwrap();
        let place = Directory::new("nobody", engine.name());
        fs::set_permissions(&place.0, PermissionsExt::from_mode(0o755)).unwrap();
        let copy = place.0.join("reflector");
        fs::copy(program(), &copy).unwrap();
        let args = ["--engine", engine.name(), "--json", "-l", "127.0.0.1:0"];
        let started = |mut wrapped: Command| {
            let inner = command(&args);
            wrapped.args(inner.get_args()).stdout(std::process::Stdio::piped());
            wrapped.stderr(std::process::Stdio::piped()).env_remove("REFLECTOR_REQUIRE");
            let reflector = Reflector::attach(host.run(|| wrapped.spawn()).unwrap());
            assert_eq!(reflector.ready["engine"], engine.name());
            Client::connect(&host, reflector.listen(0)).ask(b"ping");
            assert_confined(&reflector);
            assert_eq!(reflector.stop_with_log().0["replied"], 1);
        };
        let mut nobody = Command::new(&copy);
        // In a user namespace of the test's own there may be no other user.
        if capabilities(None).unwrap().effective.contains(CapabilitySet::SYS_PTRACE)
            && fs::read_to_string("/proc/self/uid_map").unwrap().contains("4294967295")
        {
            nobody.uid(65534).gid(65534);
        }
        started(nobody);
        let mut own_namespace = Command::new("unshare");
        own_namespace.args(["--user", "--map-root-user"]);
        let tried = own_namespace.arg("true").status();
        if !tried.as_ref().is_ok_and(ExitStatus::success) {
            return skip("a reflector in a user namespace", "netns", &format!("{tried:?}"));
        }
        let mut own_namespace = Command::new("unshare");
        own_namespace.args(["--user", "--map-root-user"]).arg(&copy);
        started(own_namespace);
    }
}

/// A directory for one test. Gone when dropped.
struct Directory(PathBuf);

impl Directory {
    fn new(name: &str, engine: &str) -> Self {
        let name = format!("reflector-sandbox-{name}-{engine}-{}", std::process::id());
        let path = std::env::temp_dir().join(name);
        fs::create_dir_all(&path).unwrap();
        Self(path)
    }
}

impl Drop for Directory {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

#[test]
fn what_the_kernel_lacks_is_a_warning_and_it_serves() {
    in_namespaces(
        "sandbox::what_the_kernel_lacks_is_a_warning_and_it_serves",
        || {
            let host = Namespace::new().unwrap();
            let unknown = || SeccompAction::Errno(libc::ENOSYS as u32);
            for (calls, said) in [
                (
                    &[libc::SYS_landlock_create_ruleset][..],
                    " WARN this kernel has no Landlock",
                ),
                (&[libc::SYS_seccomp], " WARN cannot take system calls away"),
                (&[libc::SYS_capset], " WARN cannot drop capabilities"),
            ] {
                let args = ["--json", "-l", "127.0.0.1:0", "--cores", "2"];
                let child = spawn_without(&host, calls, unknown(), command(&args));
                let reflector = Reflector::attach(child);
                Client::connect(&host, reflector.listen(0)).ask(b"ping");
                let (summary, log) = reflector.stop_with_log();
                assert_eq!(summary["replied"], 1);
                assert_eq!(log.matches(said).count(), 1, "{log}");
            }
        },
    );
}
