//! What is to be done.

use super::judge::Refusal;
use super::local::LocalAddresses;
use crate::way::{Framing, Way};

/// One thing to do, in the order given.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// Only these addresses may be answered from.
    SetAddresses(LocalAddresses),
    /// Attach to a device, which has nothing attached yet.
    Attach {
        /// Its name.
        name: String,
        /// Its number.
        index: u32,
        /// Which way.
        way: Way,
        /// What its frames begin with.
        framing: Framing,
        /// What to say of it.
        hint: Option<String>,
    },
    /// Answer in another way from now on.
    SetWay {
        /// The number of the device.
        index: u32,
        /// Which way.
        way: Way,
    },
    /// Let go of a device, which may be gone.
    Detach {
        /// Its number.
        index: u32,
    },
    /// Nothing, until there is a device of that name that can be answered.
    Wait {
        /// The name.
        name: String,
        /// Why.
        reason: Reason,
    },
}

/// Why a device is waited for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reason {
    /// There is none of that name, or it has gone.
    Absent,
    /// It is left to the sockets.
    Refused(Refusal),
    /// It could not be read or attached to: what was said.
    Failed(String),
}
