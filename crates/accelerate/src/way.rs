//! How the frames of a device are answered.

/// How a reply leaves the device that its request came in by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    /// At the other end of a veth that is in another namespace, as if it had been sent there.
    Peer,
    /// Through the device itself.
    Plain,
}

/// What the frames of a device begin with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Framing {
    /// An Ethernet header.
    Ethernet,
    /// The IP header.
    None,
}
