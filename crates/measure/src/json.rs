//! JSON lines: one object a line, each with the schema's version.

/// Version of the JSON objects: counts up when a key changes its meaning or goes.
pub const SCHEMA: u32 = 1;
