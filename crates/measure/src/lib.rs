//! What every part of the program measures and reports with: clocks, the handing over of counters,
//! quantiles and the histogram log, JSON lines, errors and exit codes; and what every command line
//! reads alike: targets, payloads, durations.

#![forbid(unsafe_code)]

pub mod clock;
pub mod handover;

pub mod hdr_log;
pub mod json;
pub mod quantiles;

pub mod duration;
pub mod payload;
pub mod percent;
pub mod target;

pub mod host;
pub mod snmp;

pub mod errno;
pub mod error;
pub mod exit;
