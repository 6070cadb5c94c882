//! What answers in the kernel: as the sockets would, where they would, and nothing stays of it.
//!
//! Needs root: a program is loaded in the first user namespace only.

mod changes;
mod differential;
mod forge;
mod kinds;
mod program;
mod routes;
mod socket;
mod source;
mod stage;
mod wire;

use reflector_netlab::topology::{self, skip};
use reflector_testkit::{Engine, io_uring};

/// The engines that there are here; `uring` in `REFLECTOR_REQUIRE` demands both.
fn engines(test_name: &str) -> Vec<Engine> {
    let Err(blocker) = io_uring() else {
        return vec![Engine::Uring, Engine::Mmsg];
    };
    skip(test_name, "uring", &blocker.what);
    vec![Engine::Mmsg]
}

/// Runs a test that makes namespaces and loads the program; where that is not possible it is
/// skipped, which `bpf` in `REFLECTOR_REQUIRE` makes a failure.
fn in_namespaces(test_name: &str, body: impl FnOnce()) {
    match reflector_accelerate::probe() {
        Ok(()) => topology::in_namespaces(test_name, body),
        Err(error) => skip(test_name, "bpf", &error.to_string()),
    }
}
