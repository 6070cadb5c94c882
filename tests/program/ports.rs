//! Ports that are taken, and ports that are shared.

use std::fs;
use std::net::{SocketAddr, UdpSocket};

use reflector_netlab::topology::{Namespace, in_namespaces};
use reflector_testkit::{
    Client, Engine, HistogramLog, Reflector, on_both_engines, run_to_end, text,
};

use rustix::process::Signal;

use super::{FAILED, PEERS, assert_refused, clients, count};

#[test]
fn a_port_that_another_program_has_is_refused_and_nothing_is_touched() {
    in_namespaces(
        "ports::a_port_that_another_program_has_is_refused_and_nothing_is_touched",
        || {
            let host = Namespace::new().unwrap();
            let foreign = host.run(|| UdpSocket::bind("127.0.0.1:0")).unwrap();
            let addr = foreign.local_addr().unwrap();
            let log = HistogramLog::new("port-in-use");
            fs::write(log.path(), "of an earlier run").unwrap();
            let (listen, hdr) = (addr.to_string(), log.path());
            let output = run_to_end(&host, &["--listen", &listen, "--hdr", hdr]);
            assert_refused(&output, FAILED, &port_taken(addr));
            assert_eq!(fs::read_to_string(log.path()).unwrap(), "of an earlier run");
        },
    );
}

#[test]
fn a_bare_port_is_that_of_both_families_and_a_bare_host_has_the_default_one() {
    in_namespaces(
        "ports::a_bare_port_is_that_of_both_families_and_a_bare_host_has_the_default_one",
        || {
            let host = Namespace::new().unwrap();
            let listen = ["--listen", "9008, localhost"];
            let reflector = Reflector::start(&host, Engine::Mmsg, &listen);
            let listening = (0..).map_while(|it| reflector.ready["listen"][it].as_str());
            let listening: Vec<_> = listening.collect();
            assert_eq!(listening[..2], ["0.0.0.0:9008", "[::]:9008"]);
            assert!(listening.contains(&"127.0.0.1:9007"), "{listening:?}");
            let more = ["-l", "9009,9010,9011", "-d", "1ms"];
            let output = run_to_end(&host, &more);
            let ready = text(&output.stdout);
            assert!(
                ready.starts_with("ready: echo on 0.0.0.0:9009 and"),
                "{ready}"
            );
            assert!(ready.lines().all(|line| line.len() <= 80), "{ready}");
            for (args, ready) in [
                (
                    ["-4", "-l", "9012", "-d", "1ms"],
                    "ready: echo on 0.0.0.0:9012, ",
                ),
                (
                    ["-6", "-l", "9012", "-d", "1ms"],
                    "ready: echo on [::]:9012, ",
                ),
                (
                    ["-4", "-l", "localhost:9012", "-d", "1ms"],
                    "ready: echo on 127.0.0.1:9012, ",
                ),
            ] {
                let said = run_to_end(&host, &args).stdout;
                assert!(text(&said).starts_with(ready), "{}", text(&said));
            }
            for addr in ["127.0.0.1:9008", "[::1]:9008"] {
                Client::connect(&host, addr.parse().unwrap()).ask(b"both");
            }
            for args in [
                &["load", "127.0.0.1", "-n", "3"][..],
                &["load", "-4", "localhost", "-n", "3"],
                &["diagnose", "127.0.0.1", "-n", "1"],
                &["diagnose", "-4", "localhost:9008", "-n", "1"],
                &["diagnose", "-6", "[::1]:9008", "-n", "1"],
            ] {
                let output = run_to_end(&host, args);
                let said = text(&output.stderr);
                assert_eq!(output.status.code(), Some(0), "{args:?}: {said}");
            }
        },
    );
}

on_both_engines! {
    fn a_second_reflector_on_the_port_is_refused(engine: Engine) {
        let host = Namespace::new().unwrap();
        // Two workers: their sockets share the port among themselves, and with nobody else.
        for cores in ["1", "2"] {
            let listen = ["--listen", "127.0.0.1:0", "--cores", cores];
            let first = Reflector::start(&host, engine, &listen);
            let addr = first.listen(0);
            let second = run_to_end(&host, &["--listen", &addr.to_string(), "--cores", cores]);
            assert_refused(&second, FAILED, &port_taken(addr));
            Client::connect(&host, addr).ask(b"still there");
            assert_eq!(first.stop()["replied"], 1);
        }
    }

    /// A ring that received is closed some time after the end of its process, and its sockets with
    /// it.
    fn after_a_kill_it_starts_again_at_once(engine: Engine) {
        let host = Namespace::new().unwrap();
        let mut listen = "127.0.0.1:0".to_owned();
        for _ in 0..6 {
            let args = ["--listen", &listen, "--cores", "2"];
            let reflector = Reflector::start(&host, engine, &args);
            listen = reflector.listen(0).to_string();
            Client::connect(&host, reflector.listen(0)).ask(b"again");
            reflector.signal(Signal::KILL);
            reflector.wait();
        }
    }

    fn a_port_is_shared_only_where_both_agree(engine: Engine) {
        let host = Namespace::new().unwrap();
        let listen = ["--cores", "1", "--share-port", "--listen"];
        let with = |addr| [&listen[..], &[addr]].concat();
        let first = Reflector::start(&host, engine, &with("127.0.0.1:0"));
        let addr = first.listen(0);
        let alone = run_to_end(&host, &["--listen", &addr.to_string()]);
        assert_refused(&alone, FAILED, &port_taken(addr));

        let second = Reflector::start(&host, engine, &with(&addr.to_string()));
        let clients = clients(&host, addr);
        clients.iter().for_each(|client| client.ask(b"either of you"));
        let shares = [first, second].map(|reflector| count(&reflector.stop()["replied"]));
        assert_eq!(shares[0] + shares[1], PEERS as u64);
        assert!(shares.iter().all(|&share| share > 0), "{shares:?}");
    }

    fn a_single_reflector_does_not_share_with_one_that_would(engine: Engine) {
        let host = Namespace::new().unwrap();
        let args = ["--listen", "127.0.0.1:0", "--cores", "1"];
        let first = Reflector::start(&host, engine, &args);
        let addr = first.listen(0);
        let second = run_to_end(&host, &["--share-port", "--listen", &addr.to_string()]);
        assert_refused(&second, FAILED, &port_taken(addr));
        first.stop();
    }
}

/// What is said where `addr` is taken.
fn port_taken(addr: SocketAddr) -> String {
    format!(
        "ERROR cannot bind {addr}: Address already in use (os error 98); another program has the \
         port: `ss -lunp 'sport = {}'` shows which; --share-port shares it with one that agrees",
        addr.port()
    )
}
