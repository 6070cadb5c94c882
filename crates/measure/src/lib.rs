//! What every part of the program measures and reports with: clocks, the handing over of counters,
//! quantiles and the histogram log, JSON lines, errors and exit codes.
//!
//! With the feature `text` also what people type and read: targets, payloads, times, tables.

#![forbid(unsafe_code)]

#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;

pub mod clock;
pub mod handover;

pub mod hdr_log;
pub mod json;
pub mod output;
pub mod quantiles;

#[cfg(feature = "text")]
pub mod duration;
#[cfg(feature = "text")]
pub mod host_port;
pub mod number;
#[cfg(feature = "text")]
pub mod payload;
pub mod percent;
#[cfg(feature = "text")]
pub mod target;
#[cfg(feature = "text")]
pub mod text;

pub mod dad;
pub mod drops;
pub mod file;
pub mod host;
pub mod quota;
pub mod snmp;

pub mod echo_info;
pub mod errno;
pub mod error;
pub mod exit;
