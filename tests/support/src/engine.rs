//! The engines, and the macro that runs a test on each.

use std::sync::OnceLock;

use reflector::probe::{self, Abilities, Blocker};
use reflector_netlab::topology::{in_namespaces, skip};

/// The engine that a test runs on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Engine {
    /// io_uring.
    Uring,
    /// `recvmmsg` and `sendmmsg`.
    Mmsg,
}

impl Engine {
    /// The name that `--engine` takes.
    pub fn name(self) -> &'static str {
        match self {
            Self::Uring => "uring",
            Self::Mmsg => "mmsg",
        }
    }

    /// Runs `body` on this engine in namespaces, for the test in the module at `path`; where there
    /// is no such engine, says so, or fails where it is required.
    pub fn run(self, path: &str, body: fn(Self)) {
        // libtest leaves out the name of the test program.
        let (_, path) = path.split_once("::").expect("a module of its own");
        let test_name = format!("{path}::{}", self.name());
        match (self, io_uring()) {
            (Self::Uring, Err(blocker)) => skip(&test_name, "uring", &blocker.what),
            _ => in_namespaces(&test_name, || body(self)),
        }
    }
}

/// Whether io_uring is available, tried once.
pub fn io_uring() -> &'static Result<Abilities, Blocker> {
    static PROBED: OnceLock<Result<Abilities, Blocker>> = OnceLock::new();
    PROBED.get_or_init(probe::probe)
}

/// Makes two tests of each function, one for each engine, inside namespaces.
///
/// ```text
/// on_both_engines! {
///     fn replies_come_from_the_address_asked(engine: Engine) { … }
/// }
/// ```
#[macro_export]
macro_rules! on_both_engines {
    ($($(#[$meta:meta])* fn $name:ident($engine:ident: Engine) $body:block)*) => {$(
        $(#[$meta])*
        mod $name {
            #[allow(unused_imports, reason = "not every test needs what its file imports")]
            use super::*;

            fn body($engine: $crate::Engine) $body

            #[test]
            fn uring() {
                $crate::Engine::Uring.run(module_path!(), body);
            }

            #[test]
            fn mmsg() {
                $crate::Engine::Mmsg.run(module_path!(), body);
            }
        }
    )*};
}
