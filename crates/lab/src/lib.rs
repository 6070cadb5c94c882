//! `reflector lab`: the bug of moby#15127 and its remedy, shown to a person.
//!
//! Each [`case`] is a question; the naive server, or the user's, and `reflector` are asked the same
//! one, each in namespaces of its own (`hold`); what was seen of both is judged (`judge`) and
//! printed side by side (`page`) or as JSON (`json`).
//!
//! The right server is this program, started as a child: what is judged shares no code with the
//! judge.

#![forbid(unsafe_code)]

#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;

mod options;

pub mod case;
mod trial;

mod output_tail;
mod process_group;
mod server;

mod judge;

mod hold;
mod show;

mod json;
mod page;
mod printer;

#[cfg(test)]
mod fixtures;

use std::env;
use std::io;
use std::os::unix::process::CommandExt;
use std::thread;

use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::iterator::Signals;
use signal_hook::low_level::emulate_default_handler;

use case::Case;
pub use options::Options;
use printer::Printer;
use process_group::ProcessGroups;
use reflector_measure::error::Error;
use reflector_measure::exit::Exit;
use reflector_udp::netns::{self, Ability};
use server::ServerUnderTest;
use server::command::ServerCommand;
use show::{Outcome, Show, exit};
use trial::Question;

/// Shows what `options` ask for on stdout.
///
/// Where only user namespaces give the right to do so, the process is replaced by one in such a
/// namespace, with the same arguments.
///
/// # Errors
/// `--server` makes no sense or names a program that is not there, the lab cannot be set up (EPERM,
/// EMFILE), or `ENOSPC` of stdout.
pub fn run(options: &Options) -> Result<Exit, Error> {
    let servers = servers(options)?;
    enter_user_namespace()?;
    let process_groups = ProcessGroups::default();
    end_on_signals(process_groups.clone())?;
    let show = Show {
        question: Question {
            port: options.port,
            payload: options.payload.clone(),
            timeout: options.timeout,
        },
        servers,
        process_groups,
    };
    let mut printer = Printer::new(options.json);
    printer.begin(&show)?;
    let mut outcomes: Vec<Outcome> = Vec::new();
    for case in cases(&options.cases) {
        let outcome = show.outcome(case)?;
        if let Some(reason) = show.has_no_start(&outcomes, &outcome) {
            return Err(Error::new("your server could not be asked", reason));
        }
        printer.case(&show, &outcome)?;
        outcomes.push(outcome);
    }
    let exit = exit(&show, &outcomes);
    printer.end(&show, &outcomes, exit)?;
    Ok(exit)
}

/// The cases asked for, in the order shown.
fn cases(wanted: &[Case]) -> impl Iterator<Item = Case> {
    let is_wanted = |case: &Case| wanted.is_empty() || wanted.contains(case);
    Case::ALL.into_iter().filter(is_wanted)
}

fn servers(options: &Options) -> Result<[ServerUnderTest; 2], Error> {
    let first = match &options.server {
        None => ServerUnderTest::Naive,
        Some(line) => {
            let attempted = || format!("cannot run --server '{line}'");
            let command = ServerCommand::parse(line).map_err(|it| Error::usage(attempted(), it))?;
            if let Some(program) = command.missing_program() {
                let said = format!("there is no such program as '{program}'");
                return Err(Error::new(attempted(), said).try_this("give its path, or install it"));
            }
            ServerUnderTest::Yours(command)
        }
    };
    Ok([first, ServerUnderTest::Reflector(options.engine)])
}

/// The variable that tells the lab that it is in a user namespace of its own making.
pub const INSIDE: &str = "REFLECTOR_LAB_INSIDE";

/// Returns where network namespaces can be made, in a user namespace if need be.
fn enter_user_namespace() -> Result<(), Error> {
    let cannot = |said: &str| Error::new("cannot make network namespaces for the lab", said);
    match netns::ability() {
        Ability::Direct => Ok(()),
        Ability::ThroughUserNamespace if env::var_os(INSIDE).is_none() => {
            // Replaced, not started: so there is one process to interrupt.
            let said = netns::user_namespace_command(env::args_os().skip(1))
                .env(INSIDE, "1")
                .exec();
            Err(cannot(&said.to_string()).try_this("run as root"))
        }
        Ability::ThroughUserNamespace => {
            Err(cannot("a user namespace does not give the right to").try_this("run as root"))
        }
        Ability::None(reason) => Err(cannot(reason)),
    }
}

/// Ends all servers and then this process, by the signal's own way, when one asks for that.
fn end_on_signals(process_groups: ProcessGroups) -> Result<(), Error> {
    let cannot = |e: io::Error| Error::system("cannot listen to signals", &e);
    let mut signals = Signals::new([SIGINT, SIGTERM, SIGHUP]).map_err(cannot)?;
    let listen = move || {
        if let Some(signal) = signals.forever().next() {
            process_groups.end_all();
            // It does not return for signals whose default is to end the process.
            let _ = emulate_default_handler(signal);
        }
    };
    thread::Builder::new()
        .name("signals".to_owned())
        .spawn(listen)
        .map_err(cannot)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cases_come_in_a_fixed_order() {
        let chosen: Vec<Case> = cases(&[Case::Ipv6, Case::Hairpin, Case::Ipv6]).collect();
        assert_eq!(chosen, [Case::Hairpin, Case::Ipv6]);
        assert_eq!(cases(&[]).count(), Case::ALL.len());
    }
}
