//! How one thread hands its counters to another without ever waiting for it.
//!
//! A worker counts in plain numbers of its own. Whoever reports asks for them, and the worker
//! hands them over at its next opportunity:
//!
//! - The reporter calls [`request`](Handover::request), and wakes the worker if it may be asleep.
//! - The worker calls [`is_requested`](Handover::is_requested) once a loop, and if so
//!   [`publish`](Handover::publish); it publishes once more at its end.
//! - The reporter calls [`collect`](Handover::collect) later, as often as it likes.
//! - The worker, or whoever sees it end or panic, calls [`close`](Handover::close).
//!
//! The worker pays one load of one flag in each loop, and a lock only when it was asked. The lock
//! is held for an addition, never for a wait, so that a worker that is stuck blocks nobody: its
//! counters come with a later `collect`. Nothing is counted twice and nothing is lost, however late
//! a worker publishes and however rarely somebody collects.
//!
//! ```
//! use reflector_measure::handover::{Counters, Handover};
//!
//! #[derive(Default)]
//! struct Received(u64);
//!
//! impl Counters for Received {
//!     fn add(&mut self, other: &Self) {
//!         self.0 += other.0;
//!     }
//!     fn reset(&mut self) {
//!         self.0 = 0;
//!     }
//! }
//!
//! let handover = Handover::new(Received::default());
//! let mut sum = Received::default();
//! std::thread::scope(|scope| {
//!     scope.spawn(|| {
//!         let mut own = Received::default();
//!         for _ in 0..1000 {
//!             own.0 += 1;
//!             if handover.is_requested() {
//!                 handover.publish(&mut own);
//!             }
//!         }
//!         handover.publish(&mut own);
//!         handover.close();
//!     });
//!     handover.request();
//! });
//! assert!(handover.collect(&mut sum));
//! assert_eq!(sum.0, 1000);
//! ```

#[cfg(all(test, handover_orders))]
mod orders;

use std::sync::PoisonError;
use std::time::Duration;

#[cfg(all(test, handover_orders))]
use loom::sync::{
    Condvar, Mutex, MutexGuard,
    atomic::{AtomicBool, Ordering},
};
#[cfg(not(all(test, handover_orders)))]
use std::sync::{
    Condvar, Mutex, MutexGuard,
    atomic::{AtomicBool, Ordering},
};

/// What can be handed over: numbers that add up.
pub trait Counters {
    /// Adds `other`.
    fn add(&mut self, other: &Self);

    /// Makes all zero again.
    fn reset(&mut self);
}

/// The place where one worker leaves its counters, and one reporter finds them.
///
/// Aligned so that no two workers' share a cache line, or the pair that the prefetcher fetches.
#[derive(Debug)]
#[repr(align(128))]
pub struct Handover<T> {
    /// The opposite of `State::is_answered`, readable without the lock.
    is_requested: AtomicBool,
    state: Mutex<State<T>>,
    was_answered: Condvar,
}

#[derive(Debug)]
struct State<T> {
    /// What was published and not collected yet; zero if `is_empty`.
    counters: T,
    is_empty: bool,
    /// Whether the worker has published since the newest request.
    is_answered: bool,
    /// Whether the worker is no more.
    is_closed: bool,
}

impl<T> State<T> {
    fn is_settled(&self) -> bool {
        self.is_answered || self.is_closed
    }
}

impl<T: Counters> Handover<T> {
    /// Nothing requested, nothing published. `zero` is counters that are all zero: the worker gets
    /// them when it first hands over its own, so that nobody allocates later.
    pub fn new(zero: T) -> Self {
        Self {
            is_requested: AtomicBool::new(false),
            state: Mutex::new(State {
                counters: zero,
                is_empty: true,
                is_answered: true,
                is_closed: false,
            }),
            was_answered: Condvar::new(),
        }
    }

    /// Asks the worker for what it counted since it last published. A request that is still open
    /// is replaced: one answer serves both.
    pub fn request(&self) {
        let mut state = self.state();
        state.is_answered = false;
        self.is_requested.store(true, Ordering::Relaxed);
    }

    /// Adds to `sum` what was published and not collected yet. Returns whether the newest request
    /// has its answer, or will never get one because the worker has ended; never blocks for it.
    pub fn collect(&self, sum: &mut T) -> bool {
        let mut state = self.state();
        if !state.is_empty {
            sum.add(&state.counters);
            state.counters.reset();
            state.is_empty = true;
        }
        state.is_settled()
    }

    /// Waits until [`collect`](Self::collect) would return true, for `timeout` at most.
    #[cfg(not(all(test, handover_orders)))]
    pub fn wait(&self, timeout: Duration) {
        let waited = self
            .was_answered
            .wait_timeout_while(self.state(), timeout, |state| !state.is_settled());
        // Whether it timed out is what `collect` says.
        drop(waited.unwrap_or_else(PoisonError::into_inner));
    }

    /// The same where there is no time.
    #[cfg(all(test, handover_orders))]
    pub fn wait(&self, _timeout: Duration) {
        let mut state = self.state();
        while !state.is_settled() {
            let waited = self.was_answered.wait(state);
            state = waited.unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// On the worker's thread: whether its counters were asked for. One load, no lock.
    pub fn is_requested(&self) -> bool {
        // What goes with the flag is under the lock.
        self.is_requested.load(Ordering::Relaxed)
    }

    /// On the worker's thread: hands `counters` over, asked or not, and makes them zero.
    pub fn publish(&self, counters: &mut T) {
        let mut state = self.state();
        self.is_requested.store(false, Ordering::Relaxed);
        if state.is_empty {
            std::mem::swap(&mut state.counters, counters);
        } else {
            // Published before, and nobody has collected it since.
            state.counters.add(counters);
            counters.reset();
        }
        state.is_empty = false;
        state.is_answered = true;
        self.was_answered.notify_all();
    }

    /// Says that the worker is no more, so that nobody waits for it. What it published can still
    /// be collected.
    pub fn close(&self) {
        self.state().is_closed = true;
        self.was_answered.notify_all();
    }

    /// A worker that panics between two calls leaves nothing half done here.
    fn state(&self) -> MutexGuard<'_, State<T>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(all(test, not(handover_orders)))]
mod tests {
    use std::thread;

    use super::*;

    #[derive(Debug, Default, PartialEq)]
    struct Count(u64);

    impl Counters for Count {
        fn add(&mut self, other: &Self) {
            self.0 += other.0;
        }

        fn reset(&mut self) {
            self.0 = 0;
        }
    }

    fn handover() -> Handover<Count> {
        Handover::new(Count(0))
    }

    #[test]
    fn a_request_is_answered_once() {
        let (handover, mut sum, mut own) = (handover(), Count(0), Count(3));
        assert!(!handover.is_requested());
        handover.request();
        assert!(handover.is_requested());
        assert!(!handover.collect(&mut sum), "no answer yet");
        handover.publish(&mut own);
        assert_eq!((own, sum.0), (Count(0), 0), "handed over");
        assert!(!handover.is_requested());
        assert!(handover.collect(&mut sum));
        assert!(handover.collect(&mut sum));
        assert_eq!(sum, Count(3), "collected once");
    }

    #[test]
    fn an_answer_that_comes_late_is_not_the_answer_to_the_next_request() {
        let (handover, mut sum) = (handover(), Count(0));
        handover.request();
        handover.publish(&mut Count(3));
        handover.request();
        assert!(!handover.collect(&mut sum), "the second is open");
        assert_eq!(sum, Count(3), "and nothing is lost");
        handover.publish(&mut Count(4));
        assert!(handover.collect(&mut sum));
        assert_eq!(sum, Count(7));
    }

    #[test]
    fn what_is_published_before_anybody_collects_adds_up() {
        let (handover, mut sum, mut own) = (handover(), Count(0), Count(3));
        handover.publish(&mut own);
        own.0 += 4;
        handover.publish(&mut own);
        assert_eq!(own, Count(0));
        handover.collect(&mut sum);
        assert_eq!(sum, Count(7));
    }

    #[test]
    fn a_worker_that_has_ended_is_not_waited_for() {
        let (handover, mut sum) = (handover(), Count(0));
        handover.publish(&mut Count(3));
        handover.close();
        handover.request();
        handover.wait(Duration::MAX);
        assert!(handover.collect(&mut sum));
        assert_eq!(sum, Count(3));
    }

    #[test]
    fn a_worker_that_is_stuck_is_waited_for_no_longer_than_asked() {
        let (handover, mut sum) = (handover(), Count(0));
        handover.request();
        handover.wait(Duration::from_millis(1));
        assert!(!handover.collect(&mut sum));
    }

    #[test]
    fn a_panicking_worker_takes_nothing_with_it() {
        let (handover, mut sum) = (handover(), Count(0));
        handover.request();
        thread::scope(|scope| {
            let worker = scope.spawn(|| {
                handover.publish(&mut Count(3));
                let _state = handover.state();
                panic!("with the lock held");
            });
            assert!(worker.join().is_err());
        });
        handover.close();
        assert!(handover.collect(&mut sum));
        assert_eq!(sum, Count(3));
    }

    #[test]
    fn everything_that_is_counted_meanwhile_arrives() {
        const TOTAL: u64 = 100_000;
        let (handover, mut sum) = (handover(), Count(0));
        thread::scope(|scope| {
            let worker = scope.spawn(|| {
                let mut own = Count(0);
                for _ in 0..TOTAL {
                    own.0 += 1;
                    if handover.is_requested() {
                        handover.publish(&mut own);
                    }
                }
                handover.publish(&mut own);
                handover.close();
            });
            while !worker.is_finished() {
                handover.request();
                handover.wait(Duration::from_secs(10));
                assert!(handover.collect(&mut sum));
            }
        });
        handover.collect(&mut sum);
        assert_eq!(sum, Count(TOTAL));
    }
}
