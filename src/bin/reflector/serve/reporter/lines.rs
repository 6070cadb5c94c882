//! Lines that a shell takes apart at spaces: a word that says what it is, then words.

use std::io::{self, Write};

use reflector::report::{Ready, Summary};

use crate::serve::accelerate::Accelerated;

/// `ready`, and every address that is listened on.
pub fn ready(out: &mut impl Write, ready: &Ready) -> io::Result<()> {
    write!(out, "ready")?;
    for addr in &ready.listen {
        write!(out, " {addr}")?;
    }
    writeln!(out)
}

/// `what`, and the counters of `summary` as `NAME=COUNT`, named as in JSON, each in all; with the
/// datagrams that were `accelerated`, if any could be.
pub fn summary(
    out: &mut impl Write,
    what: &str,
    summary: &Summary,
    accelerated: Option<&Accelerated>,
) -> io::Result<()> {
    let totals = &summary.totals;
    let counters = [
        ("received", totals.received),
        ("replied", totals.replied),
        ("dropped", totals.dropped.values().sum()),
        ("send_errors", totals.send_errors.values().sum()),
        ("receive_errors", totals.receive_errors.values().sum()),
        ("kernel_drops", totals.kernel.drops.datagrams),
    ];
    write!(out, "{what}")?;
    for (name, count) in counters {
        write!(out, " {name}={count}")?;
    }
    if let Some(accelerated) = accelerated {
        write!(out, " accelerated={}", accelerated.datagrams)?;
    }
    let (unaccounted, seconds) = (summary.unaccounted, totals.seconds);
    writeln!(out, " unaccounted={unaccounted} seconds={seconds:.3}")
}
