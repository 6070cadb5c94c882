//! What tests in namespaces need of the machine, and what becomes of them without it.

use std::env;
use std::io::{self, Write};
use std::process::Stdio;
use std::thread;

use super::nft::NftError;
use reflector_udp::netns::{self, Ability};

/// Runs a test whose `body` makes namespaces, for root and for ordinary users alike.
///
/// With the capabilities for it `body` runs here. Without them this test program is run again in
/// a user namespace, for this one test, and its failure is ours. Where neither is possible the
/// line `SKIPPED {test_name}: {reason}` goes to stderr, past the capture of libtest, and the
/// function returns; with `netns` in the comma-separated `REFLECTOR_REQUIRE` it panics instead.
///
/// `test_name` is the test's path as libtest prints it; it is also the filter of the second run
/// where the thread has no name of its own (`--test-threads=1`).
pub fn in_namespaces(test_name: &str, body: impl FnOnce()) {
    if env::var_os(RERUN).is_some() {
        body();
        say(&format!("{RERUN} {test_name}"));
        return;
    }
    match netns::ability() {
        Ability::Direct => body(),
        Ability::ThroughUserNamespace => rerun_in_user_namespace(test_name),
        Ability::None(reason) => skip(test_name, "netns", reason),
    }
}

/// The variable that tells a test program that it was started by [`in_namespaces`], and the word
/// by which it reports that a body came to its end.
const RERUN: &str = "REFLECTOR_RERUN";

fn rerun_in_user_namespace(test_name: &str) {
    let thread = thread::current();
    let filter = thread
        .name()
        .filter(|name| *name != "main")
        .unwrap_or(test_name);
    let output =
        netns::user_namespace_command(["--exact", filter, "--nocapture", "--include-ignored"])
            .env(RERUN, "1")
            .stdin(Stdio::null())
            .output()
            .expect("a user namespace was made a moment ago");
    let stderr = String::from_utf8_lossy(&output.stderr);
    print!("{}", String::from_utf8_lossy(&output.stdout));
    eprint!("{stderr}");
    assert!(
        output.status.success(),
        "{test_name} failed in a user namespace"
    );
    // A filter that matches nothing would be a success too.
    let report = format!("{RERUN} {test_name}");
    assert!(
        stderr.lines().any(|line| line.ends_with(&report)),
        "{filter} did not run {test_name} in a user namespace"
    );
}

/// Whether `rules` are in force, for tests of NAT and filters.
///
/// `false`, and a line `SKIPPED {test_name}: {reason}` on stderr, where the program `nft` is
/// missing; with `nft` in the comma-separated `REFLECTOR_REQUIRE` that panics, as does any other
/// error.
pub fn in_force(test_name: &str, rules: Result<(), NftError>) -> bool {
    match rules {
        Ok(()) => true,
        Err(missing @ NftError::Missing) => {
            skip(test_name, "nft", &missing.to_string());
            false
        }
        Err(NftError::Io(error)) => panic!("{error}"),
    }
}

/// Says that `test_name` is skipped for want of `need`, or panics where `REFLECTOR_REQUIRE` demands
/// that.
pub fn skip(test_name: &str, need: &str, reason: &str) {
    let required = env::var("REFLECTOR_REQUIRE").unwrap_or_default();
    assert!(
        !required.split(',').any(|word| word.trim() == need),
        "{test_name} needs {need}, which REFLECTOR_REQUIRE demands: {reason}"
    );
    say(&format!("SKIPPED {test_name}: {reason}"));
}

/// Prints a line on stderr that libtest does not hold back.
fn say(line: &str) {
    // Nobody to tell if stderr is closed.
    let _ = io::stderr().write_all(format!("{line}\n").as_bytes());
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicBool, Ordering};

    use super::*;

    #[test]
    fn a_body_runs_or_its_absence_is_a_failure() {
        static RAN: AtomicBool = AtomicBool::new(false);
        in_namespaces(
            "topology::require::tests::a_body_runs_or_its_absence_is_a_failure",
            || {
                RAN.store(true, Ordering::Relaxed);
            },
        );
        let is_here = *netns::ability() == Ability::Direct || env::var_os(RERUN).is_some();
        assert_eq!(RAN.load(Ordering::Relaxed), is_here);
    }
}
