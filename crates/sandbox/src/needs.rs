//! What is needed, and what has become of the rest.

use std::path::PathBuf;

/// What is needed after the start.
#[derive(Clone, Debug, Default)]
pub struct Needs {
    /// Files that are read again; they may be replaced, so their directories are meant.
    pub read: Vec<PathBuf>,
    /// Whether rings are yet to be opened, whose memory counts as locked.
    pub rings: bool,
    /// Whether sockets are bound to an interface, and may have to be bound to it anew.
    pub rebind: bool,
    /// The file of a Unix socket where the sockets are handed over, which is removed at the end;
    /// it may be replaced, so its directory is meant.
    pub takeover: Option<PathBuf>,
    /// A TCP port that is not listened at yet.
    pub listen: Option<u16>,
    /// Whether a program in the kernel, loaded already, is told things and attached to devices.
    pub is_accelerated: bool,
}

/// What has been taken away, and what could not be.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Entered {
    /// What the kernel lacks or refuses, a sentence each.
    pub missing: Vec<String>,
    /// What else there is to know, a sentence each.
    pub remarks: Vec<String>,
}
