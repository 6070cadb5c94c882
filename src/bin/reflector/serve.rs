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
use signal_hook::consts::SIGHUP;
use signal_hook::iterator::Signals;

use crate::signals;
use peers::Peers;
use reports::Reports;

pub use args::{ENDING, ServeArgs};
pub use values::LogFormat;

/// Reflects until the end, which a signal or `--duration` brings.
pub fn run(args: &ServeArgs) -> Result<Exit, Error> {
    let server = Server::open(args.builder()?.paths(paths::open).build()?, |listener| {
        listener.mode.responder()
    })?;
    let reports = Reports::open(args.output.json, args.output.hdr.as_deref())?;
    obey_signals(server.handle(), args)?;
    watch::follow(server.handle(), server.interfaces())?;
    let served = server.run(|report| reports.report(report));
    let exit = reports.end();
    served.map(|_| exit)
}

/// How long the server may take to end at once, before the process ends without it.
const ENDING_MAX: Duration = Duration::from_secs(1);

/// The signals that end in order drain. After as many as `args` says the server ends at once at the
/// next one, and where it does not, the process does. Where there are lists in files, SIGHUP has
/// them read again instead.
fn obey_signals(server: Handle, args: &ServeArgs) -> Result<(), Error> {
    let cannot = |e: io::Error| Error::system("cannot listen to signals", &e);
    let mut signals = Signals::new(signals::ending()).map_err(cannot)?;
    let orderly = args.orderly_signals();
    let peers = Some(args.peers.clone()).filter(Peers::has_files);
    let listen = move || {
        let mut count = 0;
        for signal in signals.forever() {
            if let (SIGHUP, Some(peers)) = (signal, &peers) {
                read_again(peers, &server);
                continue;
            }
            server.stop();
            count += 1;
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

/// Reads the lists of `peers` again, and has `server` go by them.
fn read_again(peers: &Peers, server: &Handle) {
    match peers.rules() {
        Ok(rules) => {
            server.set_rules(rules);
            tracing::info!("the lists have been read again");
        }
        Err(error) => tracing::warn!("who is answered stays as it is: {error}"),
    }
}
