//! How a watch goes, for whoever looks at it from outside.

use std::time::Duration;

use crate::counted::Counted;

/// Everything from the start until the end of the last interval.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Watched {
    /// What was sent, and what came.
    pub counted: Counted,
    /// Datagrams that will have no right answer any more.
    pub unanswered: u64,
    /// Gaps that are over.
    pub gaps: u64,
    /// All of them together.
    pub gaps_length: Duration,
    /// The longest.
    pub longest_gap: Duration,
    /// For how long there has been no answer, as far as is known.
    pub silent: Duration,
}
