//! Lines of the log that repeat.

use std::fs;
use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use reflector_measure::clock;
use reflector_netlab::topology::Namespace;
use reflector_testkit::{Reflector, http, on_both_engines, wait_until};
use rustix::process::Signal;

/// Times that something happens of which a line is written.
const TIMES: usize = 15;

on_both_engines! {
    fn a_line_that_repeats_is_written_ten_times_and_then_counted(engine: Engine) {
        for format in ["text", "json"] {
            let host = Namespace::new().unwrap();
            let list = std::env::temp_dir().join(format!(
                "reflector-repeated-{}-{}",
                std::process::id(),
                engine.name()
            ));
            fs::write(&list, "192.0.2.0/24\n").unwrap();
            let file = list.to_str().unwrap();
            let args = ["--listen", "127.0.0.1:0", "--interval", "0", "--metrics", "9188"];
            let lists = ["--deny-file", file, "--log-format", format];
            let reflector = Reflector::start(&host, engine, &[&args[..], &lists].concat());
            fs::write(&list, "no prefix\n").unwrap();
            let start = clock::monotonic();
            let addr = SocketAddr::from((Ipv4Addr::LOCALHOST, 9188));
            let page = || http::get(addr, "/metrics", Duration::from_secs(20)).unwrap().1;
            for time in 1..=TIMES {
                // Those that wait are one.
                reflector.signal(Signal::HUP);
                let failed = format!("reflector_list_reloads_total{{result=\"failed\"}} {time}\n");
                wait_until("it has failed", || host.run(page).contains(&failed));
            }
            let took = clock::monotonic() - start;
            let (_, log) = reflector.stop_with_log();
            fs::remove_file(&list).unwrap();
            let is_said = |line: &&str| line.contains("who is answered stays as it is");
            let (counts, lines): (Vec<_>, Vec<_>) =
                log.lines().filter(is_said).partition(|line| line.contains("more of these in 10s"));
            let left_out = |line: &&str| -> usize {
                let (_, rest) = line.split_once("… and ").unwrap();
                rest.split(' ').next().unwrap().parse().unwrap()
            };
            let counted = counts.iter().map(left_out).sum::<usize>();
            assert_eq!(lines.len() + counted, TIMES, "{log}");
            // Where it took longer, they were not that many at a time.
            assert!(lines.len() == 10 || took > Duration::from_secs(10), "{log}");
            assert!(counts.iter().all(|line| line.contains("WARN")), "{log}");
        }
    }
}
