//! The `reflector` program: parse, dispatch, exit code.

#![forbid(unsafe_code)]
#![allow(
    rustdoc::broken_intra_doc_links,
    reason = "`[::]` in the help of an option is an address, and backticks would show"
)]

mod cli;
mod environment;
mod figures;
mod healthcheck;
mod help;
mod metrics;
mod netns;
mod question;
mod repeated;
mod signals;
mod stderr;
mod values;
mod version;

mod diagnose;
mod lab;
mod load;
mod manual;
mod probe;
mod report;
mod serve;
mod wait;
mod watch;

use std::env;
use std::io::{self, IsTerminal, Write};
use std::process::ExitCode;

use clap::error::ErrorKind;
use reflector_measure::exit::Exit;
use reflector_measure::text;
use tracing_subscriber::filter::LevelFilter;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;

use cli::{Cli, Command};
use repeated::Limit;
use serve::LogFormat;
use stderr::Log;

fn main() -> ExitCode {
    let cli = match Cli::read() {
        Ok(cli) => cli,
        Err(error) => return refuse(&error),
    };
    start_log(cli.serve.output.verbose, cli.serve.output.log_format);
    for sentence in cli::unknown_variables() {
        tracing::warn!("{sentence}");
    }
    if let Err(error) = signals::ignore_others() {
        tracing::warn!("cannot listen to signals: {error}");
    }
    let ended = match &cli.command {
        None => serve::run(&cli.serve),
        Some(Command::Load(args)) => load::run(args),
        Some(Command::Diagnose(args)) => diagnose::run(args),
        Some(Command::Probe(args)) => probe::run(args),
        Some(Command::Wait(args)) => wait::run(args),
        Some(Command::Watch(args)) => watch::run(args),
        Some(Command::Healthcheck(args)) => healthcheck::run(args),
        Some(Command::Lab(args)) => lab::run(args),
        Some(Command::Report(args)) => report::run(args),
        Some(Command::Man(args)) => manual::man(args, cli::definition()),
        Some(Command::Completions(args)) => manual::completions(args, cli::definition()),
    };
    let exit = ended.unwrap_or_else(|error| {
        tracing::error!("{error}");
        if error.is_usage() {
            Exit::Usage
        } else {
            Exit::Failed
        }
    });
    repeated::tell(true);
    exit.into()
}

/// Prints help, the version, or what is wrong with the command line.
fn refuse(error: &clap::Error) -> ExitCode {
    if !error.use_stderr() {
        // A terminal that has gone takes no message; the exit code still says it.
        let _ = error.print();
        if error.kind() == ErrorKind::DisplayVersion && env::args_os().any(|it| it == "--version") {
            let _ = io::stdout().write_all(version::engines().as_bytes());
        }
        return ExitCode::SUCCESS;
    }
    let said = error.render().ansi().to_string();
    let stderr = io::stderr();
    let said = match stderr.is_terminal() {
        true => text::reflowed(&said, text::width(&stderr)),
        false => said,
    };
    let _ = anstream::AutoStream::auto(stderr).write_all(said.as_bytes());
    Exit::Usage.into()
}

/// Logs to stderr from now on.
fn start_log(is_verbose: bool, format: LogFormat) {
    let level = if is_verbose {
        LevelFilter::DEBUG
    } else {
        LevelFilter::INFO
    };
    let wraps = format == LogFormat::Text;
    let log = tracing_subscriber::fmt()
        .with_max_level(level)
        .with_target(false)
        // Where stderr has no reader any more, saying so there would panic.
        .log_internal_errors(false)
        .with_writer(Log::new(wraps));
    match format {
        LogFormat::Text => {
            let log = log.with_ansi(false).without_time();
            log.finish().with(Limit).init();
        }
        LogFormat::Json => log.json().finish().with(Limit).init(),
    }
}
