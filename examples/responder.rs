//! A responder of one's own: tells whoever asks its address as it is seen here, and when the
//! question came.
//!
//! ```text
//! cargo run --example responder [ADDR:PORT]     default: 0.0.0.0:9007
//! printf '%192s' | nc -u -w1 127.0.0.1 9007     in another terminal
//! ```
//!
//! It prints where it listens. The second line prints what was answered: the peer, the address that
//! it asked, the kernel's receive time and the hops that the question had left:
//!
//! ```text
//! 127.0.0.1:40000 asked 127.0.0.1:9007 at 1764301463.123456789, 64 hops left
//! ```
//!
//! A reply is never longer than its request, so that nobody can be flooded by asking in another's
//! name. So the question has to bring the room for its answer; a shorter one is dropped, and
//! counted as malformed.

use std::env;
use std::error::Error;
use std::io::Write;

use reflector::config::Config;
use reflector::report::Report;
use reflector::responder::{Needs, Request, Responder};
use reflector::server::Server;
use reflector::{DropReason, Verdict};

/// Says what it knows of the question. One for each socket of each worker, so it needs no lock.
struct WhoAmI;

impl Responder for WhoAmI {
    /// Each of these is a control message with every datagram; what is not asked for is not told.
    fn needs(&self) -> Needs {
        Needs::NONE.with_receive_stamps().with_hop_limit()
    }

    /// Writes the answer over the question. This runs for every datagram: it neither allocates nor
    /// waits.
    fn respond(&mut self, request: &Request, payload: &mut [u8]) -> Verdict {
        // Told, since both are needed.
        let (Some(received_ns), Some(hops)) = (request.received_ns, request.hop_limit) else {
            return Verdict::Drop(DropReason::Malformed);
        };
        let (seconds, nanoseconds) = (received_ns / 1_000_000_000, received_ns % 1_000_000_000);
        let (peer, local) = (request.peer, request.local);
        let payload_len = payload.len();
        let mut rest = payload;
        let written = writeln!(
            rest,
            "{peer} asked {local} at {seconds}.{nanoseconds:09}, {hops} hops left"
        );
        match written {
            Ok(()) => Verdict::Reply {
                len: payload_len - rest.len(),
            },
            Err(_) => Verdict::Drop(DropReason::Malformed),
        }
    }
}

fn main() -> Result<(), Box<dyn Error>> {
    let listen = env::args().nth(1);
    let listen = listen.as_deref().unwrap_or("0.0.0.0:9007").parse()?;
    let config = Config::builder().listen(listen).build()?;
    let server = Server::open(config, |_| WhoAmI)?;
    server.run(|report| {
        if let Report::Ready(ready) = report {
            println!("ready on {}", ready.listen[0]);
        }
    })?;
    Ok(())
}
