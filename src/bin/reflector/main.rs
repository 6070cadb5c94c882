//! The `reflector` program: parse, dispatch, exit code.

mod diagnose;
mod lab;
mod load;
mod report;
mod reports;
mod serve;

use std::io;
use std::process::{self, ExitCode};
use std::thread;
use std::time::Duration;

use clap::error::ErrorKind;
use reflector::engine::probe;
use reflector::server::Server;
use reflector::server::control::Handle;
use reflector_diagnose::machine::Blocked;
use reflector_measure::error::Error;
use reflector_measure::exit::Exit;
use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::iterator::Signals;
use tracing_subscriber::filter::LevelFilter;

use reports::Reports;
use serve::{Cli, Command, LogFormat, ServeArgs};

fn main() -> ExitCode {
    let cli = match Cli::read() {
        Ok(cli) => cli,
        Err(error) => return refuse(&error),
    };
    start_log(&cli.serve);
    let ended = match &cli.command {
        None => serve(&cli.serve),
        Some(Command::Load(args)) => reflector_load::run(&args.options()),
        Some(Command::Diagnose(args)) => {
            reflector_diagnose::run(&args.options(), try_io_uring, &mut io::stdout().lock())
        }
        Some(Command::Lab(args)) => reflector_lab::run(&args.options()),
        Some(Command::Report(args)) => reflector_report::run(&args.options()),
    };
    let exit = ended.unwrap_or_else(|error| {
        tracing::error!("{error}");
        if error.is_usage() {
            Exit::Usage
        } else {
            Exit::Failed
        }
    });
    exit.into()
}

/// Prints help, the version, or what is wrong with the command line.
fn refuse(error: &clap::Error) -> ExitCode {
    // A terminal that has gone takes no message; the exit code still says it.
    let _ = error.print();
    match error.kind() {
        ErrorKind::DisplayHelp | ErrorKind::DisplayVersion => ExitCode::SUCCESS,
        _ => Exit::Usage.into(),
    }
}

fn start_log(args: &ServeArgs) {
    let level = if args.verbose {
        LevelFilter::DEBUG
    } else {
        LevelFilter::INFO
    };
    let log = tracing_subscriber::fmt()
        .with_max_level(level)
        // Where stderr has no reader any more, saying so there would panic.
        .log_internal_errors(false)
        .with_writer(io::stderr);
    let log = log.with_target(false);
    match args.log_format {
        LogFormat::Text => log.with_ansi(false).without_time().init(),
        LogFormat::Json => log.json().init(),
    }
}

fn serve(args: &ServeArgs) -> Result<Exit, Error> {
    let server = Server::open(args.builder().build()?, |listener| {
        listener.mode.responder()
    })?;
    let mut reports = Reports::open(args)?;
    stop_on_signals(server.handle())?;
    server.run(|report| reports.report(report))?;
    reports.end()
}

fn try_io_uring() -> Result<(), Blocked> {
    let blocked = |probe::Blocker { what, remedy }| Blocked { what, remedy };
    probe::probe().map(drop).map_err(blocked)
}

/// How long the server may take to end at a second signal, before the process ends without it: it
/// may be waiting for a reader of its reports that does not read.
const ENDING_MAX: Duration = Duration::from_secs(1);

/// SIGTERM and SIGINT drain; the server ends at once at a second one.
fn stop_on_signals(server: Handle) -> Result<(), Error> {
    let cannot = |e: io::Error| Error::system("cannot listen to signals", &e);
    let mut signals = Signals::new([SIGTERM, SIGINT]).map_err(cannot)?;
    let listen = move || {
        for (count, _) in (1..).zip(signals.forever()) {
            server.stop();
            if count > 1 {
                thread::sleep(ENDING_MAX);
                process::exit(i32::from(Exit::Failed.code()));
            }
        }
    };
    thread::Builder::new()
        .name("signals".to_owned())
        .spawn(listen)
        .map_err(cannot)?;
    Ok(())
}
