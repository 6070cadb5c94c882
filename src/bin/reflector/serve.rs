//! The reflector itself: how it starts and ends.

mod accelerate;
mod args;
mod confined;
mod help;
mod manager;
mod metrics;
mod outlet;
mod output;
mod paths;
mod peers;
mod reporter;
mod reports;
mod starter;
mod takeover;
mod trains;
mod values;
mod watch;

use std::io;
use std::net::SocketAddr;
use std::process;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use reflector::Rules;
use reflector::report::Report;
use reflector::responder::Responder;
use reflector::server::{Handle, Inherited, Server};
use reflector_measure::error::Error;
use reflector_measure::exit::Exit;
use reflector_udp::pages;
use signal_hook::consts::{SIGHUP, SIGUSR1};
use signal_hook::iterator::Signals;

use crate::repeated;
use crate::signals;
use accelerate::InKernel;
use manager::Manager;
use metrics::Metrics;
use peers::Peers;
use reports::{Reports, Snapshots};
use starter::Starter;
use takeover::{Meeting, Predecessor};

pub use args::ServeArgs;
pub use help::ENDING;
pub use values::LogFormat;

/// Reflects until the end, which a signal, `--duration` or a takeover brings.
pub fn run(args: &ServeArgs) -> Result<Exit, Error> {
    let manager = Manager::find();
    let accelerated = args.accelerated()?;
    let activated = manager::sockets()?;
    let starter = args.starter.take(args.output.json)?;
    let waits = || {
        if args.is_confined() {
            confined::leave_all();
        }
    };
    let serve = || serve(args, &accelerated, &manager, activated, starter);
    args.netns().within_beside(waits, serve)
}

/// The same, where the sockets are to be opened.
fn serve(
    args: &ServeArgs,
    accelerated: &[String],
    manager: &Manager,
    activated: Vec<Inherited>,
    mut starter: Starter,
) -> Result<Exit, Error> {
    let builder = args.builder(&activated)?.paths(paths::open);
    let builder = match args.is_confined() {
        true => builder.confine(confined::worker),
        false => builder.restrict_rings(false),
    };
    let config = builder.build()?;
    let rules = config.rules().clone();
    let asked = args.takeover().map(takeover::ask).transpose()?;
    let (predecessor, inherited) = asked.flatten().unzip();
    // Those of an old process are the same, with what belongs to them.
    let inherited = inherited.unwrap_or(activated);
    let server = Server::adopt(config, inherited, |listener| listener.mode.responder())?;
    let meeting = args.takeover();
    let meeting = meeting.map(|path| Meeting::open(path, predecessor.as_ref()));
    let meeting = meeting.transpose()?;
    let log = args.output.hdr.as_deref().map(reports::open_log);
    let log = log.transpose()?;
    // The old process has the port until it ends.
    let metrics_at = args.output.metrics.filter(|_| predecessor.is_none());
    let listener = metrics_at.map(crate::metrics::listen).transpose()?;
    // At its devices at once: what it passes waits at the sockets.
    let in_kernel = in_kernel(args, accelerated, &rules, &server)?;
    // All is open, and nothing else runs: what it leaves now no other will have.
    if args.is_confined() {
        let interfaces = server.interfaces();
        confined::enter(
            args,
            &interfaces,
            predecessor.is_some(),
            in_kernel.is_some(),
        );
    }
    if let Some(in_kernel) = &in_kernel {
        in_kernel.follow()?;
    }
    let reports = Reports::start(args.format(), log, in_kernel.clone())?;
    let metrics = Metrics::new(&rules, in_kernel.clone());
    let handle = server.handle();
    if let Some(listener) = listener {
        metrics.serve(listener, handle.clone())?;
    }
    let reload = Reload {
        peers: args.peers.clone(),
        server: handle.clone(),
        in_kernel: in_kernel.clone(),
    };
    obey_signals(reload, args, reports.snapshots(), metrics.clone())?;
    args.starter.stop_at_eof(handle.clone())?;
    watch::follow(handle.clone(), server.interfaces())?;
    let mut predecessor = predecessor;
    let mut begun = Ok(());
    let served = server.run(|report| {
        if let Report::Ready(ready) = report {
            // First, since the old one goes on where this fails.
            begun = starter.tell(ready).and_then(|()| {
                let meeting = meeting.as_ref();
                begin(args, predecessor.take(), meeting, &handle, &metrics)
            });
            if begun.is_err() {
                // The old one goes on with them.
                handle.leave_sockets();
                return;
            }
            manager.is_ready(&handle);
        }
        if let Report::Stopping = report {
            manager.is_stopping();
        }
        if let (Report::Interval(interval), Some(in_kernel)) = (report, &in_kernel)
            && interval.is_last
        {
            // Before it is asked what it has answered, for the last time.
            in_kernel.end();
        }
        // Of kinds of lines that have come no more since.
        repeated::tell(false);
        metrics.report(report);
        reports.report(report);
        if let Report::Ready(_) = report {
            release_memory();
        }
    });
    drop(meeting);
    let exit = reports.end();
    served.and(begun).map(|()| exit)
}

/// Gives back what only the start has needed, half of what is resident, once every thread has got
/// to where it waits; nobody waits for this.
fn release_memory() {
    let release = || {
        thread::sleep(SETTLING);
        if let Err(error) = pages::release() {
            tracing::debug!("what only the start needed stays in memory: {error}");
        }
    };
    let thread = thread::Builder::new().name("release".to_owned());
    if let Err(error) = thread.spawn(release) {
        tracing::debug!("what only the start needed stays in memory: {error}");
    }
}

/// What is to be done once every worker receives: relieve the old process, wait for the next one.
fn begin(
    args: &ServeArgs,
    predecessor: Option<Predecessor>,
    meeting: Option<&Meeting>,
    server: &Handle,
    metrics: &Metrics,
) -> Result<(), Error> {
    if let Some(predecessor) = predecessor {
        predecessor.relieve()?;
        if let Some(addr) = args.output.metrics {
            serve_metrics_after(predecessor, addr, server.clone(), metrics.clone())?;
        }
    }
    meeting.map_or(Ok(()), |meeting| meeting.start(server.clone()))
}

/// Answers with metrics once `predecessor` has ended, which has the port until then.
fn serve_metrics_after(
    predecessor: Predecessor,
    addr: SocketAddr,
    server: Handle,
    metrics: Metrics,
) -> Result<(), Error> {
    let say = |served: Result<(), Error>| {
        if let Err(error) = served {
            tracing::error!("{error}; the service goes on");
        }
    };
    let serve = move || {
        predecessor.wait_for_end();
        // Its threads end one by one, and the last one at the port may not be the first.
        for _ in 0..ENDING_MAX.as_millis() / FREEING.as_millis() {
            if let Ok(listener) = crate::metrics::listen(addr) {
                return say(metrics.serve(listener, server));
            }
            thread::sleep(FREEING);
        }
        say(crate::metrics::listen(addr).and_then(|listener| metrics.serve(listener, server)));
    };
    let thread = thread::Builder::new().name("takeover".to_owned());
    let cannot = |e: io::Error| Error::system("cannot answer with metrics", &e);
    thread.spawn(serve).map(drop).map_err(cannot)
}

/// How long the server may take to end at once, before the process ends without it.
const ENDING_MAX: Duration = Duration::from_secs(1);
/// Longer than threads that have started take until they wait.
const SETTLING: Duration = Duration::from_millis(100);
/// How often a port is tried that the old process has had.
const FREEING: Duration = Duration::from_millis(10);

/// What answers in the kernel at the devices `accelerated`, if any, as `server` would.
fn in_kernel<R: Responder + Send + 'static>(
    args: &ServeArgs,
    accelerated: &[String],
    rules: &Rules,
    server: &Server<R>,
) -> Result<Option<Arc<InKernel>>, Error> {
    if accelerated.is_empty() {
        return Ok(None);
    }
    let listeners = server.listen_addrs();
    let in_kernel = InKernel::open(accelerated, listeners, args.is_dual_stack(), rules)?;
    Ok(Some(Arc::new(in_kernel)))
}

/// The signals that end in order drain. After as many as `args` says the server ends at once at the
/// next one, and where it does not, the process does. Where there are lists in files, SIGHUP has
/// them read again instead. SIGUSR1 has `snapshots` say how it goes.
fn obey_signals(
    reload: Reload,
    args: &ServeArgs,
    snapshots: Snapshots,
    metrics: Metrics,
) -> Result<(), Error> {
    let cannot = |e: io::Error| Error::system("cannot listen to signals", &e);
    let obeyed = signals::ending().into_iter().chain([SIGUSR1]);
    let mut signals = Signals::new(obeyed).map_err(cannot)?;
    let orderly = args.orderly_signals();
    let listen = move || {
        let server = &reload.server;
        let mut count = 0;
        for signal in signals.forever() {
            if signal == SIGHUP && reload.peers.has_files() {
                metrics.read_again(reload.read_again().as_ref());
                continue;
            }
            if signal == SIGUSR1 {
                snapshots.print(server);
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

/// Lists that may be read again, and who goes by them.
struct Reload {
    peers: Peers,
    server: Handle,
    in_kernel: Option<Arc<InKernel>>,
}

impl Reload {
    /// Reads the lists again, and has everybody go by them; returns them if they could be read.
    fn read_again(&self) -> Option<Rules> {
        match self.peers.rules() {
            Ok(rules) => {
                if let Some(in_kernel) = &self.in_kernel {
                    in_kernel.set_rules(&rules);
                }
                self.server.set_rules(rules.clone());
                tracing::info!("the lists have been read again");
                Some(rules)
            }
            Err(error) => {
                tracing::warn!("who is answered stays as it is: {error}");
                None
            }
        }
    }
}
