//! `reflector healthcheck`: one question, and an exit code for whoever restarts containers.

use std::hash::{BuildHasher, Hasher, RandomState};
use std::io;
use std::net::UdpSocket;
use std::time::Duration;

use clap::Args;
use reflector::config::DEFAULT_PORT;
use reflector_measure::clock;
use reflector_measure::error::Error;
use reflector_measure::exit::Exit;
use reflector_measure::target::{Target, wildcard};

use crate::help::Ending;
use crate::netns::Netns;
use crate::values::time;

/// What the help ends with.
const ENDING: Ending = Ending {
    examples: &[
        (
            "Of the reflector in this container",
            "reflector healthcheck",
        ),
        (
            "Of one that listens elsewhere",
            "reflector healthcheck [::1]:7007",
        ),
        (
            "Of one on another host, with less patience",
            "reflector healthcheck 192.0.2.1 -t 200ms",
        ),
    ],
    sections: &[(
        "Exit status",
        &[
            "0  it answered",
            "1  it did not, or not what was asked",
            "2  wrong usage",
        ],
    )],
};

/// Ask a reflector once, and say by the exit code whether it answers
///
/// What is wrong with it, 'diagnose' says.
#[derive(Args, Clone, Debug)]
#[command(after_help = ENDING.short(), after_long_help = ENDING.long())]
pub struct HealthcheckArgs {
    /// Whom to ask
    #[arg(value_name = "HOST:PORT", default_value = "127.0.0.1:9007")]
    target: Target,
    /// How long to wait for the answer
    #[arg(short, long, value_name = "TIME", default_value = "1s")]
    #[arg(value_parser = time(Duration::from_millis(1)..=Duration::from_secs(60)))]
    timeout: Duration,
    #[command(flatten)]
    netns: Netns,
}

/// Asks, and waits for the answer.
pub fn run(args: &HealthcheckArgs) -> Result<Exit, Error> {
    args.netns.within(|| ask(args))
}

fn ask(args: &HealthcheckArgs) -> Result<Exit, Error> {
    let target = args.target.clone().at_port_or(DEFAULT_PORT);
    let asked = target.resolve(None)?[0];
    // A random number: the standard library seeds its hashers with one.
    let question = RandomState::new().build_hasher().finish().to_be_bytes();
    let answer = || -> io::Result<()> {
        let socket = UdpSocket::bind((wildcard(asked.ip()), 0))?;
        socket.connect(asked)?;
        socket.send(&question)?;
        let until = clock::monotonic() + args.timeout;
        loop {
            let left = until.saturating_duration_since(clock::monotonic());
            if left.is_zero() {
                return Err(io::ErrorKind::TimedOut.into());
            }
            socket.set_read_timeout(Some(left))?;
            let mut bytes = [0; 64];
            match socket.recv(&mut bytes) {
                Ok(len) if bytes[..len] == question => return Ok(()),
                // Something else, or a wait that was over early.
                Ok(_) => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
    };
    match answer() {
        Ok(()) => Ok(Exit::Done),
        Err(error) => Err(Error::system(format!("{asked} does not answer"), &error)
            .try_this(format!("`reflector diagnose {asked}` says why"))),
    }
}
