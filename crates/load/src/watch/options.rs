//! What a watch is asked to be.

use std::time::Duration;

use crate::options::Source;
use reflector_measure::target::Target;

/// What `reflector watch` is asked to do.
#[derive(Clone, Debug)]
pub struct WatchOptions {
    /// The echo service.
    pub target: Target,
    /// Time between datagrams.
    pub every: Duration,
    /// How long to watch.
    pub duration: Option<Duration>,
    /// How many datagrams to send.
    pub count: Option<u64>,
    /// What is not answered within this is lost.
    pub timeout: Duration,
    /// Address to send from.
    pub bind: Option<Source>,
    /// Port to send from.
    pub source_port: Option<u16>,
    /// Source ports that are not used, since servers may refuse what comes from them.
    pub avoided_ports: Vec<u16>,
    /// A gap that is too long; a shorter one is not told when it ends.
    pub max_gap: Option<Duration>,
    /// How many unanswered datagrams are too many, and one less.
    pub max_lost: Option<u64>,
    /// Time between reports, if any are asked for.
    pub interval: Option<Duration>,
    /// JSON lines instead of text.
    pub json: bool,
}
