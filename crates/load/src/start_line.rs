//! Where workers wait until all are ready, and learn when to start.
//!
//! Nobody waits for somebody who has gone: a worker that ends, whatever it ends by, counts as
//! ready, and a start that will never be lets all workers go.

use std::convert::Infallible;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::{Duration, Instant};

use reflector_measure::clock::{self, Timeline};

/// Between the workers' readiness and the first datagram.
const RUN_UP_NS: u64 = 1_000_000;

/// The starter's end.
pub(crate) struct StartLine {
    ready: Sender<Infallible>,
    all_ready: Receiver<Infallible>,
    starts: Vec<Sender<u64>>,
}

/// A worker's place.
pub(crate) struct Place {
    ready: Sender<Infallible>,
    start: Receiver<u64>,
}

impl StartLine {
    /// Without a worker.
    pub(crate) fn new() -> Self {
        let (ready, all_ready) = channel();
        Self {
            ready,
            all_ready,
            starts: Vec::new(),
        }
    }

    /// A place for one more worker.
    pub(crate) fn place(&mut self) -> Place {
        let (sender, start) = channel();
        self.starts.push(sender);
        Place {
            ready: self.ready.clone(),
            start,
        }
    }

    /// Waits until all workers are ready or gone, and starts them. Returns when that is.
    pub(crate) fn start(self, timeline: &Timeline) -> Instant {
        drop(self.ready);
        // Nothing is ever sent: it is over when the last sender is dropped.
        let _ = self.all_ready.recv();
        let start_ns = timeline.now_ns() + RUN_UP_NS;
        for start in self.starts {
            // One that has gone needs no start.
            let _ = start.send(start_ns);
        }
        clock::monotonic() + Duration::from_nanos(RUN_UP_NS)
    }
}

impl Place {
    /// Tells that the worker is ready, and waits for the start, in nanoseconds of the timeline;
    /// `None` if there will be none.
    pub(crate) fn wait(self) -> Option<u64> {
        drop(self.ready);
        self.start.recv().ok()
    }
}

#[cfg(test)]
mod tests {
    use std::thread;

    use super::*;

    #[test]
    fn all_start_at_once_and_one_that_has_gone_keeps_nobody() {
        let mut line = StartLine::new();
        let places: Vec<_> = (0..3).map(|_| line.place()).collect();
        drop(line.place());
        let workers: Vec<_> = places
            .into_iter()
            .map(|place| thread::spawn(move || place.wait()))
            .collect();
        line.start(&Timeline::start());
        let starts: Vec<_> = workers.into_iter().map(|it| it.join().unwrap()).collect();
        assert!(starts[0].is_some() && starts.iter().all(|it| *it == starts[0]));
    }

    #[test]
    fn without_a_start_all_go() {
        let mut line = StartLine::new();
        let place = line.place();
        let worker = thread::spawn(move || place.wait());
        // There is no other thread.
        drop(line);
        assert_eq!(worker.join().unwrap(), None);
    }
}
