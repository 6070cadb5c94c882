//! Formats on the wire. Bytes in, plain structs out; no socket, no clock, no state.

pub mod probe;
