//! What the load is, said before it starts.

use std::net::SocketAddr;

use serde::Serialize;

use crate::plan::Plan;

/// What the load is, said before it starts.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Ready {
    /// The target, as typed.
    pub(crate) target: String,
    /// The address that this is.
    pub(crate) address: SocketAddr,
    /// Datagrams per second that are asked for; `None` is as many as can be sent.
    pub(crate) offered_pps: Option<f64>,
    /// How long to send.
    pub(crate) duration_seconds: Option<f64>,
    /// How many datagrams to send.
    pub(crate) count: Option<u64>,
    /// Unanswered datagrams per flow at most.
    pub(crate) window: Option<u32>,
    /// Payload lengths in bytes.
    pub(crate) sizes: Vec<u16>,
    /// Weight of each.
    pub(crate) weights: Vec<u32>,
    /// Source ports.
    pub(crate) flows: usize,
    /// Workers.
    pub(crate) cores: usize,
    /// Datagrams that are due together.
    pub(crate) burst: u32,
    /// Whether the times between bursts are random.
    pub(crate) poisson: bool,
    /// Whether bursts travel in trains.
    pub(crate) gso: bool,
    /// Seed of everything random.
    pub(crate) seed: u64,
    /// What is not answered within this is lost.
    pub(crate) timeout_seconds: f64,
}

impl Ready {
    /// What `plan` says.
    pub(crate) fn new(plan: &Plan) -> Self {
        Self {
            target: plan.target_name.clone(),
            address: plan.target,
            offered_pps: plan.offer.pps(),
            duration_seconds: plan.offer.duration.map(|it| it.as_secs_f64()),
            count: plan.offer.count,
            window: plan.window,
            sizes: plan.sizes.iter().map(|&(size, _)| size).collect(),
            weights: plan.sizes.iter().map(|&(_, weight)| weight).collect(),
            flows: plan.flows,
            cores: plan.cores.len(),
            burst: plan.burst,
            poisson: plan.poisson,
            gso: plan.gso,
            seed: plan.seed,
            timeout_seconds: plan.timeout.as_secs_f64(),
        }
    }
}
