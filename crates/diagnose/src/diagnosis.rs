//! What a diagnosis consists of: a verdict, why, and what to do.

use std::collections::BTreeMap;
use std::net::SocketAddr;

use serde::Serialize;

use reflector_measure::exit::Exit;

/// The result in a word.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Verdict {
    /// Every question was answered from the address asked.
    Answered,
    /// Answered from the address asked, but not every question.
    Partly,
    /// The flow from the port that the user chose is dead; fresh ones are answered.
    FlowSilent,
    /// An answer came from another address.
    WrongSource,
    /// An answer came to a question of another socket.
    MixedUp,
    /// Nothing but ICMP errors.
    Refused,
    /// Nothing at all.
    Silent,
    /// This host did not send any question.
    Unsent,
}

impl Verdict {
    /// The exit code.
    pub(crate) fn exit(self) -> Exit {
        match self {
            Self::Answered | Self::Partly => Exit::Done,
            Self::WrongSource => Exit::WrongSource,
            Self::FlowSilent | Self::MixedUp | Self::Refused | Self::Silent => Exit::Unanswered,
            Self::Unsent => Exit::Failed,
        }
    }
}

/// The verdict, why, and what to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Diagnosis {
    /// In a word.
    pub(crate) verdict: Verdict,
    /// In a sentence.
    pub(crate) headline: String,
    /// The addresses that answered instead of the one asked, and how often.
    pub(crate) seen: BTreeMap<SocketAddr, usize>,
    /// Why.
    pub(crate) findings: Vec<Finding>,
    /// What to do, in the order to try it.
    pub(crate) remedies: Vec<Remedy>,
}

/// One thing that explains the verdict.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(crate) struct Finding {
    /// A word for programs.
    pub(crate) kind: &'static str,
    /// Sentences for people.
    pub(crate) text: String,
}

impl Finding {
    /// One of this kind.
    pub(crate) fn new(kind: &'static str, text: impl Into<String>) -> Self {
        Self {
            kind,
            text: text.into(),
        }
    }
}

/// One thing to try.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(crate) struct Remedy {
    /// In a sentence.
    pub(crate) text: String,
    /// As a command, where it is one.
    pub(crate) command: Option<String>,
}

impl Remedy {
    /// One that is done by hand.
    pub(crate) fn new(text: impl Into<String>) -> Self {
        Self {
            text: text.into(),
            command: None,
        }
    }

    /// One that is a command.
    pub(crate) fn by(text: impl Into<String>, command: impl Into<String>) -> Self {
        Self {
            command: Some(command.into()),
            ..Self::new(text)
        }
    }
}
