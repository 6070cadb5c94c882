//! What this program is, and which engines it finds on this kernel.

use std::fs;

use reflector::probe;

/// The commit that it was built from, or `unknown`.
pub const COMMIT: &str = env!("BUILT_FROM_COMMIT");

/// What `-V` prints besides the name.
pub const VERSION: &str = concat!(
    env!("CARGO_PKG_VERSION"),
    " (commit ",
    env!("BUILT_FROM_COMMIT"),
    ")"
);

/// What `--version` prints besides: one line for each engine.
pub fn engines() -> String {
    let release = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    let kernel = match release.trim() {
        "" => "this kernel".to_owned(),
        release => format!("Linux {release}"),
    };
    let uring = match probe::probe() {
        Ok(_) => format!("available on {kernel}"),
        Err(blocker) => format!(
            "not available on {kernel}: {}; {}",
            blocker.what, blocker.remedy
        ),
    };
    // It needs no more than calls that every Linux has.
    format!("engine uring: {uring}\nengine mmsg: available on {kernel}\n")
}
