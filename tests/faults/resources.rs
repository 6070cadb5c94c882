//! A system that grants little: locked memory, io_uring, descriptors while it serves.

use std::fs;
use std::process::Command;

use reflector_netlab::topology::{in_namespaces, skip};
use reflector_testkit::seccomp::spawn_without;
use reflector_testkit::{Engine, Reflector, command, io_uring, on_both_engines, text};
use rustix::process::{Pid, Resource, Rlimit, Signal, prlimit};
use rustix::thread::{CapabilitySet, remove_capability_from_bounding_set};
use seccompiler::SeccompAction;

use super::FAILED;
use super::scene::{Played, Scene, started_by, with_listen};

/// The system calls of io_uring(7).
const IO_URING: [i64; 3] = [
    libc::SYS_io_uring_setup,
    libc::SYS_io_uring_enter,
    libc::SYS_io_uring_register,
];

/// The server's command with `engine` as it is asked for.
fn asked_for(engine: &str) -> Command {
    let args = with_listen(&["--json", "--engine", engine]);
    command(&args)
}

/// Loads a server that has fallen back to mmsg, which loses nothing by it.
fn serves_without_a_ring(scene: &Scene, reflector: Reflector, case: &str) {
    assert_eq!(reflector.ready["engine"], "mmsg");
    scene.find(&super::scene::SERVER.map(super::scene::at));
    let load = scene.load("10.9.0.1:5151", 0.5).end();
    let played = Played::end(load, reflector);
    played.tell(case, Engine::Mmsg);
    assert_eq!(played.at("lost"), 0, "{}", played.load);
    let [said] = played.said()[..] else {
        panic!("{}", played.log)
    };
    assert!(
        said.starts_with(" WARN io_uring is not available: "),
        "{said}"
    );
}

/// The program where no memory may be locked.
fn without_locked_memory(scene: &Scene, engine: &str) -> std::process::Child {
    let mut program = asked_for(engine);
    program.args(["--duration", "30s"]);
    let script = "ulimit -l 0 && exec \"$0\" \"$@\"";
    let mut command = started_by("sh", &["-c", script], &program);
    scene.server.run(|| {
        // Root may lock what it likes, unless it has lost the capability.
        remove_capability_from_bounding_set(CapabilitySet::IPC_LOCK).unwrap();
        command.spawn().unwrap()
    })
}

#[test]
fn no_memory_that_may_be_locked() {
    let name = "resources::no_memory_that_may_be_locked";
    if let Err(blocker) = io_uring() {
        return skip(name, "uring", &blocker.what);
    }
    in_namespaces(name, || {
        let scene = Scene::new();
        let reflector = Reflector::attach(without_locked_memory(&scene, "auto"));
        serves_without_a_ring(&scene, reflector, "locked memory 0, --engine auto");
        let output = without_locked_memory(&scene, "uring").wait_with_output();
        let output = output.unwrap();
        assert_eq!(output.status.code(), Some(FAILED));
        assert_eq!(text(&output.stdout), "");
        let said = text(&output.stderr);
        assert!(
            said.lines().last().unwrap().starts_with("ERROR cannot "),
            "{said}"
        );
    });
}

#[test]
fn io_uring_that_is_forbidden_or_unknown() {
    let name = "resources::io_uring_that_is_forbidden_or_unknown";
    if let Err(blocker) = io_uring() {
        return skip(name, "uring", &blocker.what);
    }
    in_namespaces(name, || {
        for (case, errno) in [("EPERM", libc::EPERM), ("ENOSYS", libc::ENOSYS)] {
            let scene = Scene::new();
            let refused = SeccompAction::Errno(errno as u32);
            let child = spawn_without(&scene.server, &IO_URING, refused, asked_for("auto"));
            let case = format!("io_uring refused with {case}, --engine auto");
            serves_without_a_ring(&scene, Reflector::attach(child), &case);
        }
    });
}

on_both_engines! {
    /// What is open stays open; what would have to be opened is said.
    fn no_more_descriptors_while_it_serves(engine: Engine) {
        let scene = Scene::new();
        let list = std::env::temp_dir().join(format!(
            "reflector-faults-{}-{}", engine.name(), std::process::id()
        ));
        fs::write(&list, "private\n").unwrap();
        let args = ["--allow-file", list.to_str().unwrap(), "--cores", "1"];
        let reflector = scene.start(engine, &args);
        let played = scene.play(reflector, "10.9.0.1:5151", 1.0, |reflector| {
            let none = Rlimit { current: Some(3), maximum: Some(3) };
            let pid = Pid::from_raw(reflector.pid() as i32);
            prlimit(pid, Resource::Nofile, none).unwrap();
            reflector.signal(Signal::HUP);
        });
        fs::remove_file(&list).unwrap();
        played.tell("no descriptors left while it serves, SIGHUP", engine);
        assert_eq!(played.at("lost"), 0, "{}", played.load);
        let [said] = played.said()[..] else { panic!("{}", played.log) };
        let start = " WARN who is answered stays as it is: ";
        assert!(said.starts_with(start) && said.contains("os error 24"), "{said}");
    }
}
