//! The ways in which a server fails, in words.

use std::time::Duration;

use super::heartbeat::Lost;
use reflector_measure::error::Error;

/// A worker that could not be started.
pub fn not_started(worker: usize, reason: &str) -> Error {
    Error::new(format!("cannot start worker {worker}"), reason).try_this(
        "fewer --cores or --buffers ask for less; `ulimit -a` shows what this process may have; \
         --engine mmsg needs no ring",
    )
}

/// A drain that took longer than `timeout`. What the workers that are `running` have `left` unread
/// is in bytes, since the kernel counts no datagrams in a receive buffer.
pub fn not_drained(running: &[usize], timeout: Duration, left: u64) -> Error {
    let workers: Vec<_> = running.iter().map(usize::to_string).collect();
    let mut said = format!("worker {} has not ended", workers.join(", "));
    if left > 0 {
        said += &format!(
            ", and datagrams in {left} bytes of receive buffers are left without an answer"
        );
    }
    Error::new(format!("the drain was cut short after {timeout:?}"), said)
}

/// A worker that gives no sign of life.
pub fn lost(Lost { worker, reason }: Lost) -> Error {
    unheard(format!("worker {worker} does not answer"), &reason)
}

/// A worker that has ended by itself.
pub fn died(worker: usize, reason: &str) -> Error {
    unheard(format!("worker {worker} died"), reason)
}

fn unheard(what: String, reason: &str) -> Error {
    Error::new(what, reason)
        .try_this("all stop, since its share of the peers would be left without an answer")
}
