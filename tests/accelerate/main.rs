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

/// Runs a test that makes namespaces and loads the program; where that is not possible it is
/// skipped, which `bpf` in `REFLECTOR_REQUIRE` makes a failure.
fn in_namespaces(test_name: &str, body: impl FnOnce()) {
    match reflector_accelerate::probe() {
        Ok(()) => topology::in_namespaces(test_name, body),
        Err(error) => skip(test_name, "bpf", &error.to_string()),
    }
}
