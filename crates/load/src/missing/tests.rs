//! Parts of chosen runs.

use super::*;

fn counters(sent: u64, lost: u64) -> Counters {
    Counters {
        sent,
        received: sent - lost,
        given_up: lost,
        ..Counters::default()
    }
}

fn known(queue: Option<&QueueCounts>) -> Known<'_> {
    Known {
        queue,
        drops: Drops::default(),
        has_warmup: false,
        train_max: 32,
    }
}

fn queue(drops: u64, passed: u64) -> QueueCounts {
    QueueCounts {
        device: "eth0".to_owned(),
        kind: "tbf".to_owned(),
        drops,
        passed,
    }
}

fn range(least: u64, most: u64) -> Bounds {
    Bounds { least, most }
}

#[test]
fn what_the_device_drops_is_not_lost_elsewhere() {
    for (lost, drops, passed, in_queue, elsewhere) in [
        (40, 40, 60, range(40, 40), range(0, 0)),
        (40, 30, 70, range(30, 30), range(10, 10)),
        // Two packets more than were ours: others', passed or dropped.
        (40, 40, 62, range(38, 40), range(0, 2)),
        (40, 0, 100, range(0, 0), range(40, 40)),
        // More than is missing is others' for certain.
        (40, 500, 60, range(40, 40), range(0, 0)),
    ] {
        let counts = queue(drops, passed);
        let missing = Missing::new(&counters(100, lost), known(Some(&counts)));
        let parts = (missing.queue, missing.elsewhere);
        assert_eq!(
            parts,
            (Some(in_queue), elsewhere),
            "{lost} {drops} {passed}"
        );
    }
    let missing = Missing::new(&counters(100, 40), known(None));
    assert_eq!((missing.queue, missing.elsewhere), (None, range(0, 40)));
}

#[test]
fn a_queue_that_refuses_drops_each_only_once() {
    let mut counters = counters(60, 10);
    counters.send_errors.insert(libc::ENOBUFS, 40);
    (counters.queue_refused, counters.queue_refusals) = (40, 40);
    let counts = queue(50, 50);
    let missing = Missing::new(&counters, known(Some(&counts)));
    assert_eq!(missing.refused, 40);
    assert_eq!(missing.queue, Some(range(10, 10)));
    assert_eq!((missing.elsewhere, missing.lost_here()), (range(0, 0), 10));
}

#[test]
fn of_trains_what_has_not_left_is_in_the_queue() {
    let mut counters = counters(6400, 5654);
    counters.trains_sent = 200;
    let cut = queue(5654, 746);
    let missing = Missing::new(&counters, known(Some(&cut)));
    assert_eq!(missing.queue, Some(range(5654, 5654)));
    // Whole trains, each of which the queue counts once, and three packets of others.
    let whole = queue(100, 3203);
    let missing = Missing::new(&counters, known(Some(&whole)));
    assert_eq!(missing.queue, Some(range(3197, 3200)));
    let warm = Known {
        has_warmup: true,
        ..known(Some(&whole))
    };
    let missing = Missing::new(&counters, warm);
    assert_eq!(missing.queue, Some(range(0, 3200)));
}

#[test]
fn what_our_sockets_drop_is_not_charged_to_the_target() {
    let drops = Drops {
        datagrams: 3000,
        least: 100,
        most: 3200,
        trains: 100,
    };
    let counts = queue(0, 100);
    let at_sockets = Known {
        drops,
        ..known(Some(&counts))
    };
    let missing = Missing::new(&counters(10_000, 5000), at_sockets);
    assert_eq!(missing.own_sockets, range(100, 3200));
    assert_eq!(missing.elsewhere, range(1800, 4900));
    // They may have been answers to what was answered before.
    let mut counters = counters(10_000, 5000);
    counters.duplicated = 1;
    counters.answered_otherwise = 4000;
    let missing = Missing::new(&counters, at_sockets);
    assert_eq!(missing.own_sockets, range(0, 1000));
    assert_eq!(missing.answered_otherwise, 4000);
}
