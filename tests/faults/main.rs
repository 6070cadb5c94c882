//! The fault table: what breaks around the reflector, or in it, while a peer asks it all the time.
//!
//! Each case says what was lost, in figures, and asserts that the counters add up: those of the
//! server (`received = replied + dropped + send errors`), and the generator's, whose `lost` is the
//! sum of its parts. `scripts/faults.sh` runs them all and prints the table; without it they are
//! tests like others. Cases that need an idle machine, or a minute, are ignored here and run by the
//! script. What other tests show already is named in RELIABILITY.md and not repeated.

mod drain;
mod network;
mod outputs;
mod overload;
mod process;
mod resources;
mod scene;
mod send;
mod soak;

/// Documented: something could not be set up, or failed.
const FAILED: i32 = 1;
