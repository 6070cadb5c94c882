//! The hand-over in every order in which two threads can come to it, by loom.
//!
//! loom and not shuttle: what is to be proven is that the flag may be read and written without any
//! order of its own, and shuttle knows no weaker order than that of one thread after the other. Two
//! threads and few steps are enough to try all of them.
//!
//! Only with `--cfg handover_orders`, which gives the types of loom in place of the standard
//! library's: see `.ci/run`.

use loom::model::Builder;
use loom::sync::Arc;
use loom::sync::atomic::{AtomicU64, Ordering};
use loom::thread;

use super::{Counters, Handover};

#[derive(Debug, Default)]
struct Count(u64);

impl Counters for Count {
    fn add(&mut self, other: &Self) {
        self.0 += other.0;
    }

    fn reset(&mut self) {
        self.0 = 0;
    }
}

/// Tries every order in which no thread is interrupted more than four times.
fn in_every_order(body: impl Fn() + Send + Sync + 'static) {
    let mut builder = Builder::new();
    builder.preemption_bound = Some(4);
    builder.check(body);
}

#[test]
fn nothing_is_lost_or_counted_twice_and_an_answer_is_newer_than_its_request() {
    const TOTAL: u64 = 3;
    in_every_order(|| {
        let handover = Arc::new(Handover::new(Count(0)));
        // What the worker has counted, for the reporter to see without its help.
        let counted = Arc::new(AtomicU64::new(0));
        let worker = {
            let (handover, counted) = (Arc::clone(&handover), Arc::clone(&counted));
            thread::spawn(move || {
                let mut own = Count(0);
                for _ in 0..TOTAL {
                    own.0 += 1;
                    counted.fetch_add(1, Ordering::AcqRel);
                    if handover.is_requested() {
                        handover.publish(&mut own);
                        assert_eq!(own.0, 0, "handed over");
                    }
                }
                handover.publish(&mut own);
                handover.close();
            })
        };
        let mut sum = Count(0);
        for _ in 0..2 {
            let before = counted.load(Ordering::Acquire);
            handover.request();
            if handover.collect(&mut sum) {
                assert!(sum.0 >= before, "{} of {before}", sum.0);
            }
            assert!(sum.0 <= TOTAL, "{}", sum.0);
        }
        worker.join().expect("the worker ends");
        assert!(
            handover.collect(&mut sum),
            "nobody waits for one that has ended"
        );
        assert_eq!(sum.0, TOTAL);
    });
}

#[test]
fn a_reporter_that_waits_is_woken() {
    in_every_order(|| {
        let handover = Arc::new(Handover::new(Count(0)));
        let worker = {
            let handover = Arc::clone(&handover);
            thread::spawn(move || {
                let mut own = Count(1);
                if handover.is_requested() {
                    handover.publish(&mut own);
                }
                own.0 += 1;
                handover.publish(&mut own);
                handover.close();
            })
        };
        let mut sum = Count(0);
        handover.request();
        // loom has no time: a wait that nobody ends fails as a deadlock.
        handover.wait(std::time::Duration::MAX);
        assert!(handover.collect(&mut sum));
        worker.join().expect("the worker ends");
        handover.collect(&mut sum);
        assert_eq!(sum.0, 2);
    });
}

#[test]
fn a_request_is_seen_until_it_is_answered() {
    in_every_order(|| {
        let handover = Arc::new(Handover::new(Count(0)));
        let worker = {
            let handover = Arc::clone(&handover);
            thread::spawn(move || {
                if handover.is_requested() {
                    handover.publish(&mut Count(1));
                }
            })
        };
        handover.request();
        handover.request();
        worker.join().expect("the worker goes on");
        let is_answered = handover.collect(&mut Count(0));
        assert!(is_answered || handover.is_requested(), "nobody will answer");
    });
}
