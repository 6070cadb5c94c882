//! Asking at once: several datagrams from one socket, read until each has its fate.

use std::io;
use std::net::{SocketAddr, UdpSocket};
use std::time::Instant;

use crate::ask::{self, Plan, Received};
use crate::attempt::{Outcome, Refusal, SocketKind};
use crate::question::{Answer, Question};
use reflector_measure::clock;
use reflector_measure::echo_info::{self, EchoInfo};
use reflector_measure::error::Error;
use reflector_udp::errqueue;

/// What became of questions from one socket.
#[derive(Clone, Debug)]
pub(crate) struct Volley {
    /// From which address, where known, and port.
    pub(crate) local: SocketAddr,
    /// What became of each question.
    pub(crate) fates: Vec<Fate>,
    /// Datagrams that came and are no answer to any of them, or another one.
    pub(crate) foreign: u64,
}

/// What became of a question.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Fate {
    /// In short.
    pub(crate) outcome: Outcome,
    /// What its answer told of the asker.
    pub(crate) info: Option<EchoInfo>,
}

impl Fate {
    fn of(outcome: Outcome) -> Self {
        Self {
            outcome,
            info: None,
        }
    }

    fn unsent(error: &io::Error) -> Self {
        Self::of(Outcome::Unsent(error.raw_os_error().unwrap_or(0)))
    }
}

/// Asks `count` questions of `plan` from `port`, at once, and waits until each is answered or
/// refused, for as long as the plan says. An ICMP error is one to all that is not answered by then.
///
/// # Errors
/// EADDRINUSE where the port is taken, EACCES where it is below 1024, EMFILE.
pub(crate) fn ask(plan: &Plan, count: u16, kind: SocketKind, port: u16) -> Result<Volley, Error> {
    let (socket, local) = plan.open(port)?;
    let from = plan.serials(count);
    let sent = clock::monotonic();
    let mut fates = vec![None; usize::from(count)];
    match plan.connect(&socket, kind) {
        Ok(()) => send_all(plan, &socket, kind, from, &mut fates),
        Err(error) => fates.fill(Some(Fate::unsent(&error))),
    }
    let mut foreign = 0;
    while fates.iter().any(Option::is_none) {
        let waited = clock::monotonic().duration_since(sent);
        let left = plan.timeout().checked_sub(waited);
        let Some(left) = left.filter(|it| !it.is_zero()) else {
            break;
        };
        match plan.receive(&socket, left)? {
            Received::Datagram {
                bytes,
                from: source,
            } => {
                let answer = plan.answer(from, &bytes);
                match place(plan.question(), &mut fates, from, answer) {
                    Some(place) => *place = Some(fate(plan.question(), source, sent, &bytes)),
                    None => foreign += 1,
                }
            }
            Received::Refused(refusal) => refuse(&mut fates, refusal),
            Received::Nothing => {}
        }
    }
    let silent = || Fate::of(Outcome::Silent);
    let fates = fates.into_iter().map(|it| it.unwrap_or_else(silent));
    Ok(Volley {
        local,
        fates: fates.collect(),
        foreign,
    })
}

/// Sends a question for each of `fates`, from number `from` on.
fn send_all(
    plan: &Plan,
    socket: &UdpSocket,
    kind: SocketKind,
    from: u16,
    fates: &mut [Option<Fate>],
) {
    for index in 0..fates.len() {
        let serial = from.wrapping_add(index as u16);
        let mut sent = plan.send(socket, kind, serial);
        // What ICMP says of one datagram makes a later call fail, once.
        if sent.is_err()
            && let Ok(Some(queued)) = errqueue::next(socket)
        {
            if let Some(refusal) = ask::refusal(&queued) {
                refuse(&mut fates[..index], refusal);
            }
            sent = plan.send(socket, kind, serial);
        }
        fates[index] = sent.err().map(|error| Fate::unsent(&error));
    }
}

/// What it comes to that `bytes` of `source` answer a question that was `sent`.
fn fate(question: &Question, source: SocketAddr, sent: Instant, bytes: &[u8]) -> Fate {
    Fate {
        outcome: Outcome::Answered {
            from: source,
            after: clock::monotonic().duration_since(sent),
            answer: Answer::Expected,
        },
        info: question
            .asks_for_info()
            .then(|| echo_info::told(bytes))
            .flatten(),
    }
}

/// The open one of `fates`, of questions from number `from` on, that `answer` is to, as seen by the
/// first of them.
fn place<'a>(
    question: &Question,
    fates: &'a mut [Option<Fate>],
    from: u16,
    answer: Answer,
) -> Option<&'a mut Option<Fate>> {
    let place = match answer {
        Answer::Expected if question.has_any_answer() => fates.iter_mut().find(|it| it.is_none()),
        Answer::Expected => fates.first_mut(),
        Answer::ToAnother(Some(serial)) => {
            let index = serial.checked_sub(from)?;
            fates.get_mut(usize::from(index))
        }
        Answer::ToAnother(None) | Answer::Other => None,
    };
    place.filter(|it| it.is_none())
}

/// An ICMP error is one to all that is open.
fn refuse(fates: &mut [Option<Fate>], refusal: Refusal) {
    let open = fates.iter_mut().filter(|it| it.is_none());
    open.for_each(|it| *it = Some(Fate::of(Outcome::Refused(refusal))));
}
