//! A watch that goes on says how it goes, over HTTP.

use std::net::{Ipv4Addr, SocketAddr};

use reflector_netlab::topology::{Namespace, in_namespaces};
use reflector_testkit::targets::{Fault, Target};
use reflector_testkit::{PATIENCE, http};

use super::watching::Watch;

#[test]
fn what_is_watched_is_told_over_http() {
    in_namespaces("figures::what_is_watched_is_told_over_http", || {
        let host = Namespace::new().unwrap();
        host.set_up("lo").unwrap();
        let addr = SocketAddr::from((Ipv4Addr::LOCALHOST, 9190));
        let target = host.run(|| Target::start(Fault::DropTenth));
        let options = "--every 2ms -t 100ms --metrics 9190";
        let mut watch = Watch::start(&host, target.addr, options);
        while watch.events("gap").len() < 2 {
            watch.wait_for_answer();
        }
        // What is told of an interval is there before its line is, and gaps come between two.
        watch.wait_for_answer();
        let (status, page) = host.run(|| http::get(addr, "/metrics", PATIENCE)).unwrap();
        assert_eq!(status, 200, "{page}");
        let value = |name: &str| -> f64 {
            let name = format!("reflector_watch_{name} ");
            let line = page.lines().find_map(|it| it.strip_prefix(&name));
            let line = line.unwrap_or_else(|| panic!("{name}: {page}"));
            line.parse().unwrap()
        };
        let gaps = value("gaps_total");
        assert!(gaps >= 2.0, "{page}");
        // Each tenth is dropped; more where a machine is slow.
        assert!(value("unanswered_datagrams_total") >= gaps, "{page}");
        assert!(
            value("gaps_length_seconds") >= value("longest_gap_seconds"),
            "{page}"
        );
        assert!(value("longest_gap_seconds") > 0.0, "{page}");
        let received = value("received_datagrams_total");
        assert!(
            received > 0.0 && value("sent_datagrams_total") >= received,
            "{page}"
        );
        assert_eq!(value("rtt_seconds_count"), received, "{page}");
        assert_eq!(value("wrong_source_answers_total"), 0.0, "{page}");
        let told = format!("reflector_watch_info{{target=\"{}\"}} 1\n", target.addr);
        assert!(page.contains(&told), "{page}");
        let (_, summary) = watch.stop();
        assert!(summary["gaps"].as_f64().unwrap() >= gaps, "{summary}");
    });
}
