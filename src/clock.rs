//! The clock that a worker reads, which in this crate's own tests can be one that they set.

#[cfg(not(test))]
pub use reflector_measure::clock::monotonic;
#[cfg(test)]
pub use set::monotonic;

/// A clock for each thread that wants one of its own.
#[cfg(test)]
pub mod set {
    use std::cell::Cell;
    use std::time::{Duration, Instant};

    use reflector_measure::clock;

    thread_local! {
        static NOW: Cell<Option<Instant>> = const { Cell::new(None) };
    }

    /// Now: what was set last, a microsecond later with each reading; the real time of a thread
    /// that has set none.
    pub fn monotonic() -> Instant {
        let Some(now) = NOW.get() else {
            return clock::monotonic();
        };
        let next = now + Duration::from_micros(1);
        NOW.set(Some(next));
        next
    }

    /// Lets `duration` pass on this thread's clock, which stands still but for that.
    pub fn pass(duration: Duration) {
        NOW.set(Some(monotonic() + duration));
    }
}
