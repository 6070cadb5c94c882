//! What was answered in the kernel.

use reflector_measure::quantiles::Quantiles;
use serde::Serialize;

/// What was answered in the kernel, over some time.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Accelerated {
    /// Datagrams, those of trains included.
    pub datagrams: u64,
    /// Their payloads.
    pub bytes: u64,
    /// Trains.
    pub trains: u64,
    /// How long one frame in 64 was in the program.
    pub residence_us: Quantiles,
}
