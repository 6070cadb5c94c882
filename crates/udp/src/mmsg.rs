//! Message headers for recvmmsg(2), sendmmsg(2) and sendmsg(2), and for the ring's SENDMSG.
//!
//! [`Inbox`] and [`Outbox`] own what their headers point to, buffers included, so that what is
//! handed to the kernel is alive and unaliased by construction. Both are allocated once.

mod calls;
mod header;
mod inbox;
mod outbox;
mod poll;
mod proof;

pub use calls::{Calls, Kernel};
pub use inbox::{Inbox, Incoming};
pub use outbox::{Outbox, Piece};
pub use poll::Poll;
pub use proof::prove;
