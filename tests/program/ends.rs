//! Signals, and the end after a duration.

use std::fs;
use std::os::unix::process::ExitStatusExt;

use reflector_netlab::topology::Namespace;
use reflector_testkit::{Client, Reflector, on_both_engines, wait_until};
use rustix::process::Signal;

use super::FAILED;

on_both_engines! {
    fn sigint_ends_it_as_sigterm_does(engine: Engine) {
        let host = Namespace::new().unwrap();
        let reflector = Reflector::start(&host, engine, &["--listen", "127.0.0.1:0"]);
        Client::connect(&host, reflector.listen(0)).ask(b"ping");
        reflector.signal(Signal::INT);
        let (summary, _, status) = reflector.wait();
        assert_eq!(status.code(), Some(0));
        assert_eq!(summary["type"], "summary");
        assert_eq!(summary["replied"], 1);
    }

    fn a_second_signal_ends_a_drain_at_once(engine: Engine) {
        let host = Namespace::new().unwrap();
        // A drain as long as this: the worker waits for more before it answers.
        let args = ["--listen", "127.0.0.1:0", "--cores", "1", "--coalesce", "10s"];
        let reflector = Reflector::start(&host, engine, &args);
        Client::connect(&host, reflector.listen(0)).send(b"ping");
        wait_until_taken(&host);
        // Two of a kind could become one.
        reflector.signal(Signal::TERM);
        reflector.signal(Signal::INT);
        let (_, log, status) = reflector.wait();
        assert_eq!(status.code(), Some(FAILED));
        assert_eq!(log, "ERROR the drain was cut short: stopped a second time\n");
    }

    fn it_ends_by_itself_after_its_duration(engine: Engine) {
        let host = Namespace::new().unwrap();
        let args = ["--listen", "127.0.0.1:0", "--duration", "30ms"];
        let reflector = Reflector::start(&host, engine, &args);
        let (summary, log, status) = reflector.wait();
        assert_eq!((status.code(), status.signal()), (Some(0), None));
        assert!(summary["seconds"].as_f64().unwrap() >= 0.03);
        assert_eq!(log, "");
    }
}

/// Waits until no UDP socket of `namespace` holds a datagram.
fn wait_until_taken(namespace: &Namespace) {
    let is_empty = |line: &str| {
        // Slot, local address, remote address, state, tx_queue:rx_queue (proc_net(5)).
        let queues = line.split_whitespace().nth(4).expect("a socket's line");
        queues.ends_with(":00000000")
    };
    let table = || namespace.run(|| fs::read_to_string("/proc/thread-self/net/udp").unwrap());
    wait_until("all datagrams are taken", || {
        table().lines().skip(1).all(is_empty)
    });
}
