//! Waiting for what announces itself to nobody: a counter of the kernel, the state of a process.

use std::thread;
use std::time::Duration;

use reflector_measure::clock;

/// Longer than anything here takes, also on a busy machine.
pub const PATIENCE: Duration = Duration::from_secs(20);

/// Waits until `condition` holds, which is tried every millisecond. `what` says it in words.
///
/// # Panics
/// With `what`, when it does not hold within [`PATIENCE`].
#[track_caller]
pub fn wait_until(what: &str, mut condition: impl FnMut() -> bool) {
    let deadline = clock::monotonic() + PATIENCE;
    while !condition() {
        let now = clock::monotonic();
        assert!(now < deadline, "waited {PATIENCE:?} in vain until {what}");
        thread::sleep(Duration::from_millis(1));
    }
}
