//! The rows of workers in a summary.

use std::io::{self, Write};

use reflector::report::{Summary, WorkerShare};
use reflector_measure::text::{Align, Table, paragraph};

/// Workers that a summary has rows for.
pub const WORKERS_MAX: usize = 16;

/// Writes a row for each worker that received something, as far as that is worth reading.
pub fn write(summary: &Summary, out: &mut impl Write, width: usize) -> io::Result<()> {
    let all = &summary.per_worker;
    let busy = all.iter().filter(|share| share.received > 0);
    let shown: Vec<_> = busy.take(WORKERS_MAX).collect();
    if shown.is_empty() {
        return Ok(());
    }
    let workers = workers(&shown, summary.totals.received);
    write!(out, "\n{}", workers.fitted(width))?;
    match unshown(all.len(), shown.len()) {
        Some(workers) => write!(out, "{}", paragraph("  ", &workers, width)),
        None => Ok(()),
    }
}

/// What is said of those of `all` workers that have no row.
pub fn unshown(all: usize, shown: usize) -> Option<String> {
    let more = all - shown;
    let is_cut = shown == WORKERS_MAX;
    let why = if is_cut {
        ""
    } else {
        ", which received nothing"
    };
    (more > 0).then(|| format!("and {more} more{why}"))
}

fn workers(shown: &[&WorkerShare], received: u64) -> Table {
    let received = received.max(1) as f64;
    let mut table = Table::new([Align::Right; 7]);
    table.row(&[
        &"worker",
        &"cpu",
        &"received",
        &"share",
        &"replied",
        &"batches",
        &"trains dropped",
    ]);
    for share in shown {
        let of_all = 100.0 * share.received as f64 / received;
        let cpu = share.cpu.map_or("any".to_owned(), |cpu| cpu.to_string());
        table.row(&[
            &share.worker,
            &cpu,
            &share.received,
            &format!("{of_all:.1} %"),
            &share.replied,
            &share.batches,
            &share.trains_dropped,
        ]);
    }
    table
}
