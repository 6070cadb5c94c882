//! The threads of the workers: started, watched, and ended.

use std::io;
use std::panic::{self, AssertUnwindSafe};
use std::sync::Arc;
use std::thread::{self, JoinHandle};
use std::time::Duration;

use crate::responder::Responder;
use crate::stats::Stats;
use crate::worker::Worker;
use crate::worker::control::{Command, Control, WorkerReport};
use reflector_measure::clock;

/// How long workers may take to let go of their rings and sockets when the server gives up.
const LEAVING_MAX: Duration = Duration::from_millis(500);

/// The workers that have been started.
#[derive(Default)]
pub struct Workers {
    /// By worker.
    pub controls: Vec<Arc<Control>>,
    threads: Vec<JoinHandle<()>>,
}

impl Workers {
    /// Starts `worker`, which comes next.
    ///
    /// # Errors
    /// `EAGAIN` where there may be no more threads (pthread_create(3)).
    pub fn start<R: Responder + Send + 'static>(&mut self, worker: Worker<R>) -> io::Result<()> {
        let control = Arc::clone(&worker.control);
        let thread = thread::Builder::new().name(format!("worker-{}", worker.index));
        let thread = thread.spawn(move || watched(worker))?;
        self.controls.push(control);
        self.threads.push(thread);
        Ok(())
    }

    /// Ends those that still run, and waits for them, though not for ever: a ring that is not
    /// closed in order keeps the port busy after the process has gone. Returns those that have not
    /// ended, which have not handed over what they counted.
    #[allow(
        clippy::disallowed_methods,
        reason = "the server is waiting for threads, not for datagrams"
    )]
    pub fn leave(&self) -> Vec<usize> {
        let until = clock::monotonic() + LEAVING_MAX;
        self.controls
            .iter()
            .for_each(|control| control.command(Command::Leave));
        let is_running = || self.threads.iter().any(|thread| !thread.is_finished());
        while is_running() && clock::monotonic() < until {
            thread::sleep(Duration::from_millis(1));
        }
        let threads = self.threads.iter().enumerate();
        let running = threads.filter(|(_, thread)| !thread.is_finished());
        running.map(|(worker, _)| worker).collect()
    }
}

/// Runs a worker and reports its end, whichever it is. A socket without a reader would swallow its
/// share of the peers for good, so no end goes unheard.
fn watched<R: Responder>(worker: Worker<R>) {
    let (index, reports) = (worker.index, worker.reports.clone());
    let control = Arc::clone(&worker.control);
    let mut stats = Stats::new(worker.resources.sockets.len());
    let report = match panic::catch_unwind(AssertUnwindSafe(|| worker.run(&mut stats))) {
        Ok(Ok(())) => WorkerReport::Ended { worker: index },
        Ok(Err(error)) => WorkerReport::Died {
            worker: index,
            reason: error.to_string(),
        },
        Err(_) => WorkerReport::Died {
            worker: index,
            reason: "it panicked".to_owned(),
        },
    };
    // However it ended, what it counted is not lost.
    control.counters.publish(&mut stats);
    control.counters.close();
    // Nobody listens any more if the server has given up, which is as well.
    let _ = reports.send(report);
}
