//! Real devices, as they change: which way they are answered, and what the follower does.

mod failing;
mod kinds;
mod recorder;
mod switching;
