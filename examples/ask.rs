//! Asks a UDP echo service twice, and says from where it was answered.
//!
//! First from a connected socket, as most programs do: the kernel delivers what comes from the
//! address asked, and refuses the rest by an ICMP port unreachable to whoever sent it, so that the
//! program hears nothing. Then from an unconnected one, which takes an answer from anywhere and so
//! shows a wrong source.
//!
//! ```text
//! cargo run --example ask ADDR:PORT
//! ```
//!
//! It prints one line, and ends with 0 if both answers came from there, 4 if one came from
//! somewhere else, 3 if there was none, 2 if the address makes no sense, 1 if it could not ask:
//!
//! ```text
//! answer from 172.16.13.13:9007, connected or not
//! connected: silence, refused here by ICMP; unconnected: answer from 172.17.0.1:9007
//! ```
//!
//! It uses nothing of the reflector that it judges, so that it can be copied into any container;
//! `reflector diagnose` says more, and why.

use std::env;
use std::fmt;
use std::fs;
use std::io::{self, ErrorKind};
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::process::ExitCode;
use std::time::Duration;

/// How long an answer may take.
const PATIENCE: Duration = Duration::from_secs(1);

/// What came back.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Outcome {
    Answer(SocketAddr),
    /// By the host asked: nobody listens there.
    Refused,
    Silence,
    /// Silence, while the kernel here refused a datagram by ICMP: likely the answer.
    RefusedHere,
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Answer(source) => write!(f, "answer from {source}"),
            Self::Refused => f.write_str("refused (ICMP port unreachable)"),
            Self::Silence => f.write_str("silence"),
            Self::RefusedHere => f.write_str("silence, refused here by ICMP"),
        }
    }
}

fn main() -> ExitCode {
    let target = env::args().nth(1).and_then(|target| target.parse().ok());
    let Some(target) = target else {
        eprintln!("usage: ask ADDR:PORT");
        return ExitCode::from(2);
    };
    match (ask(target, true), ask(target, false)) {
        (Ok(connected), Ok(unconnected)) => {
            if connected == unconnected {
                println!("{connected}, connected or not");
            } else {
                println!("connected: {connected}; unconnected: {unconnected}");
            }
            verdict(target, [connected, unconnected])
        }
        (Err(error), _) | (_, Err(error)) => {
            eprintln!("cannot ask {target}: {error}");
            ExitCode::FAILURE
        }
    }
}

fn verdict(target: SocketAddr, outcomes: [Outcome; 2]) -> ExitCode {
    let is_elsewhere =
        |outcome: &Outcome| matches!(outcome, Outcome::Answer(source) if *source != target);
    if outcomes.iter().any(is_elsewhere) {
        ExitCode::from(4)
    } else if outcomes == [Outcome::Answer(target); 2] {
        ExitCode::SUCCESS
    } else {
        ExitCode::from(3)
    }
}

/// Sends one datagram from a socket of its own and waits for what comes back.
fn ask(target: SocketAddr, is_connected: bool) -> io::Result<Outcome> {
    let socket = match target {
        SocketAddr::V4(_) => UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0)),
        SocketAddr::V6(_) => UdpSocket::bind((Ipv6Addr::UNSPECIFIED, 0)),
    }?;
    socket.set_read_timeout(Some(PATIENCE))?;
    let refused_before = refused_here();
    let question = b"from where will this be answered?";
    if is_connected {
        socket.connect(target)?;
        socket.send(question)?;
    } else {
        socket.send_to(question, target)?;
    }
    let mut answer = [0; 64];
    match socket.recv_from(&mut answer) {
        Ok((len, source)) if answer[..len] == *question => Ok(Outcome::Answer(source)),
        Ok((_, source)) => {
            let message = format!("{source} answered something else");
            Err(io::Error::new(ErrorKind::InvalidData, message))
        }
        Err(error) => match error.kind() {
            ErrorKind::ConnectionRefused => Ok(Outcome::Refused),
            ErrorKind::WouldBlock | ErrorKind::TimedOut => {
                let is_refused_here = refused_here() > refused_before;
                Ok(if is_refused_here {
                    Outcome::RefusedHere
                } else {
                    Outcome::Silence
                })
            }
            _ => Err(error),
        },
    }
}

/// How many datagrams this network namespace has refused by ICMP, in both families; in a container
/// that is nobody else's.
fn refused_here() -> u64 {
    let read = |file| fs::read_to_string(file).unwrap_or_default();
    let (v4, v6) = (read("/proc/net/snmp"), read("/proc/net/snmp6"));
    // A line of names, then one of values.
    let mut lines = v4.lines().filter(|line| line.starts_with("Icmp:"));
    let (names, values) = (lines.next().unwrap_or(""), lines.next().unwrap_or(""));
    let v4 = names.split(' ').zip(values.split(' '));
    let v6 = v6.lines().filter_map(|line| line.split_once(' '));
    v4.chain(v6)
        .filter(|(name, _)| matches!(*name, "OutDestUnreachs" | "Icmp6OutDestUnreachs"))
        .filter_map(|(_, value)| value.trim().parse::<u64>().ok())
        .sum()
}
