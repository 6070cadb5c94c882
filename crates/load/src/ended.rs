//! What workers know at their end besides what they counted.

use crate::flow::Flow;

/// What a worker knows at its end besides what it counted, or several together.
#[derive(Debug, Default)]
pub(crate) struct Ended {
    /// From the end of the warm-up to the end of sending, in nanoseconds.
    pub(crate) span_ns: u64,
    /// Datagrams that were due and not sent.
    pub(crate) unsent: u64,
    /// When the first answer came, in nanoseconds since the schedule began.
    pub(crate) first_answer_ns: Option<u64>,
    /// Datagrams lost of those that were sent before the first answer came.
    pub(crate) cold_lost: u64,
    /// Source ports that sent and never got an answer.
    pub(crate) silent_ports: Vec<u16>,
    /// Source ports that sent.
    pub(crate) used_flows: usize,
}

impl Ended {
    /// The end of a worker whose `flows` these were.
    pub(crate) fn new(
        span_ns: u64,
        unsent: u64,
        first_answer_ns: Option<u64>,
        flows: &[Flow],
    ) -> Self {
        let used = || flows.iter().filter(|flow| flow.track.is_used());
        let silent = used().filter(|flow| !flow.track.is_answered());
        Self {
            span_ns,
            unsent,
            first_answer_ns,
            cold_lost: flows.iter().map(|flow| flow.track.cold_lost()).sum(),
            silent_ports: silent.map(|flow| flow.port).collect(),
            used_flows: used().count(),
        }
    }

    /// Adds what another worker knows.
    pub(crate) fn add(&mut self, other: Self) {
        self.span_ns = self.span_ns.max(other.span_ns);
        self.unsent += other.unsent;
        let firsts = [self.first_answer_ns, other.first_answer_ns];
        self.first_answer_ns = firsts.into_iter().flatten().min();
        self.cold_lost += other.cold_lost;
        self.silent_ports.extend(other.silent_ports);
        self.used_flows += other.used_flows;
    }
}
