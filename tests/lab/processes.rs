//! How the lab ends, and what it leaves behind: nothing. And who may run it.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::PathBuf;
use std::process::{Child, Command};
use std::sync::atomic::{AtomicU32, Ordering};

use reflector_netlab::topology::skip;
use reflector_testkit::{program, wait_until};
use rustix::process::{Pid, Signal, getuid, kill_process};

use super::{lab, this_program};

/// A lab whose server never answers, and a number that only its processes have in their command.
fn waiting_lab(test_name: &str, script: &str) -> Option<(Child, String)> {
    static COUNT: AtomicU32 = AtomicU32::new(0);
    let count = COUNT.fetch_add(1, Ordering::Relaxed);
    let marker = format!("{}.{count}", 100_000_000 + std::process::id());
    let server = script
        .replace("MARKER", &marker)
        .replace("REFLECTOR", &program().display().to_string());
    let args = [
        "--case",
        "hairpin",
        "--timeout",
        "5min",
        "--server",
        &server,
    ];
    let lab = lab(test_name, &args)?.spawn().expect("the program starts");
    Some((lab, marker))
}

/// Process ids besides the lab's own whose command has `marker` as a word, or in one.
fn marked(lab: &Child, marker: &str) -> usize {
    let of = |entry: fs::DirEntry| {
        let pid: u32 = entry.file_name().to_str()?.parse().ok()?;
        let command = fs::read(entry.path().join("cmdline")).ok()?;
        let command = String::from_utf8_lossy(&command).into_owned();
        (pid != lab.id() && command.contains(marker)).then_some(())
    };
    fs::read_dir("/proc")
        .expect("/proc is there")
        .flatten()
        .filter_map(of)
        .count()
}

fn wait_for_marked(lab: &Child, marker: &str, wanted: usize) {
    let what = format!("{wanted} processes are left of the lab");
    wait_until(&what, || marked(lab, marker) == wanted);
}

fn signal(lab: &Child, signal: Signal) {
    kill_process(Pid::from_child(lab), signal).expect("the child is ours");
}

/// A shell with a background child and a daemon that has left its session, and the server.
const FAMILY: &str = "sh -c 'sleep MARKER & setsid sleep MARKER & \
                      trap \"\" TERM INT; REFLECTOR --deny 0.0.0.0/0 --listen {listen} & wait'";

#[test]
fn an_interrupted_lab_leaves_nobody_behind() {
    let name = "processes::an_interrupted_lab_leaves_nobody_behind";
    for (sent, number) in [(Signal::INT, 2), (Signal::TERM, 15)] {
        let Some((mut lab, marker)) = waiting_lab(name, FAMILY) else {
            return;
        };
        // The shell, whose script holds the marker, and the two that sleep.
        wait_for_marked(&lab, &marker, 3);
        signal(&lab, sent);
        assert_eq!(lab.wait().unwrap().signal(), Some(number));
        wait_for_marked(&lab, &marker, 0);
    }
}

#[test]
fn the_server_of_a_killed_lab_dies_with_it() {
    let name = "processes::the_server_of_a_killed_lab_dies_with_it";
    // Its answers are wrong, so the client waits; the marker is one more filter to libtest.
    let server = this_program("serves_naively") + " MARKER";
    let Some((mut lab, marker)) = waiting_lab(name, &server) else {
        return;
    };
    wait_for_marked(&lab, &marker, 1);
    signal(&lab, Signal::KILL);
    assert_eq!(lab.wait().unwrap().signal(), Some(9));
    wait_for_marked(&lab, &marker, 0);
}

/// Root becomes nobody for this; an ordinary user is one in all tests of this file.
#[test]
fn an_ordinary_user_can_run_it() {
    let name = "processes::an_ordinary_user_can_run_it";
    if !getuid().is_root() {
        return;
    }
    let folder = PathBuf::from(format!("/tmp/reflector-lab-{}", std::process::id()));
    fs::create_dir(&folder).unwrap();
    fs::set_permissions(&folder, fs::Permissions::from_mode(0o755)).unwrap();
    let copy = folder.join("reflector");
    fs::copy(program(), &copy).unwrap();
    let output = Command::new(&copy)
        .args(["lab", "--case", "hairpin"])
        .uid(65534)
        .gid(65534)
        .output();
    fs::remove_dir_all(&folder).unwrap();
    let output = output.unwrap();
    let stderr = String::from_utf8_lossy(&output.stderr);
    if stderr.contains("cannot make network namespaces") {
        return skip(name, "netns", &stderr);
    }
    assert_eq!(output.status.code(), Some(0), "{stderr}");
}
