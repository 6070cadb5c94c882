//! The engine's buffer ownership, proven against a ring that does its worst.
//!
//! The fake ring keeps the kernel's promises (a send that does not wait is over when the
//! submission returns; the error completion of a send comes before `enter` has nothing left to do)
//! and no others: it accepts submissions in part, is interrupted or busy, ends multishots with
//! and without data, runs out of buffers, refuses sends for any reason, and brings completions
//! late and out of order. A seeded driver lets datagrams and trains arrive in between.
//!
//! What must hold: every buffer is in exactly one place, none is visible to the kernel while a
//! send or a resend still reads it, every datagram is answered once or counted, and the order per
//! peer is kept where no train was refused.

mod driver;
mod ring;

use std::collections::BTreeMap;

use crate::engine::settings::Wait;
use driver::Driver;
use ring::DEEDS;

#[test]
fn no_buffer_is_lost_shared_or_published_too_early_whatever_the_ring_does() {
    let mut covered: BTreeMap<_, usize> = BTreeMap::new();
    for seed in 0..40 {
        let mut driver = Driver::new(seed);
        let outcome = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            driver.run();
            driver.assert_all_is_well();
        }));
        let coverage = &driver.engine.ring.coverage;
        assert!(
            outcome.is_ok(),
            "seed {seed}; what the ring has done: {coverage:?}"
        );
        for (&deed, count) in coverage {
            *covered.entry(deed).or_default() += count;
        }
    }
    let is_covered = |deed: &str| covered.get(deed).is_some_and(|&count| count > 20);
    assert!(
        DEEDS.into_iter().all(is_covered),
        "each has been through: {covered:?}"
    );
}

/// An engine whose every receive ends with `errno`.
fn broken(errno: i32) -> Driver {
    let mut driver = Driver::new(1);
    driver.engine.ring.broken = Some(errno);
    driver
}

#[test]
fn nothing_is_ready_while_a_socket_cannot_be_received_from() {
    for errno in [libc::EACCES, libc::EBADF, libc::ENOMEM] {
        let Driver { engine, stats, .. } = &mut broken(errno);
        let error = engine.arm(stats).unwrap_err().to_string();
        assert!(error.contains("cannot be received from"), "{error}");
    }
    let Driver { engine, stats, .. } = &mut Driver::new(1);
    engine.arm(stats).unwrap();
}

#[test]
fn a_socket_that_is_lost_ends_the_engine_and_is_counted() {
    let mut driver = broken(libc::EBADF);
    let Driver {
        engine,
        batch,
        stats,
        ..
    } = &mut driver;
    let failed = (0..100).find_map(|_| engine.receive(batch, stats, Wait::Never).err());
    assert!(failed.is_some_and(|it| it.to_string().contains("EBADF")));
    let counted: Vec<_> = stats.counters.receive_errors().collect();
    assert_eq!(counted, [(libc::EBADF, 1)]);
}
