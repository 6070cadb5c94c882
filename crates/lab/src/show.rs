//! All cases with both servers, and what the exit code says of them.

use crate::case::Case;
use crate::hold;
use crate::process_group::ProcessGroups;
use crate::server::ServerUnderTest;
use crate::trial::{Question, Trial, Verdict};
use reflector_measure::error::Error;
use reflector_measure::exit::Exit;
use reflector_netlab::topology::{DockerHost, NftError};

/// A case with what came of it.
#[derive(Clone, Debug)]
pub(crate) struct Outcome {
    /// The case.
    pub(crate) case: Case,
    /// The trials of the naive or the user's server and of `reflector`, or why there are none.
    pub(crate) trials: Result<[Trial; 2], String>,
}

/// What all cases share.
#[derive(Debug)]
pub(crate) struct Show {
    /// What is asked.
    pub(crate) question: Question,
    /// Who is asked: the naive or the user's server, then `reflector`.
    pub(crate) servers: [ServerUnderTest; 2],
    /// Who has been started.
    pub(crate) process_groups: ProcessGroups,
}

impl Show {
    /// Whether the user's server is shown, not the naive one.
    pub(crate) fn is_yours(&self) -> bool {
        matches!(self.servers[0], ServerUnderTest::Yours(_))
    }

    /// Asks both servers in `case`.
    ///
    /// # Errors
    /// The lab itself could not ask or record.
    pub(crate) fn outcome(&self, case: Case) -> Result<Outcome, Error> {
        let mut trials = Vec::with_capacity(self.servers.len());
        for under_test in &self.servers {
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
            let (question, process_groups) = (&self.question, &self.process_groups);
            trials.push(hold::hold(
                case,
                &picture,
                under_test,
                question,
                process_groups,
            )?);
        }
        let trials = trials.try_into().expect("as many trials as servers");
        Ok(Outcome {
            case,
            trials: Ok(trials),
        })
    }

    /// Why the user's server did not start, if it never has.
    pub(crate) fn has_no_start(&self, earlier: &[Outcome], outcome: &Outcome) -> Option<String> {
        let yours = |outcome: &Outcome| {
            let trials = outcome.trials.as_ref().ok()?;
            Some(trials[0].clone()).filter(|_| self.is_yours())
        };
        let failed = yours(outcome).filter(|trial| trial.verdict == Verdict::Failed)?;
        let has_started = earlier.iter().filter_map(yours).next().is_some();
        (!has_started).then_some(failed.reason)
    }
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

/// What the exit code says of all cases: see the help of the command.
pub(crate) fn exit(show: &Show, outcomes: &[Outcome]) -> Exit {
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixtures::{outcome, show};
    use crate::server::command::ServerCommand;

    #[test]
    fn without_a_server_the_bug_and_the_remedy_must_show() {
        use Verdict::{Right, Unanswered, WrongSource};
        let code = |outcomes: &[Outcome]| exit(&show(ServerUnderTest::Naive), outcomes);
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
        let yours = ServerUnderTest::Yours(ServerCommand::parse("serve").unwrap());
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
}
