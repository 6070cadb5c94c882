//! What became of a few questions, in one word that scripts read.

use std::net::SocketAddr;

use serde::Serialize;

use crate::attempt::{Outcome, is_same};
use crate::volley::Fate;
use reflector_measure::exit::Exit;

/// What became of a few questions, in one word.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum Word {
    /// Each was answered, from where it has to be.
    Ok,
    /// An answer came from elsewhere.
    WrongSource,
    /// Nobody listens on the port, ICMP says.
    Refused,
    /// Nothing came.
    Timeout,
    /// Some were answered.
    Loss,
    /// No way leads there: this host's kernel says so, or ICMP does for another reason.
    Unreachable,
}

impl Word {
    /// All of them.
    pub const ALL: [Self; 6] = [
        Self::Ok,
        Self::WrongSource,
        Self::Refused,
        Self::Timeout,
        Self::Loss,
        Self::Unreachable,
    ];

    /// The word.
    pub fn name(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::WrongSource => "wrong-source",
            Self::Refused => "refused",
            Self::Timeout => "timeout",
            Self::Loss => "loss",
            Self::Unreachable => "unreachable",
        }
    }

    /// The exit code, one for each.
    pub fn exit(self) -> Exit {
        match self {
            Self::Ok => Exit::Done,
            Self::Timeout => Exit::Unanswered,
            Self::WrongSource => Exit::WrongSource,
            Self::Loss => Exit::ThresholdMissed,
            Self::Refused => Exit::Refused,
            Self::Unreachable => Exit::Unreachable,
        }
    }

    /// The word for `fates`, of questions that `source` has to answer.
    pub(crate) fn of(fates: &[Fate], source: SocketAddr) -> Self {
        let count =
            |is_it: &dyn Fn(&Outcome) -> bool| fates.iter().filter(|it| is_it(&it.outcome)).count();
        let right =
            count(&|it| matches!(it, Outcome::Answered { from, .. } if is_same(*from, source)));
        if count(&Outcome::is_answered) > right {
            Self::WrongSource
        } else if right == fates.len() {
            Self::Ok
        } else if right > 0 {
            Self::Loss
        } else if count(&|it| matches!(it, Outcome::Refused(it) if it.is_port_unreachable())) > 0 {
            Self::Refused
        } else if count(&|it| matches!(it, Outcome::Refused(_) | Outcome::Unsent(_))) > 0 {
            Self::Unreachable
        } else {
            Self::Timeout
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::attempt::Refusal;
    use crate::question::Answer;

    const SOURCE: &str = "192.0.2.1:7";

    fn fate(outcome: Outcome) -> Fate {
        Fate {
            outcome,
            info: None,
        }
    }

    fn from(source: &str) -> Fate {
        fate(Outcome::Answered {
            from: source.parse().unwrap(),
            after: Duration::from_micros(50),
            answer: Answer::Expected,
        })
    }

    fn icmp(icmp_type: u8, icmp_code: u8) -> Fate {
        fate(Outcome::Refused(Refusal {
            by: None,
            is_v6: false,
            icmp_type,
            icmp_code,
        }))
    }

    #[test]
    fn each_word_has_its_fates() {
        let silent = || fate(Outcome::Silent);
        let unsent = || fate(Outcome::Unsent(libc::ENETUNREACH));
        for (fates, word) in [
            (vec![from(SOURCE), from(SOURCE)], Word::Ok),
            (vec![from(SOURCE), silent()], Word::Loss),
            (vec![from(SOURCE), icmp(3, 3)], Word::Loss),
            (vec![from(SOURCE), unsent()], Word::Loss),
            (vec![from(SOURCE), from("192.0.2.2:7")], Word::WrongSource),
            (vec![from("192.0.2.1:8"), silent()], Word::WrongSource),
            (vec![silent(), icmp(3, 3)], Word::Refused),
            (vec![icmp(3, 13), icmp(3, 3)], Word::Refused),
            (vec![icmp(3, 13), silent()], Word::Unreachable),
            (vec![unsent(), silent()], Word::Unreachable),
            (vec![silent(), silent()], Word::Timeout),
        ] {
            assert_eq!(Word::of(&fates, SOURCE.parse().unwrap()), word, "{fates:?}");
        }
    }

    #[test]
    fn each_word_has_its_name_and_code() {
        let codes: std::collections::BTreeSet<_> =
            Word::ALL.iter().map(|it| it.exit().code()).collect();
        assert_eq!(codes.len(), Word::ALL.len());
        for word in Word::ALL {
            let written = serde_json::to_value(word).unwrap();
            assert_eq!(written, word.name());
        }
    }
}
