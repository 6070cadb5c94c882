//! Figures over HTTP while it runs.

use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::time::Duration;

use reflector_testkit::targets::{Fault, Target};
use reflector_testkit::{command, http};
use rustix::process::Signal;

use super::{Running, count, load};

/// The value of a sample without labels.
fn value(page: &str, name: &str) -> f64 {
    let value = page.lines().find_map(|line| {
        let (of, value) = line.split_once(' ')?;
        (of == name).then_some(value)
    });
    value.expect("it is there").parse().unwrap()
}

#[test]
fn what_was_counted_until_the_last_interval_is_told() {
    // Nobody else is given this port as long as it is not closed for long.
    let free = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let addr = free.local_addr().unwrap();
    drop(free);
    let target = Target::start(Fault::None);
    let options = format!("--rate 1k --duration 1h --timeout 5s --metrics {addr}");
    let mut running = Running::start(target.addr, &options);
    let get = |path: &str| http::get(addr, path, Duration::from_secs(20)).unwrap();
    // The figures of an interval are there before its line is.
    let sent: u64 = running
        .lines
        .iter()
        .filter_map(|it| it["sent"].as_u64())
        .sum();
    let (status, page) = get("/metrics");
    assert_eq!(status, 200);
    assert!(
        value(&page, "reflector_load_sent_datagrams_total") >= sent as f64,
        "{page}"
    );
    running.wait_for_report(|line| line["received"].as_u64() > Some(0));
    let page = get("/metrics").1;
    let received = value(&page, "reflector_load_received_datagrams_total");
    assert!(received > 0.0, "{page}");
    assert_eq!(
        value(&page, "reflector_load_rtt_seconds_count"),
        received,
        "{page}"
    );
    for name in [
        "wrong_source_answers",
        "late_answers",
        "icmp_errors",
        "refused_datagrams",
    ] {
        assert_eq!(
            value(&page, &format!("reflector_load_{name}_total")),
            0.0,
            "{name}"
        );
    }
    let target = format!("reflector_load_info{{target=\"{}\"}} 1\n", target.addr);
    assert!(page.contains(&target), "{page}");
    assert_eq!(get("/livez").0, 404);
    running.signal(Signal::INT);
    let ended = running.end();
    assert!(count(&ended.summary()["received"]) as f64 >= received);
}

#[test]
fn an_address_that_is_taken_is_said_before_anything_is_sent() {
    let taken = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let addr: SocketAddr = taken.local_addr().unwrap();
    let target = Target::start(Fault::None);
    let ended = load(target.addr, &format!("--metrics {addr}"));
    assert_eq!((ended.code, ended.lines.len()), (1, 0), "{}", ended.log);
    let said = format!("cannot answer with metrics at {addr}");
    assert!(ended.log.contains(&said), "{}", ended.log);
    let unread = command(&["load", "127.0.0.1:7", "--metrics", "nowhere"])
        .output()
        .unwrap();
    assert_eq!(unread.status.code(), Some(2));
}
