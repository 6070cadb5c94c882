//! What is searched for, and what may end a search besides the target.

use serde::Serialize;

use crate::options::Rate;

/// What is searched for.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Goal {
    /// No more is asked for.
    pub(crate) ceiling: Rate,
    /// What may be lost, in percent.
    pub(crate) max_loss: f64,
    /// How long each step is.
    pub(crate) seconds: f64,
}

impl Goal {
    /// The lowest rate that is asked for: below it a single lost datagram of a step would be too
    /// much, which tells of chance.
    pub(crate) fn floor_pps(&self) -> f64 {
        if self.max_loss > 0.0 {
            100.0 / (self.max_loss * self.seconds)
        } else {
            0.0
        }
    }
}

/// What besides the target ends a search upwards.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Limit {
    /// More could not be sent, or not in time.
    Generator,
    /// `--rate` itself held.
    Rate,
}
