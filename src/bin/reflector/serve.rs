//! The reflector itself: how it starts and ends.

mod args;
mod metrics;
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
use signal_hook::consts::{SIGHUP, SIGUSR1};
use signal_hook::iterator::Signals;

use crate::signals;
use metrics::Metrics;
use peers::Peers;
use reports::{Reports, Snapshots};

pub use args::{ENDING, ServeArgs};
pub use values::LogFormat;

/// Reflects until the end, which a signal or `--duration` brings.
pub fn run(args: &ServeArgs) -> Result<Exit, Error> {
    let server = Server::open(args.builder()?.paths(paths::open).build()?, |listener| {
        listener.mode.responder()
    })?;
    let reports = Reports::open(args.output.json, args.output.hdr.as_deref())?;
    let metrics = Metrics::default();
    if let Some(addr) = args.output.metrics {
        metrics.serve(addr, server.handle())?;
    }
    obey_signals(server.handle(), args, reports.snapshots(), metrics.clone())?;
    watch::follow(server.handle(), server.interfaces())?;
    let served = server.run(|report| {
        metrics.report(report);
        reports.report(report);
    });
    let exit = reports.end();
    served.map(|_| exit)
}

/// How long the server may take to end at once, before the process ends without it.
const ENDING_MAX: Duration = Duration::from_secs(1);

/// The signals that end in order drain. After as many as `args` says the server ends at once at the
/// next one, and where it does not, the process does. Where there are lists in files, SIGHUP has
/// them read again instead. SIGUSR1 has `snapshots` say how it goes.
fn obey_signals(
    server: Handle,
    args: &ServeArgs,
    snapshots: Snapshots,
    metrics: Metrics,
) -> Result<(), Error> {
    let cannot = |e: io::Error| Error::system("cannot listen to signals", &e);
    let obeyed = signals::ending().into_iter().chain([SIGUSR1]);
    let mut signals = Signals::new(obeyed).map_err(cannot)?;
    let orderly = args.orderly_signals();
    let peers = Some(args.peers.clone()).filter(Peers::has_files);
    let listen = move || {
        let mut count = 0;
        for signal in signals.forever() {
            if let (SIGHUP, Some(peers)) = (signal, &peers) {
                metrics.reloaded(read_again(peers, &server));
                continue;
            }
            if signal == SIGUSR1 {
                snapshots.print(&server);
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

/// Reads the lists of `peers` again, and has `server` go by them; says whether they could be read.
fn read_again(peers: &Peers, server: &Handle) -> bool {
    match peers.rules() {
        Ok(rules) => {
            server.set_rules(rules);
            tracing::info!("the lists have been read again");
            true
        }
        Err(error) => {
            tracing::warn!("who is answered stays as it is: {error}");
            false
        }
    }
}
