//! Which devices are accelerated, and in which way, as long as the reflector runs.
//!
//! Devices are named once. From then on the kernel's messages are followed (rtnetlink(7)): a device
//! that moves away or is deleted is let go of at once, one of its name is attached to when there is
//! one again, and the way is chosen anew whenever a device changes. Where anything is in doubt, the
//! sockets answer.
//!
//! Three parts know nothing of each other: what is right for a device ([`judge`]), what a change
//! makes necessary ([`Machine`]), and who does it ([`Follower`], by [`Attachments`]).
//!
//! What cannot be seen here: a macvlan in another namespace on a device of this one, whose frames
//! the program tells by their MAC address; and rx-gro-list on a device of another namespace, by
//! which a train comes whose later datagrams keep the hop limit of the request.

mod follower;

mod judge;

mod machine;

mod step;

mod device;

mod host;

mod local;

pub use follower::{Attachments, Devices, Follower};
pub use host::{Host, Namespace};
pub use judge::{Facts, Refusal, hint, judge, peer_is_scrubbed};
pub use local::LocalAddresses;
pub use machine::Machine;
pub use step::{Bridge, Reason, Step};
