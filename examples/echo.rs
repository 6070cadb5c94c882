//! The first server: echoes every datagram, from the address that it was sent to.
//!
//! ```text
//! cargo run --example echo [ADDR:PORT]          default: 0.0.0.0:9007
//! echo hello | nc -u -w1 127.0.0.1 9007         in another terminal
//! ```
//!
//! It prints where it listens, a line for each second in which datagrams came, and how many there
//! were in all when Ctrl-C ends it:
//!
//! ```text
//! ready on 0.0.0.0:9007: 2 workers, engine uring
//! 1 received, 1 replied
//! ^Cended: 1 received, 1 replied, residence time p99 45.183 us
//! ```

use std::env;
use std::error::Error;
use std::thread;

use reflector::config::Config;
use reflector::report::Report;
use reflector::responder::echo::Echo;
use reflector::server::Server;
use signal_hook::consts::SIGINT;
use signal_hook::iterator::Signals;

fn main() -> Result<(), Box<dyn Error>> {
    let listen = env::args().nth(1);
    let listen = listen.as_deref().unwrap_or("0.0.0.0:9007").parse()?;
    let config = Config::builder().listen(listen).build()?;
    let server = Server::open(config, |_| Echo)?;

    // What was received is answered before the server ends.
    let handle = server.handle();
    let mut signals = Signals::new([SIGINT])?;
    thread::spawn(move || signals.forever().for_each(|_| handle.stop()));

    server.run(print)?;
    Ok(())
}

/// The server calls this on the thread that runs it.
fn print(report: Report<'_>) {
    match report {
        Report::Ready(ready) => println!(
            "ready on {}: {} workers, engine {}",
            ready.listen[0], ready.workers, ready.engine
        ),
        Report::Interval(interval) if interval.totals.received > 0 => println!(
            "{} received, {} replied",
            interval.totals.received, interval.totals.replied
        ),
        Report::Summary(summary) => println!(
            "ended: {} received, {} replied, residence time p99 {} us",
            summary.totals.received, summary.totals.replied, summary.totals.residence_us.p99
        ),
        _ => {}
    }
}
