//! What the command is told.

use std::time::Duration;

use crate::question::Question;
use reflector_measure::target::Target;

/// What `reflector diagnose` is asked to do.
#[derive(Clone, Debug)]
pub struct Options {
    /// Whom to ask; without one this machine is checked.
    pub target: Option<Target>,
    /// What to ask.
    pub question: Question,
    /// How often to ask.
    pub tries: u16,
    /// How long to wait for each answer.
    pub timeout: Duration,
    /// The port to ask first from.
    pub source_port: Option<u16>,
    /// Source ports from which the reflector answers nobody, unless it is told otherwise.
    pub denied_ports: &'static [u16],
    /// JSON instead of text.
    pub json: bool,
}
