//! What the program's exit code says; scripts and CI read it.

use std::process::ExitCode;

/// How a command ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
#[non_exhaustive]
pub enum Exit {
    /// All went as it should.
    Done = 0,
    /// Something could not be set up, or failed.
    Failed = 1,
    /// The command line makes no sense.
    Usage = 2,
    /// The target never answered.
    Unanswered = 3,
    /// Answers came from another address than the one asked.
    WrongSource = 4,
    /// A threshold was missed.
    ThresholdMissed = 5,
    /// Nobody listens there, ICMP says.
    Refused = 6,
    /// No way leads there, or somebody on it says no.
    Unreachable = 7,
}

impl Exit {
    /// The number that the shell sees.
    pub fn code(self) -> u8 {
        self as u8
    }
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        ExitCode::from(exit.code())
    }
}
