//! What is missing, by where it went: refused, or lost on this host, or elsewhere.

use std::process::{Command, Stdio};

use reflector_netlab::topology::{Namespace, in_force, in_namespaces, nft, skip};
use rustix::process::{Pid, Signal};

use super::neighbours::Link;
use super::{Running, count, load};
use reflector_testkit::{Engine, Reflector, command, queue, tc};

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
            // One that comes behind others in a call is asked about twice.
            assert_eq!((ended.code, sent + refused, lost), (0, 100, 0), "{summary}");
            assert!(refused >= 50, "{summary}");
            assert_eq!(summary["loss_percent"], 0.0, "{summary}");
            assert_eq!(summary["refused_percent"], refused as f64, "{summary}");
            assert!(
                summary["rtt_us"]["p50"].as_f64().unwrap() < 10e6,
                "{summary}"
            );
            let note = summary["notes"][0].as_str().unwrap();
            assert!(
                note.contains(&format!("{refused} of 100")) && note.contains("EPERM"),
                "{note}"
            );
        }
        reflector.stop();
    });
}

/// The server's addresses.
const TARGETS: [&str; 2] = ["10.9.0.1:5151", "[fd09::1]:5151"];

#[test]
fn what_the_queue_of_our_own_device_drops_is_not_charged_to_the_target() {
    let test_name = "missing::what_the_queue_of_our_own_device_drops_is_not_charged_to_the_target";
    in_namespaces(test_name, || {
        let link = Link::new();
        let args = ["--listen", "10.9.0.1:5151", "--listen", "[fd09::1]:5151"];
        let reflector = Reflector::start(&link.server, Engine::Mmsg, &args);
        let mut received = 0;
        for target in TARGETS {
            // A queue that cuts trains, one that takes or refuses them whole, single datagrams, and
            // one that cuts trains below a class, which counts nothing of that.
            for (queue, burst, is_below) in [
                ("burst 1600 limit 20000", 32, false),
                ("burst 10k limit 20000", 32, false),
                ("burst 10k limit 20000", 1, false),
                ("burst 1600 limit 20000", 32, true),
            ] {
                let mut parent = "root";
                if is_below {
                    parent = "parent 1:1";
                    for above in [
                        "qdisc add dev eth0 root handle 1: htb default 1",
                        "class add dev eth0 parent 1: classid 1:1 htb rate 1gbit quantum 60000",
                    ] {
                        tc(test_name, &link.client, above);
                    }
                }
                let queue = format!("qdisc replace dev eth0 {parent} tbf rate 8mbit {queue}");
                if !tc(test_name, &link.client, &queue) {
                    return;
                }
                let load = format!("--burst {burst} --count 6400 --rate 64k --timeout 2s");
                let ended = link.client.run(|| super::load(target, &load));
                let summary = ended.summary();
                received += count(&summary["received"]);
                let [lost, refused] = ["lost", "refused"].map(|key| count(&summary[key]));
                assert!(lost + refused > 1000, "{summary}");
                assert!(count(&summary["queue_drops"]) > 0, "{summary}");
                assert_eq!(summary["queue"]["device"], "eth0");
                let kind = if is_below { "htb" } else { "tbf" };
                assert_eq!(summary["queue"]["kind"], kind);
                let missing = &summary["missing"];
                let [least, most] = ["least", "most"].map(|key| count(&missing["queue"][key]));
                assert!(
                    least <= lost && lost <= most,
                    "all of it is the queue's: {summary}"
                );
                // But for a few packets of others, such as questions for neighbours.
                assert!(lost - least <= 20, "{summary}");
                let note = summary["notes"].to_string();
                assert!(
                    lost == 0 || note.contains(&format!("device eth0 ({kind}) dropped")),
                    "{note}"
                );
                let has_trains = burst > 1;
                assert_eq!(
                    note.contains("cuts trains"),
                    lost > 0 && has_trains && !is_below,
                    "{note}"
                );
                tc(test_name, &link.client, "qdisc delete dev eth0 root");
            }
        }
        assert_eq!(count(&reflector.stop()["received"]), received);
    });
}

#[test]
fn what_is_lost_at_our_own_sockets_is_told_in_datagrams() {
    let test_name = "missing::what_is_lost_at_our_own_sockets_is_told_in_datagrams";
    in_namespaces(test_name, || {
        let link = Link::new();
        let args = ["--listen", "10.9.0.1:5151", "--listen", "[fd09::1]:5151"];
        let args = [&args[..], &["--interval", "50ms"]].concat();
        let reflector = Reflector::start(&link.server, Engine::Mmsg, &args);
        for target in TARGETS {
            // Finds the neighbour, and leaves nothing else to come.
            link.client.run(|| super::load(target, "--count 1"));
            queue::stop(&reflector);
            let options = "--count 9600 --burst 32 --size 1000 --rate max --flows 1 --timeout 3s";
            let Some(mut running) = link.client.run(|| without_net_admin(target, options)) else {
                return skip(test_name, "clients", "no setpriv");
            };
            let mut sent: u64 = running
                .lines
                .iter()
                .filter_map(|it| it["sent"].as_u64())
                .sum();
            if sent < 9600 {
                running.wait_for_report(|it| {
                    sent += count(&it["sent"]);
                    sent == 9600
                });
            }
            queue::stop_child(Pid::from_child(&running.child));
            reflector.signal(Signal::CONT);
            let mut replied = 0;
            reflector.wait_for_report("all is answered", |it| {
                replied += count(&it["replied"]);
                replied >= 9600
            });
            running.signal(Signal::CONT);
            // What it has not got then is lost.
            let ended = running.end();
            let summary = ended.summary();
            let lost = count(&summary["lost"]);
            let trains = count(&summary["trains_dropped"]);
            assert!(trains > 0 && lost >= 32 * trains, "{summary}");
            let at_sockets = &summary["missing"]["own_sockets"];
            let bounds = ["least", "most"].map(|key| count(&at_sockets[key]));
            assert_eq!(count(&summary["kernel_drops"]), lost, "{summary}");
            // But for a few packets of others, such as those of multicast groups.
            let [least, most] = bounds;
            assert!(lost - least <= 3 * 128 && most == lost, "{summary}");
            let is_exact = least == lost && summary["missing"]["elsewhere"]["most"] == 0;
            assert!(is_exact || target != TARGETS[0], "{summary}");
            let said = format!("{lost} of {lost} lost datagrams were lost at this generator's own");
            let is_said = summary["notes"].to_string().contains(&said);
            assert!(is_said || !is_exact, "{summary}");
        }
        reflector.stop();
    });
}

/// Starts `reflector load` without the right to larger buffers than others; `None` without the
/// program setpriv.
fn without_net_admin(target: &str, options: &str) -> Option<Running> {
    let load = command(&["load", target, "--json", "--interval", "20ms"]);
    let mut command = Command::new("setpriv");
    let child = command
        .args(["--bounding-set", "-net_admin", "--inh-caps", "-net_admin"])
        .arg(load.get_program())
        .args(load.get_args())
        .args(options.split_whitespace())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn();
    Some(Running::attach(child.ok()?))
}
