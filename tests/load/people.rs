//! What people type wrong, and what they read.

use reflector_netlab::topology::{Namespace, in_namespaces};

use super::{load, words};
use reflector_testkit::command;
use reflector_testkit::targets::{Fault, Target};

#[test]
fn bad_input_is_one_sentence() {
    for (line, code, words) in [
        ("127.0.0.1:0", 2, "port 0"),
        (":7", 2, "a host is missing"),
        ("-4 [::1]:7", 2, "has no IPv4 address"),
        ("-4 -6 localhost", 2, "cannot be used with"),
        ("127.0.0.1:7 --rate 0", 2, "nothing is sent"),
        ("127.0.0.1:7 --size 39", 2, "a probe has a header of 40"),
        ("127.0.0.1:7 --size 65508", 2, "at most 65507"),
        ("127.0.0.1:7 --size 70000", 2, "no UDP payload is longer"),
        (
            "127.0.0.1:7 --find-rate 1% --max-loss 1%",
            2,
            "cannot be used with",
        ),
        (
            "127.0.0.1:7 --poisson --rate max",
            2,
            "--poisson needs a --rate other than max",
        ),
        ("127.0.0.1:7 --timeout 0s", 2, "--timeout"),
        ("127.0.0.1:7 -d 0", 2, "--duration must be more than 0"),
        ("no-such-host.invalid:7", 1, "getent ahosts"),
        (
            "127.0.0.1:7 --bind 192.0.2.1",
            1,
            "cannot send from 192.0.2.1",
        ),
        (
            "127.0.0.1:7 --hdr /nonexistent/x",
            1,
            "cannot write the histogram log",
        ),
    ] {
        let mut args = vec!["load"];
        args.extend(self::words(line));
        let output = command(&args).output().unwrap();
        let log = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(code), "{line}: {log}");
        assert!(log.contains(words), "{line}: {log}");
    }
}

#[test]
fn an_unreachable_target_is_one_sentence() {
    in_namespaces("people::an_unreachable_target_is_one_sentence", || {
        let namespace = Namespace::new().unwrap();
        for target in ["192.0.2.1:7", "[2001:db8::1]:7"] {
            let ended = namespace.run(|| load(target, ""));
            assert_eq!(ended.code, 1);
            assert!(ended.log.contains("no route leads there"), "{}", ended.log);
            assert_eq!(ended.log.lines().count(), 1, "{}", ended.log);
        }
    });
}

#[test]
fn people_read_a_page_and_a_pipe_has_no_progress() {
    let target = Target::start(Fault::DropTenth);
    let args = format!(
        "load {} --count 200 --rate 1k --interval 20ms --timeout 100ms",
        target.addr
    );
    let output = command(&words(&args)).output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    assert_eq!(output.status.code(), Some(0), "{text}");
    assert!(!text.contains(['\r', '\x1b']), "{text}");
    assert_eq!(String::from_utf8_lossy(&output.stderr), "");
    for words in [
        "summary of ",
        "lost",
        "percentile",
        "from the scheduled time",
    ] {
        assert!(text.contains(words), "{words}: {text}");
    }
    let longest = text.lines().map(|line| line.chars().count()).max();
    assert!(longest.is_some_and(|len| len <= 80), "{text}");
}
