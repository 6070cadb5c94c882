//! What the program says of itself.

use reflector_netlab::topology::{Namespace, in_namespaces};
use reflector_testkit::{run_to_end, text};

#[test]
fn the_long_version_says_the_commit_and_the_engines_and_the_short_one_the_commit() {
    in_namespaces(
        "version::the_long_version_says_the_commit_and_the_engines_and_the_short_one_the_commit",
        || {
            let host = Namespace::new().unwrap();
            let said = |option: &str| {
                let output = run_to_end(&host, &[option]);
                assert!(output.status.success(), "{output:?}");
                text(&output.stdout).to_owned()
            };
            let (short, long) = (said("-V"), said("--version"));
            let start = concat!("reflector ", env!("CARGO_PKG_VERSION"), " (commit ");
            assert!(
                short.starts_with(start) && short.ends_with(")\n"),
                "{short}"
            );
            let engines = long.strip_prefix(&short).expect("what the short one says");
            let engines: Vec<_> = engines.lines().collect();
            assert_eq!(engines.len(), 2, "{long}");
            let is_uring = engines[0].starts_with("engine uring: available on Linux ")
                || engines[0].starts_with("engine uring: not available on Linux ");
            assert!(is_uring, "{long}");
            assert!(
                engines[1].starts_with("engine mmsg: available on Linux "),
                "{long}"
            );
        },
    );
}
