//! `reflector diagnose`: does a UDP service answer from the address it was asked at, and if not,
//! why, and what to do?
//!
//! A [`target`] is asked a [`question`] by connected and unconnected sockets ([`ask`]); what they
//! saw and what this [`host`] knows of the way are facts, and the [`verdict`] is a pure function of
//! them; [`mod@print`] says it. Without a target the [`machine`] itself is looked at.
//!
//! Not here: anything of the reflector's own datagram path, except that the machine check uses the
//! engine's probe of io_uring.

pub mod target;

pub mod question;

pub mod ask;
pub mod host;
pub mod witness;

pub mod facts;
pub mod verdict;

pub mod cures;
pub mod why;

pub mod print;

pub mod machine;

use std::io::{self, Write};

use crate::cli::diagnose::DiagnoseArgs;
use reflector_measure::error::Error;
use reflector_measure::exit::Exit;

/// Diagnoses the target, or this machine without one, and prints what was found.
///
/// # Errors
/// The target does not resolve, or this host cannot send to it.
pub fn run(args: &DiagnoseArgs, out: &mut impl Write) -> Result<Exit, Error> {
    let cannot_print = |error: io::Error| Error::system("cannot print the diagnosis", &error);
    let Some(target) = &args.target else {
        let checks = machine::check();
        print::machine(&checks, args.json, out).map_err(cannot_print)?;
        return Ok(machine::exit(&checks));
    };
    let facts = facts::gather(target, args)?;
    let diagnosis = verdict::diagnose(&facts);
    print::diagnosis(&facts, &diagnosis, args.json, out).map_err(cannot_print)?;
    Ok(diagnosis.verdict.exit())
}
