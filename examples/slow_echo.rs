//! An echo that works a given time for each reply: a control whose true answer is known, for
//! whatever measures what a reply costs.
//!
//! ```text
//! cargo run --release --example slow_echo ADDR:PORT NANOSECONDS [singly]
//! ```
//!
//! With `singly` there are no trains. It prints where it listens, and runs one worker on the first
//! CPU that it may use:
//!
//! ```text
//! ready on 127.0.0.1:9007: 2000 ns for each reply
//! ```

use std::error::Error;
use std::time::{Duration, Instant};
use std::{env, hint};

use reflector::Verdict;
use reflector::config::{Config, EngineChoice};
use reflector::report::Report;
use reflector::responder::{Request, Responder};
use reflector::server::Server;

struct SlowEcho(Duration);

impl Responder for SlowEcho {
    #[expect(clippy::disallowed_methods, reason = "it measures itself, nobody else")]
    fn respond(&mut self, _: &Request, payload: &mut [u8]) -> Verdict {
        let start = Instant::now();
        while start.elapsed() < self.0 {
            hint::spin_loop();
        }
        Verdict::Reply { len: payload.len() }
    }
}

fn main() -> Result<(), Box<dyn Error>> {
    let args: Vec<_> = env::args().collect();
    let (listen, nanoseconds, has_trains) = match &args[..] {
        [_, listen, nanoseconds] => (listen, nanoseconds, true),
        [_, listen, nanoseconds, how] if how == "singly" => (listen, nanoseconds, false),
        _ => return Err("usage: slow_echo ADDR:PORT NANOSECONDS [singly]".into()),
    };
    let time = Duration::from_nanos(nanoseconds.parse()?);
    let config = Config::builder()
        .listen(listen.parse()?)
        .cores(1)
        .gso(has_trains);
    let config = config.gro(has_trains).engine(EngineChoice::Mmsg);
    let config = config.interval(None).build()?;
    let server = Server::open(config, |_| SlowEcho(time))?;
    server.run(|report| {
        if let Report::Ready(ready) = report {
            println!(
                "ready on {}: {nanoseconds} ns for each reply",
                ready.listen[0]
            );
        }
    })?;
    Ok(())
}
