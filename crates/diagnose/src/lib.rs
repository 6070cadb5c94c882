//! `reflector diagnose`: does a UDP service answer from the address it was asked at, and if not,
//! why, and what to do?
//!
//! A [`Target`] is asked a [`question`] by connected and unconnected sockets ([`ask`]); what they
//! saw and what this [`host`] knows of the way are facts, and the [`verdict`] is a pure function of
//! them; [`text`] says it. Without a target the [`machine`] itself is looked at.
//!
//! Not here: anything of the reflector's own datagram path. Whether io_uring works, which the machine
//! check wants to know, is handed in.

#![forbid(unsafe_code)]

pub mod question;

pub mod ask;
pub mod host;
pub mod witness;

pub mod facts;
pub mod verdict;

pub mod remedies;
pub mod why;

pub mod text;

pub mod machine;

use std::io::{self, Write};
use std::time::Duration;

use reflector_measure::error::Error;
use reflector_measure::exit::Exit;
use reflector_measure::target::Target;

use machine::Blocked;
use question::Question;

/// What `reflector diagnose` is asked to do.
#[derive(Clone, Debug)]
pub struct Options {
    /// Whom to ask; without one this machine is checked.
    pub target: Option<Target>,
    /// What to ask.
    pub question: Question,
    /// How often to ask.
    pub tries: u16,
    /// How long to wait for each answer.
    pub timeout: Duration,
    /// The port to ask first from.
    pub source_port: Option<u16>,
    /// JSON instead of text.
    pub json: bool,
}

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
    let cannot_print = |error: io::Error| Error::system("cannot print the diagnosis", &error);
    let Some(target) = &options.target else {
        let checks = machine::check(io_uring());
        text::machine(&checks, options.json, out).map_err(cannot_print)?;
        return Ok(machine::exit(&checks));
    };
    let facts = facts::gather(target, options)?;
    let diagnosis = verdict::diagnose(&facts);
    text::diagnosis(&facts, &diagnosis, options.json, out).map_err(cannot_print)?;
    Ok(diagnosis.verdict.exit())
}
