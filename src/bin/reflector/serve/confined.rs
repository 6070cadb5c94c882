//! What the reflector leaves when everything is open.

use std::sync::Once;

use super::args::ServeArgs;
use reflector_sandbox::{Needs, confine_worker};

/// What to do about a call that a worker needs after all.
const REMEDY: &str = "please report it; --no-sandbox starts without";

/// Leaves what is not needed any more; `interfaces` are those that sockets are bound to.
pub fn enter(args: &ServeArgs, interfaces: &[String]) {
    let needs = Needs {
        read: args.peers.files(),
        rings: args.may_have_rings(),
        rebind: !interfaces.is_empty(),
    };
    let entered = reflector_sandbox::enter(&needs, REMEDY);
    for said in entered.missing {
        tracing::warn!("{said}; the reflector goes on with more rights than it needs");
    }
    for said in entered.remarks {
        tracing::debug!("{said}");
    }
}

/// Leaves what a worker does not need, on its thread.
pub fn worker() {
    static SAID: Once = Once::new();
    if let Err(said) = confine_worker() {
        SAID.call_once(|| tracing::warn!("the workers keep the rights of other threads: {said}"));
    }
}
