//! What the kernel's tables say of the way to a peer.

/// The way to a peer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Path {
    /// The index of the interface that it leads through.
    pub interface: u32,
    /// The state of the next hop.
    pub neighbour: Neighbour,
}

/// What the kernel knows of a next hop.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Neighbour {
    /// Its link-layer address, or that none is needed.
    Resolved,
    /// That it has not answered, up to now (INCOMPLETE and FAILED in ip-neighbour(8)).
    Unresolved,
    /// Nothing: no entry.
    Unknown,
}
