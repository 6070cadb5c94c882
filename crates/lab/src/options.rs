//! What the command is told.

use std::time::Duration;

use crate::case::Case;

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
