//! What the tests of the reflector share.
//!
//! The program under test is [started](Reflector) in a namespace and asked by clients: one that
//! [asks and waits](Client), one that speaks [trains](train::Client), one that tells an answer from
//! a [refusal](asking::Question), and [forged](raw) senders. What went over an interface is seen
//! in a [capture](wire) or [frame by frame](frames). A server of the library runs
//! [in the test program](in_process) itself. [`on_both_engines!`] makes a test of each engine, and
//! [`wait_until`] is the one way to wait for what announces itself to nobody.
//!
//! Nothing here is tested by itself, and everything panics: a helper that fails has failed its
//! test.

mod addresses;
pub mod asking;
pub mod bucket;
mod client;
pub mod conntrack;
pub mod document;
mod engine;
pub mod frames;
mod hlog;
pub mod http;
pub mod in_process;
mod link;
mod program;
pub mod queue;
pub mod random;
pub mod raw;
mod rules;
pub mod seccomp;
mod server;
pub mod targets;
mod tc;
pub mod threads;
pub mod train;
pub mod volley;
mod wait;
pub mod wire;
pub mod xdp;

pub use addresses::{ASKED, LISTEN, PORT, at};
pub use client::Client;
pub use document::document;
pub use engine::{Engine, io_uring};
pub use hlog::HistogramLog;
pub use link::join;
pub use program::{command, program, run_to_end, text, to_end};
pub use rules::{counted, packets_counted};
pub use server::{Reflector, own_lines};
pub use tc::tc;
pub use wait::{PATIENCE, wait_until};
