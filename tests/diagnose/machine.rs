//! Without a target: the checks of the machine.

use std::thread;

use reflector_netlab::topology::{DockerHost, in_namespaces};

use super::{diagnose, run};
use reflector_testkit::command;

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
            assert!(
                text.lines().all(|line| line.chars().count() <= 80),
                "{text}"
            );
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
