//! A way out for reports that keeps nobody waiting: a bounded queue, and a thread that writes.

use std::collections::VecDeque;
use std::io;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

/// Reports that may wait; at the default interval that is a minute of them.
const WAITING_MAX: usize = 64;

/// Items on their way to where a thread of its own writes them.
pub struct Outlet<T> {
    shared: Arc<Shared<T>>,
}

struct Shared<T> {
    state: Mutex<State<T>>,
    changed: Condvar,
}

struct State<T> {
    waiting: VecDeque<T>,
    /// Whether nothing more will come.
    is_closed: bool,
    /// Whether all that came has been written.
    is_done: bool,
    has_lost: bool,
}

impl<T> Clone for Outlet<T> {
    fn clone(&self) -> Self {
        Self {
            shared: Arc::clone(&self.shared),
        }
    }
}

impl<T> Shared<T> {
    fn state(&self) -> MutexGuard<'_, State<T>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The next item, which is waited for; `None` when there will be no more.
    fn next(&self) -> Option<T> {
        let mut state = self.state();
        loop {
            if let Some(item) = state.waiting.pop_front() {
                return Some(item);
            }
            if state.is_closed {
                state.is_done = true;
                self.changed.notify_all();
                return None;
            }
            let woken = self.changed.wait(state);
            state = woken.unwrap_or_else(PoisonError::into_inner);
        }
    }
}

impl<T: Send + 'static> Outlet<T> {
    /// Starts a thread that hands each item to `write`.
    ///
    /// # Errors
    /// `EAGAIN` where there may be no more threads (pthread_create(3)).
    pub fn open(name: &str, mut write: impl FnMut(T) + Send + 'static) -> io::Result<Self> {
        let shared = Arc::new(Shared {
            state: Mutex::new(State {
                waiting: VecDeque::with_capacity(WAITING_MAX),
                is_closed: false,
                is_done: false,
                has_lost: false,
            }),
            changed: Condvar::new(),
        });
        let outlet = Self {
            shared: Arc::clone(&shared),
        };
        let thread = thread::Builder::new().name(name.to_owned());
        // Not joined: it may be stuck in a write for as long as the process lives.
        thread.spawn(move || {
            while let Some(item) = shared.next() {
                write(item);
            }
        })?;
        Ok(outlet)
    }

    /// Puts an item into the queue. Where there is no room the oldest one is lost, which this says
    /// the first time.
    pub fn push(&self, item: T) -> Result<(), FirstLoss> {
        let mut state = self.shared.state();
        let is_full = state.waiting.len() == WAITING_MAX;
        if is_full {
            state.waiting.pop_front();
        }
        state.waiting.push_back(item);
        self.shared.changed.notify_all();
        if is_full && !std::mem::replace(&mut state.has_lost, true) {
            return Err(FirstLoss);
        }
        Ok(())
    }

    /// Waits until all is written, for `patience` at most. Says whether everything was, from the
    /// start on.
    pub fn close(self, patience: Duration) -> bool {
        let mut state = self.shared.state();
        state.is_closed = true;
        self.shared.changed.notify_all();
        let is_going_on = |state: &mut State<T>| !state.is_done;
        let waited = (self.shared.changed).wait_timeout_while(state, patience, is_going_on);
        let (state, _) = waited.unwrap_or_else(PoisonError::into_inner);
        state.is_done && !state.has_lost
    }
}

/// An item was lost, for the first time.
#[derive(Debug)]
pub struct FirstLoss;

#[cfg(test)]
mod tests {
    use std::sync::mpsc::{channel, sync_channel};

    use super::*;

    const LONG: Duration = Duration::from_secs(20);

    #[test]
    fn what_is_pushed_is_written_in_order_before_it_is_closed() {
        let (sender, written) = channel();
        let outlet = Outlet::open("test", move |item| sender.send(item).unwrap()).unwrap();
        (0..10).for_each(|item| outlet.push(item).unwrap());
        assert!(outlet.close(LONG));
        assert!(written.iter().eq(0..10));
    }

    #[test]
    fn one_that_is_stuck_loses_the_oldest_and_keeps_nobody() {
        // Takes one item, and the next only when it is asked to.
        let (sender, written) = sync_channel(0);
        let outlet = Outlet::open("test", move |item| sender.send(item).unwrap()).unwrap();
        let losses = (0..2 * WAITING_MAX).filter(|&item| outlet.push(item).is_err());
        assert_eq!(losses.count(), 1, "it is said once");
        let rest = thread::spawn(move || written.iter().collect::<Vec<_>>());
        assert!(!outlet.close(LONG), "not all of them");
        let rest = rest.join().unwrap();
        assert!(
            rest.ends_with(&Vec::from_iter(WAITING_MAX..2 * WAITING_MAX)),
            "{rest:?}"
        );
    }

    #[test]
    fn closing_waits_no_longer_than_it_may() {
        let (sender, _written) = sync_channel(0);
        let outlet = Outlet::open("test", move |item| sender.send(item).unwrap()).unwrap();
        outlet.push(1).unwrap();
        assert!(!outlet.close(Duration::from_millis(1)));
    }
}
