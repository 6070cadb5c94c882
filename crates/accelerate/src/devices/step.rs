//! What is to be done.

use super::judge::Refusal;
use super::local::LocalAddresses;
use crate::routes::Routes;
use crate::way::{Framing, Way};

/// One thing to do, in the order given.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// Only these addresses may be answered from.
    SetAddresses(LocalAddresses),
    /// Only who is reached by the device that it asks at may be answered.
    SetRoutes(Routes),
    /// Routes of these families do not say alone where a reply leaves, so nobody of them is
    /// answered.
    Leave(&'static str),
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
        /// What it is a port of.
        bridge: Option<Bridge>,
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
    /// A device has become a port of a bridge, or is none any more, or the bridge has another MAC.
    SetBridge {
        /// The number of the device.
        index: u32,
        /// What it is a port of.
        bridge: Option<Bridge>,
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

/// A bridge, as a port of it needs to know it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bridge {
    /// Its number.
    pub index: u32,
    /// Its MAC.
    pub mac: Option<[u8; 6]>,
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
