//! Queues of devices, by the program `tc` (tc(8)).

use std::io::ErrorKind;
use std::process::Command;

use reflector_netlab::topology::{Namespace, skip};

/// Runs `tc ARGS` in `namespace`. `false`, and a line on stderr, where there is no such program,
/// which `tc` in `REFLECTOR_REQUIRE` makes a failure.
pub fn tc(test_name: &str, namespace: &Namespace, args: &str) -> bool {
    let run = |program: &str| Command::new(program).args(args.split_whitespace()).output();
    let output = namespace.run(|| match run("tc") {
        Err(error) if error.kind() == ErrorKind::NotFound => run("/usr/sbin/tc"),
        result => result,
    });
    match output {
        Ok(output) => {
            let said = String::from_utf8_lossy(&output.stderr);
            assert!(output.status.success(), "tc {args}: {said}");
            true
        }
        Err(error) => {
            skip(test_name, "tc", &format!("no tc: {error}"));
            false
        }
    }
}
