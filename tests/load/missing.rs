//! What is missing, by where it went: refused, or lost on this host, or elsewhere.

use reflector_netlab::topology::{Namespace, in_force, in_namespaces, nft};

use super::{count, load};
use reflector_testkit::{Engine, Reflector};

#[test]
fn what_a_rule_of_this_host_refuses_is_neither_lost_nor_timed() {
    let test_name = "missing::what_a_rule_of_this_host_refuses_is_neither_lost_nor_timed";
    in_namespaces(test_name, || {
        let namespace = Namespace::new().unwrap();
        let rules = "table inet f { chain out { type filter hook output priority 0;
                     udp dport 5151 numgen inc mod 4 < 3 drop; }; }";
        if !in_force(test_name, nft(&namespace, rules)) {
            return;
        }
        let args = ["--listen", "127.0.0.1:5151", "--listen", "[::1]:5151"];
        let reflector = Reflector::start(&namespace, Engine::Mmsg, &args);
        for target in ["127.0.0.1:5151", "[::1]:5151"] {
            let ended = namespace.run(|| load(target, "--count 100 --rate 1k --timeout 10s"));
            let summary = ended.summary();
            let [sent, lost, refused] = ["sent", "lost", "refused"].map(|key| count(&summary[key]));
            assert_eq!(
                (ended.code, sent, lost, refused),
                (0, 25, 0, 75),
                "{summary}"
            );
            assert_eq!(summary["loss_percent"], 0.0, "{summary}");
            assert_eq!(summary["refused_percent"], 75.0, "{summary}");
            assert!(
                summary["rtt_us"]["p50"].as_f64().unwrap() < 10e6,
                "{summary}"
            );
            let note = summary["notes"][0].as_str().unwrap();
            assert!(
                note.contains("75 of 100") && note.contains("EPERM"),
                "{note}"
            );
        }
        reflector.stop();
    });
}
