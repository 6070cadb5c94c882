//! `reflector diagnose`: does a UDP service answer from the address it was asked at, and if not,
//! why, and what to do?
//!
//! A [target](reflector_measure::target::Target) is asked a [`question`] by connected and
//! unconnected sockets (`ask`); what they saw and what this host knows of the way (`host`) are
//! facts, and the diagnosis is a pure function of them (`verdict`, with `why` and `remedies`),
//! printed as `text` or `json`. Without a target the [`machine`] itself is checked.
//!
//! `reflector probe` and `reflector wait` ask the same questions by the same sockets, and stop at
//! the verdict: several datagrams of one socket (`volley`) come to one [`Word`].
//!
//! Not here: anything of the reflector's own datagram path. Whether io_uring works, which the
//! machine check wants to know, is handed in.

#![forbid(unsafe_code)]

#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;

mod options;
pub mod question;

mod ask;
mod attempt;
mod host;
mod volley;

mod probe;
mod wait;
mod word;

mod facts;
mod relation;

mod diagnosis;
mod remedies;
mod verdict;
mod why;

mod json;
mod text;

pub mod machine;

use std::io::Write;

pub use options::Options;
pub use probe::{ProbeOptions, probe};
pub use wait::{WaitOptions, wait};
pub use word::Word;

use reflector_measure::error::Error;
use reflector_measure::exit::Exit;
use reflector_measure::output;

use machine::Blocked;

/// Diagnoses the target, or this machine without one, and prints what was found. `io_uring` tries
/// that out: the engine's own probe, which this crate does not know.
///
/// # Errors
/// The target does not resolve, or this host cannot send to it.
pub fn run(
    options: &Options,
    io_uring: impl FnOnce() -> Result<(), Blocked>,
    out: &mut impl Write,
) -> Result<Exit, Error> {
    let Some(target) = &options.target else {
        let checks = machine::check(io_uring());
        output::written(match options.json {
            true => json::machine(&checks, out),
            false => text::machine(&checks, out),
        })?;
        return Ok(machine::exit(&checks));
    };
    let facts = facts::gather(target, options)?;
    let diagnosis = verdict::diagnose(&facts);
    output::written(match options.json {
        true => json::diagnosis(&facts, &diagnosis, out),
        false => text::diagnosis(&facts, &diagnosis, out),
    })?;
    Ok(diagnosis.verdict.exit())
}
