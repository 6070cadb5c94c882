//! The reflector itself: how it starts and ends.

mod args;
mod outlet;
mod paths;
mod peers;
mod reporter;
mod reports;
mod values;
mod watch;

use std::io;
use std::process;
use std::thread;
use std::time::Duration;

use reflector::server::{Handle, Server};
use reflector_measure::error::Error;
use reflector_measure::exit::Exit;
use signal_hook::iterator::Signals;

use crate::signals;
use reports::Reports;

pub use args::{ENDING, ServeArgs};
pub use values::LogFormat;

/// Reflects until the end, which a signal or `--duration` brings.
pub fn run(args: &ServeArgs) -> Result<Exit, Error> {
    let server = Server::open(args.builder()?.paths(paths::open).build()?, |listener| {
        listener.mode.responder()
    })?;
    let reports = Reports::open(args.output.json, args.output.hdr.as_deref())?;
    stop_on_signals(server.handle(), args.orderly_signals())?;
    watch::follow(server.handle(), server.interfaces())?;
    let served = server.run(|report| reports.report(report));
    let exit = reports.end();
    served.map(|_| exit)
}

/// How long the server may take to end at once, before the process ends without it.
const ENDING_MAX: Duration = Duration::from_secs(1);

/// The signals that end in order drain. After `orderly` of them the server ends at once at the next
/// one, and where it does not, the process does.
fn stop_on_signals(server: Handle, orderly: u32) -> Result<(), Error> {
    let cannot = |e: io::Error| Error::system("cannot listen to signals", &e);
    let mut signals = Signals::new(signals::ending()).map_err(cannot)?;
    let listen = move || {
        for (count, _) in (1_u32..).zip(signals.forever()) {
            server.stop();
            if count > orderly {
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
