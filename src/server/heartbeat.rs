//! Whether every worker still does its work. One that does not swallows its share of the peers.

use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::worker::control::Control;
use reflector_measure::host;

/// How often each worker is asked for a sign of life.
const EVERY: Duration = Duration::from_millis(250);

/// Looks in a row that a worker may be behind at. The last of them is a second at most after its
/// last sign of life.
const MISSED_MAX: u32 = 3;

/// The same of one that is ready to run: it will, and a new process would get no CPU either.
const MISSED_MAX_READY: u32 = 40;

/// A worker that gives no sign of life.
#[derive(Debug, PartialEq, Eq)]
pub struct Lost {
    /// Which.
    pub worker: usize,
    /// What has become of its thread.
    pub reason: String,
}

/// Signs of life of all workers.
///
/// What is counted is how often a worker was behind when it was looked at, not for how long: a
/// process that was stopped as a whole, or a machine that was, has missed nothing.
pub struct Heartbeat {
    next: Instant,
    /// By worker, while it runs: looks in a row that found it behind.
    missed: Vec<Option<u32>>,
}

impl Heartbeat {
    /// Begins to ask at `now`.
    pub fn start(controls: &[Arc<Control>], now: Instant) -> Self {
        controls.iter().for_each(|it| it.ask_for_life());
        Self {
            next: now + EVERY,
            missed: vec![Some(0); controls.len()],
        }
    }

    /// No more is expected of `worker`.
    pub fn end(&mut self, worker: usize) {
        self.missed[worker] = None;
    }

    /// The workers that have not ended.
    pub fn running(&self) -> Vec<usize> {
        let workers = self.missed.iter().enumerate();
        workers
            .filter_map(|(worker, missed)| missed.map(|_| worker))
            .collect()
    }

    /// When it is time to look.
    pub fn due(&self) -> Instant {
        self.next
    }

    /// Looks whether each worker has answered, if it is time to, and asks those again that have.
    /// Those that have [ended](Self::end) need not.
    ///
    /// # Errors
    /// A worker that has not, for too long.
    pub fn look(&mut self, controls: &[Arc<Control>], now: Instant) -> Result<(), Lost> {
        if now < self.next {
            return Ok(());
        }
        self.next = now + EVERY;
        for (worker, (control, missed)) in controls.iter().zip(&mut self.missed).enumerate() {
            let Some(missed) = missed else { continue };
            if !control.is_behind() {
                *missed = 0;
                control.ask_for_life();
                continue;
            }
            *missed += 1;
            if *missed < MISSED_MAX {
                continue;
            }
            let state = control.thread().and_then(host::thread_state);
            if state != Some('R') || *missed >= MISSED_MAX_READY {
                let reason = reason(state);
                return Err(Lost { worker, reason });
            }
            if *missed == MISSED_MAX {
                tracing::warn!("worker {worker} gets no CPU, so its peers wait");
            }
        }
        Ok(())
    }
}

/// What has become of a thread that is in `state` (proc_pid_stat(5)).
fn reason(state: Option<char>) -> String {
    let why = match state {
        Some('T' | 't') => "is stopped, by a signal or a debugger",
        Some('X' | 'Z') => "was killed, perhaps by a seccomp profile that ends threads",
        Some('D') => "waits in the kernel and cannot be interrupted",
        Some('R') => "gets no CPU, or its responder does not return",
        Some('S') => "is blocked, perhaps in its responder",
        _ => "gives no sign of life",
    };
    format!("its thread {why}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::guard::{Guard, Rules};
    use crate::worker::control::Obeyed;
    use reflector_measure::clock;

    /// Looks `count` times, each when it is due; what the last one said.
    fn look(heartbeat: &mut Heartbeat, controls: &[Arc<Control>], count: u32) -> Result<(), Lost> {
        let looks = (0..count).map(|_| heartbeat.look(controls, heartbeat.due()));
        looks.last().expect("one at least")
    }

    fn controls() -> [Arc<Control>; 2] {
        [(); 2].map(|()| Arc::new(Control::open(1).unwrap()))
    }

    #[test]
    fn a_worker_that_answers_may_be_late_twice() {
        let controls = controls();
        let mut guard = Guard::new(&Rules::default(), []);
        let mut obeyed = [Obeyed::default(), Obeyed::default()];
        let mut heartbeat = Heartbeat::start(&controls, clock::monotonic());
        for _ in 0..10 {
            assert_eq!(look(&mut heartbeat, &controls, 2), Ok(()));
            for (obeyed, control) in obeyed.iter_mut().zip(&controls) {
                obeyed.read(control, &mut guard);
            }
            assert_eq!(look(&mut heartbeat, &controls, 1), Ok(()));
        }
    }

    #[test]
    fn a_worker_whose_thread_is_no_more_is_lost_at_the_third_look() {
        let controls = controls();
        let mut guard = Guard::new(&Rules::default(), []);
        let mut obeyed = Obeyed::default();
        let second = Arc::clone(&controls[1]);
        std::thread::spawn(move || second.set_thread())
            .join()
            .unwrap();
        let mut heartbeat = Heartbeat::start(&controls, clock::monotonic());
        for _ in 0..MISSED_MAX - 1 {
            obeyed.read(&controls[0], &mut guard);
            assert_eq!(look(&mut heartbeat, &controls, 1), Ok(()));
        }
        obeyed.read(&controls[0], &mut guard);
        let lost = look(&mut heartbeat, &controls, 1).unwrap_err();
        assert_eq!(lost.worker, 1);
        assert!(lost.reason.contains("was killed"), "{lost:?}");
    }

    #[test]
    fn a_worker_that_is_ready_to_run_is_waited_for_longer() {
        let controls = controls();
        // This thread runs, and obeys nothing.
        controls.iter().for_each(|it| it.set_thread());
        let mut heartbeat = Heartbeat::start(&controls, clock::monotonic());
        assert_eq!(
            look(&mut heartbeat, &controls, MISSED_MAX_READY - 1),
            Ok(())
        );
        let lost = look(&mut heartbeat, &controls, 1).unwrap_err();
        assert!(lost.reason.contains("gets no CPU"), "{lost:?}");
    }

    #[test]
    fn nothing_is_expected_of_a_worker_that_has_ended() {
        let controls = controls();
        let mut heartbeat = Heartbeat::start(&controls, clock::monotonic());
        heartbeat.end(0);
        assert_eq!(heartbeat.running(), [1]);
        heartbeat.end(1);
        assert_eq!(
            look(&mut heartbeat, &controls, 2 * MISSED_MAX_READY),
            Ok(())
        );
    }

    #[test]
    fn what_is_not_due_is_not_looked_at() {
        let controls = controls();
        let now = clock::monotonic();
        let mut heartbeat = Heartbeat::start(&controls, now);
        (0..10).for_each(|_| assert_eq!(heartbeat.look(&controls, now), Ok(())));
        assert_eq!(heartbeat.missed, [Some(0), Some(0)]);
    }
}
