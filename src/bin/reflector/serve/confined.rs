//! What the reflector leaves when everything is open.

use std::path::Path;
use std::sync::Once;

use super::args::ServeArgs;
use reflector_sandbox::{Needs, confine_worker};

/// What to do about a call that a worker needs after all.
const REMEDY: &str = "please report it; --no-sandbox starts without";

/// Leaves what is not needed any more; `interfaces` are those that sockets are bound to, there may
/// be a predecessor, which has the port of the metrics until it ends, and `is_accelerated` says
/// whether a program in the kernel answers.
pub fn enter(args: &ServeArgs, interfaces: &[String], has_predecessor: bool, is_accelerated: bool) {
    let metrics = args.output.metrics.filter(|_| has_predecessor);
    let needs = Needs {
        read: args.peers.files(),
        rings: args.may_have_rings(),
        rebind: !interfaces.is_empty(),
        takeover: args.takeover().map(Path::to_owned),
        listen: metrics.map(|addr| addr.port()),
        is_accelerated,
    };
    let entered = reflector_sandbox::enter(&needs, REMEDY);
    for said in entered.missing {
        tracing::warn!("{said}; the reflector goes on with more rights than it needs");
    }
    for said in entered.remarks {
        tracing::debug!("{said}");
    }
}

/// Leaves what is left to leave where another thread serves and this one waits for its end. What
/// cannot be left is said there.
pub fn leave_all() {
    let _ = reflector_sandbox::enter(&Needs::default(), REMEDY);
}

/// Leaves what a worker does not need, on its thread.
pub fn worker() {
    static SAID: Once = Once::new();
    if let Err(said) = confine_worker() {
        SAID.call_once(|| tracing::warn!("the workers keep the rights of other threads: {said}"));
    }
}
