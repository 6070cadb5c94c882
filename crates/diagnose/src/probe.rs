//! `reflector probe`: a few datagrams from one socket, and the verdict in one word.

use std::collections::BTreeMap;
use std::io::Write;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use serde::Serialize;

use crate::ask::Plan;
use crate::attempt::{Outcome, SocketKind, is_same};
use crate::question::Question;
use crate::volley::{self, Volley};
use crate::word::Word;
use reflector_measure::echo_info::EchoInfo;
use reflector_measure::error::Error;
use reflector_measure::exit::Exit;
use reflector_measure::host_port::HostPort;
use reflector_measure::target::Target;
use reflector_measure::{clock, errno, json, output};

/// What `reflector probe` is asked to do.
#[derive(Clone, Debug)]
pub struct ProbeOptions {
    /// Whom to ask.
    pub target: Target,
    /// What to ask.
    pub question: Question,
    /// How many datagrams to send.
    pub count: u16,
    /// How long to wait for all of them.
    pub timeout: Duration,
    /// Ask by a connected socket, which is given answers from the address asked only.
    pub is_connected: bool,
    /// The port to ask from.
    pub source_port: Option<u16>,
    /// Who has to answer, if not the address asked; at its port, if none is typed.
    pub expected_source: Option<HostPort>,
    /// The words that are wanted; none is the same as `ok`.
    pub expected: Vec<Word>,
    /// JSON instead of the word.
    pub json: bool,
}

/// Asks, and prints the verdict.
///
/// # Errors
/// The target does not resolve; EADDRINUSE or EACCES of the port to ask from.
pub fn probe(options: &ProbeOptions, out: &mut impl Write) -> Result<Exit, Error> {
    let asked = options.target.resolve(None)?[0];
    let source = expected_source(options, asked)?;
    let plan = Plan::new(asked, options.question.clone(), options.timeout);
    let kind = match options.is_connected {
        true => SocketKind::Connected,
        false => SocketKind::Unconnected,
    };
    let started = clock::monotonic();
    let volley = volley::ask(&plan, options.count, kind, options.source_port.unwrap_or(0))?;
    let elapsed = clock::monotonic().duration_since(started);
    let word = Word::of(&volley.fates, source);
    let exit = match options.expected.contains(&word) {
        true => Exit::Done,
        // It is fine, and that was not wanted.
        false if word == Word::Ok && !options.expected.is_empty() => Exit::ThresholdMissed,
        false => word.exit(),
    };
    if !options.json {
        output::written(writeln!(out, "{}", word.name()).and_then(|()| out.flush()))?;
        return Ok(exit);
    }
    let object = Object {
        target: options.target.to_string(),
        question: options.question.name(),
        socket: kind.name(),
        verdict: word,
        expected: &options.expected,
        exit_code: exit.code(),
        elapsed_ms: elapsed.as_secs_f64() * 1e3,
        seen: Seen::new(&volley, asked, source),
    };
    output::written(json::write_line(out, "probe", &object))?;
    Ok(exit)
}

/// Who has to answer.
fn expected_source(options: &ProbeOptions, asked: SocketAddr) -> Result<SocketAddr, Error> {
    let Some(source) = &options.expected_source else {
        return Ok(asked);
    };
    let mut addr = source.resolve()?[0];
    if !source.has_port {
        addr.set_port(asked.port());
    }
    Ok(addr)
}

#[derive(Serialize)]
struct Object<'a> {
    target: String,
    question: &'static str,
    socket: &'static str,
    verdict: Word,
    expected: &'a [Word],
    exit_code: u8,
    elapsed_ms: f64,
    #[serde(flatten)]
    seen: Seen,
}

/// What was asked, and what came.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Seen {
    asked: SocketAddr,
    /// From where, as far as this host knows.
    local: SocketAddr,
    /// From where an answer is a right one.
    expected_source: SocketAddr,
    /// Questions that the kernel took.
    sent: usize,
    /// Right answers.
    received: usize,
    /// Who else answered, and how many.
    wrong_source: BTreeMap<SocketAddr, usize>,
    /// Datagrams that were no answers.
    foreign: u64,
    icmp: Option<Icmp>,
    /// Why the kernel did not take a question.
    send_error: Option<String>,
    /// The shortest and the longest time to a right answer.
    rtt_us: Option<Times>,
    /// What the server told of the asker.
    told: Option<Told>,
}

#[derive(Clone, Debug, Serialize)]
struct Icmp {
    by: Option<IpAddr>,
    icmp_type: u8,
    icmp_code: u8,
    meaning: String,
}

#[derive(Clone, Copy, Debug, Serialize)]
struct Times {
    min: f64,
    max: f64,
}

/// What a reflector with `--echo-info` told in its last answer.
#[derive(Clone, Copy, Debug, Serialize)]
struct Told {
    /// Who asks, as seen there.
    peer: SocketAddr,
    /// Who was asked, as seen there.
    local: SocketAddr,
    hops: Option<u8>,
    /// How many of these questions had come.
    received: u64,
}

impl Seen {
    /// What there is to say of `volley`, to `asked`, where `source` has to answer.
    pub(crate) fn new(volley: &Volley, asked: SocketAddr, source: SocketAddr) -> Self {
        let outcomes = || volley.fates.iter().map(|it| &it.outcome);
        let right = outcomes().filter_map(|it| right(it, source));
        let right: Vec<_> = right.map(|it| it.as_nanos() as f64 / 1e3).collect();
        let mut wrong_source = BTreeMap::new();
        for from in outcomes().filter_map(|it| wrong(it, source)) {
            *wrong_source.entry(from).or_insert(0) += 1;
        }
        let errno = |it: &Outcome| match it {
            Outcome::Unsent(errno) => Some(errno::name(*errno)),
            _ => None,
        };
        let icmp = |it: &Outcome| match it {
            Outcome::Refused(it) => Some(Icmp {
                by: it.by,
                icmp_type: it.icmp_type,
                icmp_code: it.icmp_code,
                meaning: it.meaning(),
            }),
            _ => None,
        };
        let told = |it: &EchoInfo| Told {
            peer: it.peer,
            local: it.local,
            hops: it.hops,
            received: it.count.count,
        };
        Self {
            asked,
            local: volley.local,
            expected_source: source,
            sent: outcomes().filter(|it| errno(it).is_none()).count(),
            received: right.len(),
            wrong_source,
            foreign: volley.foreign,
            icmp: outcomes().find_map(icmp),
            send_error: outcomes().find_map(errno),
            rtt_us: (!right.is_empty()).then(|| Times {
                min: right.iter().copied().fold(f64::INFINITY, f64::min),
                max: right.iter().copied().fold(0.0, f64::max),
            }),
            told: volley
                .fates
                .iter()
                .filter_map(|it| it.info.as_ref())
                .next_back()
                .map(told),
        }
    }
}

/// How long the right answer took, if it is one.
pub(crate) fn right(outcome: &Outcome, source: SocketAddr) -> Option<Duration> {
    match outcome {
        Outcome::Answered { from, after, .. } if is_same(*from, source) => Some(*after),
        _ => None,
    }
}

fn wrong(outcome: &Outcome, source: SocketAddr) -> Option<SocketAddr> {
    match outcome {
        Outcome::Answered { from, .. } if !is_same(*from, source) => Some(*from),
        _ => None,
    }
}
