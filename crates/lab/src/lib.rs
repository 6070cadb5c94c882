//! `reflector lab`: the bug of moby#15127 and its cure, shown to a person.
//!
//! Each [`case`] is a question; the naive server, or the user's, and `reflector` are asked the same
//! one, each in namespaces of its own ([`trial`]); what was seen of both is judged ([`judge`]) and
//! printed side by side ([`page`]) or as JSON ([`json`]).
//!
//! The right server is this program, started as a child: what is judged shares no code with the
//! judge.

#![forbid(unsafe_code)]

pub mod case;
pub mod judge;
pub mod server;
pub mod trial;

pub mod json;
pub mod page;

pub mod process_group;

use std::env;
use std::io::{self, IsTerminal, Write};
use std::os::unix::process::CommandExt;
use std::thread;
use std::time::Duration;

use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::iterator::Signals;
use signal_hook::low_level::emulate_default_handler;

use case::Case;
use page::Page;
use process_group::Household;
use reflector_measure::error::Error;
use reflector_measure::exit::Exit;
use reflector_netlab::topology::{DockerHost, NftError};
use reflector_udp::netns::{self, Ability};
use server::{Contestant, ServerCommand};
use trial::{Question, Trial, Verdict};

/// What `reflector lab` is asked to do.
#[derive(Clone, Debug)]
pub struct Options {
    /// Cases to show; none means all.
    pub cases: Vec<Case>,
    /// The command of the user's own server, in the place of the naive one.
    pub server: Option<String>,
    /// Port that the servers listen on.
    pub port: u16,
    /// The question.
    pub payload: Vec<u8>,
    /// How long to wait for an answer.
    pub timeout: Duration,
    /// The engine that `reflector` is started with, by name.
    pub engine: &'static str,
    /// JSON lines instead of text.
    pub json: bool,
}

/// A case with what came of it.
#[derive(Clone, Debug)]
pub struct Outcome {
    /// The case.
    pub case: Case,
    /// The trials of the naive or the user's server and of `reflector`, or why there are none.
    pub trials: Result<[Trial; 2], String>,
}

/// Shows what `options` ask for on stdout.
///
/// Where only user namespaces give the right to do so, the process is replaced by one in such a
/// namespace, with the same arguments.
///
/// # Errors
/// The lab could not be set up, `--server` makes no sense, or stdout has gone.
pub fn run(options: &Options) -> Result<Exit, Error> {
    let contestants = contestants(options)?;
    enter_user_namespace()?;
    let household = Household::default();
    end_on_signals(household.clone())?;
    let show = Show {
        question: Question {
            port: options.port,
            payload: options.payload.clone(),
            timeout: options.timeout,
        },
        contestants,
        household,
    };
    let mut printer = Printer::new(options.json);
    printer.begin(&show)?;
    let mut outcomes: Vec<Outcome> = Vec::new();
    for case in cases(&options.cases) {
        let outcome = show.outcome(case)?;
        if let Some(reason) = show.has_no_start(&outcomes, &outcome) {
            return Err(Error::new("your server could not be asked", reason));
        }
        printer.case(&show, &outcome)?;
        outcomes.push(outcome);
    }
    let exit = exit(&show, &outcomes);
    printer.end(&show, &outcomes, exit)?;
    Ok(exit)
}

/// What all cases share.
#[derive(Debug)]
pub struct Show {
    /// What is asked.
    pub question: Question,
    /// Who is asked: the naive or the user's server, then `reflector`.
    pub contestants: [Contestant; 2],
    household: Household,
}

impl Show {
    /// Whether the user's server is shown, not the naive one.
    pub fn is_yours(&self) -> bool {
        matches!(self.contestants[0], Contestant::Yours(_))
    }

    fn outcome(&self, case: Case) -> Result<Outcome, Error> {
        let mut trials = Vec::with_capacity(self.contestants.len());
        for contestant in &self.contestants {
            let picture = DockerHost::new().map_err(|said| {
                Error::system("cannot build the network namespaces", &said).try_this(
                    "in a container, the lab needs --privileged, or --cap-add SYS_ADMIN and \
                     NET_ADMIN with a writable /proc/sys",
                )
            })?;
            if let Err(error) = case.put_in_force(&picture) {
                let trials = Err(no_rules(&error));
                return Ok(Outcome { case, trials });
            }
            let (question, household) = (&self.question, &self.household);
            trials.push(trial::hold(
                case, &picture, contestant, question, household,
            )?);
        }
        let trials = trials.try_into().expect("as many trials as contestants");
        Ok(Outcome {
            case,
            trials: Ok(trials),
        })
    }

    /// Why the user's server did not start, if it never has.
    fn has_no_start(&self, earlier: &[Outcome], outcome: &Outcome) -> Option<String> {
        let yours = |outcome: &Outcome| {
            let trials = outcome.trials.as_ref().ok()?;
            Some(trials[0].clone()).filter(|_| self.is_yours())
        };
        let failed = yours(outcome).filter(|trial| trial.verdict == Verdict::Failed)?;
        let has_started = earlier.iter().filter_map(yours).next().is_some();
        (!has_started).then_some(failed.reason)
    }
}

/// The cases asked for, in the order of telling.
fn cases(wanted: &[Case]) -> impl Iterator<Item = Case> {
    let is_wanted = |case: &Case| wanted.is_empty() || wanted.contains(case);
    Case::ALL.into_iter().filter(is_wanted)
}

fn contestants(options: &Options) -> Result<[Contestant; 2], Error> {
    let challenger = match &options.server {
        None => Contestant::Naive,
        Some(line) => Contestant::Yours(
            ServerCommand::parse(line)
                .map_err(|said| Error::usage(format!("cannot run --server {line:?}"), said))?,
        ),
    };
    Ok([challenger, Contestant::Reflector(options.engine)])
}

fn no_rules(error: &NftError) -> String {
    match error {
        NftError::Missing => "The program nft, which sets up NAT and filters, is missing. \
                              Install the package nftables (apt install nftables, dnf install \
                              nftables, apk add nftables)."
            .to_owned(),
        NftError::Io(said) => format!("NAT or the filter could not be set up: {said}."),
    }
}

/// The variable that tells the lab that it is in a user namespace of its own making.
const INSIDE: &str = "REFLECTOR_LAB_INSIDE";

/// Returns where network namespaces can be made, in a user namespace if need be.
fn enter_user_namespace() -> Result<(), Error> {
    let cannot = |said: &str| Error::new("cannot make network namespaces for the lab", said);
    match netns::ability() {
        Ability::Direct => Ok(()),
        Ability::ThroughUserNamespace if env::var_os(INSIDE).is_none() => {
            // Replaced, not started: so there is one process to interrupt.
            let said = netns::user_namespace_command(env::args_os().skip(1))
                .env(INSIDE, "1")
                .exec();
            Err(cannot(&said.to_string()).try_this("run as root"))
        }
        Ability::ThroughUserNamespace => {
            Err(cannot("a user namespace does not give the right to").try_this("run as root"))
        }
        Ability::None(reason) => Err(cannot(reason)),
    }
}

/// Ends all servers and then this process, by the signal's own way, when one asks for that.
fn end_on_signals(household: Household) -> Result<(), Error> {
    let cannot = |e: io::Error| Error::system("cannot listen to signals", &e);
    let mut signals = Signals::new([SIGINT, SIGTERM, SIGHUP]).map_err(cannot)?;
    let listen = move || {
        if let Some(signal) = signals.forever().next() {
            household.end_all();
            // It does not return for signals whose default is to end the process.
            let _ = emulate_default_handler(signal);
        }
    };
    thread::Builder::new()
        .name("signals".to_owned())
        .spawn(listen)
        .map_err(cannot)?;
    Ok(())
}

/// What the exit code says of all cases: see the help of the command.
fn exit(show: &Show, outcomes: &[Outcome]) -> Exit {
    let held: Vec<(Case, &[Trial; 2])> = outcomes
        .iter()
        .filter_map(|outcome| Some((outcome.case, outcome.trials.as_ref().ok()?)))
        .collect();
    let is_proven = |(_, [_, reflector]): &(Case, &[Trial; 2])| reflector.verdict == Verdict::Right;
    if held.is_empty() || !held.iter().all(is_proven) {
        return Exit::Failed;
    }
    if show.is_yours() {
        let any = |verdict| held.iter().any(|(_, [yours, _])| yours.verdict == verdict);
        return if any(Verdict::WrongSource) {
            Exit::WrongSource
        } else if any(Verdict::Failed) {
            Exit::Failed
        } else if any(Verdict::Unanswered) || !any(Verdict::Right) {
            Exit::Unanswered
        } else {
            Exit::Done
        };
    }
    let is_as_expected = |(case, [naive, _]): &(Case, &[Trial; 2])| {
        let is_fooled = naive.verdict == Verdict::WrongSource;
        is_fooled == case.fools_naive() && (is_fooled || naive.verdict == Verdict::Right)
    };
    if held.iter().all(is_as_expected) {
        Exit::Done
    } else {
        Exit::Failed
    }
}

/// Stdout, as text or as JSON lines.
struct Printer {
    out: anstream::AutoStream<io::Stdout>,
    /// `None` prints JSON.
    page: Option<Page>,
}

impl Printer {
    fn new(is_json: bool) -> Self {
        let stdout = io::stdout();
        let width = if stdout.is_terminal() {
            terminal_size::terminal_size().map(|(width, _)| usize::from(width.0))
        } else {
            None
        };
        Self {
            out: anstream::AutoStream::auto(stdout),
            page: (!is_json).then(|| Page::new(width)),
        }
    }

    fn begin(&mut self, show: &Show) -> Result<(), Error> {
        match &self.page {
            Some(page) => self.print(&page.opening(show)),
            None => Ok(()),
        }
    }

    fn case(&mut self, show: &Show, outcome: &Outcome) -> Result<(), Error> {
        match &self.page {
            Some(page) => self.print(&page.case(show, outcome)),
            None => self.print(&json::case(show, outcome)),
        }
    }

    fn end(&mut self, show: &Show, outcomes: &[Outcome], exit: Exit) -> Result<(), Error> {
        match &self.page {
            Some(page) => self.print(&page.closing(show, outcomes, exit)),
            None => Ok(()),
        }
    }

    fn print(&mut self, text: &str) -> Result<(), Error> {
        self.out
            .write_all(text.as_bytes())
            .and_then(|()| self.out.flush())
            .map_err(|said| Error::system("cannot print", &said))
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use judge::tests::hairpin_trial;

    pub fn show(challenger: Contestant) -> Show {
        Show {
            question: Question {
                port: 9007,
                payload: b"ping".to_vec(),
                timeout: std::time::Duration::from_secs(1),
            },
            contestants: [challenger, Contestant::Reflector("auto")],
            household: Household::default(),
        }
    }

    fn outcome(case: Case, challenger: Verdict, reflector: Verdict) -> Outcome {
        let trial = |verdict| Trial {
            verdict,
            ..hairpin_trial(true)
        };
        Outcome {
            case,
            trials: Ok([trial(challenger), trial(reflector)]),
        }
    }

    #[test]
    fn without_a_server_the_bug_and_the_cure_must_show() {
        use Verdict::{Right, Unanswered, WrongSource};
        let code = |outcomes: &[Outcome]| exit(&show(Contestant::Naive), outcomes);
        let as_told = outcome(Case::Hairpin, WrongSource, Right);
        assert_eq!(code(std::slice::from_ref(&as_told)), Exit::Done);
        let skipped = Outcome {
            case: Case::Nat,
            trials: Err("no nft".to_owned()),
        };
        assert_eq!(code(&[as_told.clone(), skipped.clone()]), Exit::Done);
        assert_eq!(code(&[skipped]), Exit::Failed);
        for (case, naive, reflector) in [
            (Case::Hairpin, Right, Right),
            (Case::Hairpin, Unanswered, Right),
            (Case::Specific, WrongSource, Right),
            (Case::Specific, Unanswered, Right),
            (Case::Hairpin, WrongSource, WrongSource),
        ] {
            let outcomes = [as_told.clone(), outcome(case, naive, reflector)];
            assert_eq!(code(&outcomes), Exit::Failed, "{outcomes:?}");
        }
    }

    #[test]
    fn with_a_server_its_worst_verdict_counts() {
        use Verdict::{Failed, Right, Skipped, Unanswered, WrongSource};
        let yours = Contestant::Yours(ServerCommand::parse("serve").unwrap());
        let show = show(yours);
        let code = |verdicts: &[Verdict]| {
            let of = |verdict: &Verdict| outcome(Case::Hairpin, *verdict, Right);
            exit(&show, &verdicts.iter().map(of).collect::<Vec<_>>())
        };
        assert_eq!(code(&[Right, Skipped]), Exit::Done);
        assert_eq!(code(&[Skipped]), Exit::Unanswered);
        assert_eq!(code(&[Right, Unanswered]), Exit::Unanswered);
        assert_eq!(code(&[Unanswered, Failed]), Exit::Failed);
        assert_eq!(code(&[Right, Failed, WrongSource]), Exit::WrongSource);
    }

    #[test]
    fn cases_come_in_the_order_of_telling() {
        let chosen: Vec<Case> = cases(&[Case::Ipv6, Case::Hairpin, Case::Ipv6]).collect();
        assert_eq!(chosen, [Case::Hairpin, Case::Ipv6]);
        assert_eq!(cases(&[]).count(), Case::ALL.len());
    }
}
