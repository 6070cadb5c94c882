//! `reflector diagnose`: its options, as typed, and what they come to.

use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use clap::Args;
use reflector::config::{Config, Listener};
use reflector::probe::{self, Blocker};
use reflector::report::Report;
use reflector::responder::{Request, Responder};
use reflector::server::Server;
use reflector::{DEFAULT_DENY_PORTS, DropReason, Verdict};
use reflector_diagnose::Options;
use reflector_diagnose::machine::Blocked;
use reflector_diagnose::question::Question;
use reflector_measure::error::Error;
use reflector_measure::exit::Exit;
use reflector_measure::target::Target;

use crate::help::Ending;
use crate::netns::Netns;
use crate::question::QuestionArgs;
use crate::values::{OnlyFamily, WAIT_FOR_ANSWER, number, port, time};

/// What the help ends with.
const ENDING: Ending = Ending {
    examples: &[
        ("Check an echo service", "reflector diagnose 192.0.2.1:9007"),
        (
            "Check a DNS server",
            "reflector diagnose 192.0.2.1:53 --dns example.com",
        ),
        (
            "Check from the port of a client that gets no answer",
            "reflector diagnose 192.0.2.1:9007 --source-port 40000",
        ),
        ("Check this host", "reflector diagnose"),
    ],
    sections: &[
        (
            "Values",
            &["TIME is a number of seconds, or has a unit: 0.5, 20ms."],
        ),
        (
            "Environment",
            &[
                "A variable sets an option: REFLECTOR_DIAGNOSE_TRIES sets --tries.",
                "1 sets a flag. The command line wins.",
            ],
        ),
        (
            "Exit status",
            &[
                "0  answered from the address asked; nothing hinders this host",
                "1  failed; something hinders this host",
                "2  wrong usage",
                "3  silent, refused, or answered with what another client asked for",
                "4  answered from another address",
            ],
        ),
    ],
};

/// Check whether a UDP service answers from the address asked, and if not, why
///
/// Without TARGET, check whether this host is fit to reflect: io_uring, buffers, connection
/// tracking, offloads.
#[derive(Args, Clone, Debug)]
#[command(after_help = ENDING.short(), after_long_help = ENDING.long())]
#[command(mut_arg("ipv4", |it| it.requires("target")))]
#[command(mut_arg("ipv6", |it| it.requires("target")))]
#[command(mut_arg("payload_hex", |it| it.requires("target")))]
#[command(mut_arg("dns", |it| it.requires("target")))]
pub struct DiagnoseArgs {
    /// UDP service to check: HOST:PORT, or HOST for port 9007; without it, this host is checked
    ///
    /// HOST is a name, an IPv4 address, or an IPv6 address such as fe80::1%eth0, which stands in
    /// brackets before a port. The service is asked for an echo, unless --payload-hex or --dns says
    /// otherwise; with --dns the port is 53 if none is given.
    #[arg(value_name = "TARGET")]
    target: Option<Target>,
    #[command(flatten)]
    over: OnlyFamily,
    #[command(flatten)]
    netns: Netns,
    #[command(flatten)]
    question: QuestionArgs,
    /// Number of tries, each with a connected and an unconnected socket
    ///
    /// Every socket has a fresh source port. If all are silent, one more try watches the interface,
    /// for answers that reach this host and no socket.
    #[arg(short = 'n', long, value_name = "N", default_value_t = 3)]
    #[arg(value_parser = number::<u16>(1..=100))]
    tries: u16,
    /// Wait this long for each answer
    #[arg(short, long, value_name = "TIME", default_value = "1s")]
    #[arg(value_parser = time(WAIT_FOR_ANSWER))]
    timeout: Duration,
    /// Send the first try from this port
    ///
    /// The port of a client that gets no answer shows whether connection tracking holds a stale
    /// flow. Where every fresh port is answered and this one is not, it is asked from again, as
    /// often as there are tries.
    #[arg(long, value_name = "PORT")]
    #[arg(value_parser = port, requires = "target")]
    source_port: Option<u16>,
    /// Print one JSON object instead of text
    #[arg(short, long)]
    json: bool,
}

impl DiagnoseArgs {
    /// Whom to ask, at the port that its service has by default.
    fn target(&self) -> Option<Target> {
        let target = self.question.at_port(self.target.as_ref()?);
        Some(target.over(self.over.family()))
    }

    fn options(&self) -> Options {
        Options {
            target: self.target(),
            question: self.question.question_or(Question::Echo),
            tries: self.tries,
            timeout: self.timeout,
            source_port: self.source_port,
            denied_ports: DEFAULT_DENY_PORTS,
            json: self.json,
        }
    }
}

/// Diagnoses the target, or this host without one.
pub fn run(args: &DiagnoseArgs) -> Result<Exit, Error> {
    args.netns
        .within(|| reflector_diagnose::run(&args.options(), try_io_uring, &mut io::stdout().lock()))
}

fn try_io_uring() -> Result<(), Blocked> {
    let blocked = |Blocker { what, remedy, .. }| Blocked { what, remedy };
    probe::probe().map_err(blocked)?;
    // What it says of its settings is no answer to the question asked.
    let nobody = tracing::subscriber::NoSubscriber::default();
    match tracing::subscriber::with_default(nobody, why_without_ring) {
        Ok(Some(_)) => {
            // What alone is found out this late: memory for the rings of all workers.
            let short = io::Error::from_raw_os_error(libc::ENOMEM);
            Err(blocked(probe::blocker(&short)))
        }
        // Sockets that cannot be opened are another check's.
        Ok(None) | Err(_) => Ok(()),
    }
}

/// Why a server with the default settings runs without io_uring, if it does: a trial ring is far
/// smaller than those of all workers. The server is at ports that the kernel chooses, answers
/// nobody, and ends as soon as it is ready.
fn why_without_ring() -> Result<Option<String>, Error> {
    let any_v4 = SocketAddr::from((Ipv4Addr::UNSPECIFIED, 0));
    let any_v6 = SocketAddr::from((Ipv6Addr::UNSPECIFIED, 0));
    let mut v6 = Listener::new(any_v6);
    v6.is_optional = true;
    let config = Config::builder().listen(any_v4).listener(v6);
    let server = Server::open(config.build()?, |_| Silent)?;
    let handle = server.handle();
    let mut reason = None;
    server.run(|report| {
        if let Report::Ready(ready) = report {
            reason = ready.engine_reason.clone();
            handle.stop();
        }
    })?;
    Ok(reason)
}

/// Answers nobody.
struct Silent;

impl Responder for Silent {
    fn respond(&mut self, _: &Request, _: &mut [u8]) -> Verdict {
        Verdict::Drop(DropReason::Malformed)
    }
}
