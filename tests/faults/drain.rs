//! The end where it cannot be in order.

use reflector_netlab::topology::Namespace;
use reflector_testkit::queue::{self, Delivered};
use reflector_testkit::{Client, Engine, PORT, Reflector, on_both_engines, threads};
use rustix::process::Signal;

use super::FAILED;
use super::scene::{count, tell_cells};

/// Datagrams that wait when the drain begins.
const LEFT: u64 = 50;

on_both_engines! {
    /// The drain is bounded, what was left is said, and the summary comes all the same.
    fn a_drain_that_is_not_over_in_time(engine: Engine) {
        let host = Namespace::new().unwrap();
        let args = ["--listen", "127.0.0.1:5151", "--cores", "1", "--drain-timeout", "300ms"];
        let reflector = Reflector::start(&host, engine, &[&args[..], &["-i", "10ms"]].concat());
        let client = Client::connect(&host, ([127, 0, 0, 1], PORT).into());
        client.ask(b"before");
        reflector.wait_for_report("it is counted", |it| it["replied"] == 1);
        // All of it, so that nobody misses the worker before the drain begins.
        queue::stop(&reflector);
        threads::stop(&threads::workers(&reflector)[0]);
        let delivered = Delivered::count(&host);
        (0..LEFT).for_each(|_| client.send(b"left"));
        delivered.wait_for(LEFT);
        reflector.signal(Signal::TERM);
        reflector.signal(Signal::CONT);
        let (summary, log, status) = reflector.wait();
        tell(engine, &summary, &log);
        assert_eq!(status.code(), Some(FAILED), "{log}");
        assert_eq!(summary["type"], "summary");
        assert_eq!(count(&summary["replied"]), 1, "{summary}");
        let start = " WARN the summary lacks what worker 0 has counted since the last report: it \
                     has not ended\n\
                     ERROR the drain was cut short after 300ms: worker 0 has not ended, and \
                     datagrams in ";
        let left = log.strip_prefix(start).unwrap_or_else(|| panic!("{log}"));
        let (bytes, rest) = left.split_once(' ').unwrap();
        assert_eq!(rest, "bytes of receive buffers are left without an answer\n");
        // Each takes more room than its payload.
        assert!(bytes.parse::<u64>().unwrap() >= 4 * LEFT, "{log}");
    }
}

fn tell(engine: Engine, summary: &serde_json::Value, log: &str) {
    let number = |value: &serde_json::Value| value.to_string();
    tell_cells(&[
        "SIGTERM while a worker is stopped, --drain-timeout 300ms".to_owned(),
        engine.name().to_owned(),
        (1 + LEFT).to_string(),
        "1".to_owned(),
        LEFT.to_string(),
        "0".to_owned(),
        number(&summary["received"]),
        number(&summary["replied"]),
        "exit 1".to_owned(),
        log.trim_end().replace('\n', " / "),
    ]);
}
