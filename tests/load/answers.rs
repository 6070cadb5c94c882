//! What comes back, or does not, is told by its kind.

use std::net::{SocketAddr, UdpSocket};
use std::process::{Command, Stdio};
use std::thread;
use std::time::Duration;

use reflector_netlab::naive::{NaiveServer, Wildcard};
use reflector_netlab::topology::{DockerHost, Namespace, NftError, in_namespaces, nft, skip};

use super::{count, load};
use reflector_testkit::targets::{Fault, Target};
use reflector_testkit::{Engine, Reflector, on_both_engines, wait_until};

/// Three source ports, of which a reflector refuses the one in the middle.
#[test]
fn ports_that_servers_refuse_are_not_sent_from_while_there_are_others() {
    let test_name = "answers::ports_that_servers_refuse_are_not_sent_from_while_there_are_others";
    in_namespaces(test_name, || {
        let namespace = Namespace::new().unwrap();
        let args = ["--listen", "127.0.0.1:5151"];
        let reflector = Reflector::start(&namespace, Engine::Mmsg, &args);
        let range = "ipv4/ip_local_port_range";
        // In some containers settings are read-only.
        if namespace.set_sysctl(range, "11210 11212").is_err() {
            return;
        }
        for (flows, silent) in [(2, 0), (3, 1)] {
            let options = format!("--count 30 --rate 1k --timeout 200ms --flows {flows}");
            let ended = namespace.run(|| load("127.0.0.1:5151", &options));
            let summary = ended.summary();
            assert_eq!(summary["silent_flows"]["total"], silent, "{summary}");
            assert_eq!(count(&summary["lost"]) > 0, silent > 0, "{summary}");
            let notes = summary["notes"].to_string();
            assert_eq!(notes.contains("(one is 11211)"), silent > 0, "{notes}");
        }
        reflector.stop_with_log();
    });
}

on_both_engines! {
    fn a_reflector_answers_everything(engine: Engine) {
        let namespace = Namespace::new().unwrap();
        let reflector = Reflector::start(&namespace, engine, &[
            "--listen", "127.0.0.1:5151", "--listen", "[::1]:5151", "--cores", "2",
        ]);
        let mut total = 0;
        for (target, options) in [
            ("127.0.0.1:5151", "--count 500 --rate 5k"),
            ("[::1]:5151", "--count 500 --rate 5k --poisson --size 64:7,512:4,1400:1"),
            ("127.0.0.1:5151", "--count 20000 --burst 64 --window 512 --flows 3"),
            ("[::1]:5151", "--count 5000 --burst 50 --rate 50k --cores 2 --size 1000"),
            ("127.0.0.1:5151", "--count 5000 --burst 64 --window 64 --gso off --flows 2"),
            ("127.0.0.1:5151", "--count 20 --rate 1k --size 65507 --flows 1"),
        ] {
            let ended = namespace.run(|| load(target, &format!("{options} --timeout 10s")));
            let summary = ended.summary();
            assert_eq!(ended.code, 0, "{summary}");
            assert_eq!(summary["lost"], 0, "{options}: {summary}");
            assert_eq!(count(&summary["silent_flows"]["total"]), 0, "{options}: {summary}");
            for none in ["duplicated", "corrupt", "foreign", "late"] {
                assert_eq!(summary[none], 0, "{options}: {summary}");
            }
            total += count(&summary["sent"]);
        }
        assert_eq!(total, 500 + 500 + 20_000 + 5000 + 5000 + 20);
        assert_eq!(count(&reflector.stop()["received"]), total);
    }
}

#[test]
fn a_naive_server_is_a_wrong_source_every_time() {
    in_namespaces(
        "answers::a_naive_server_is_a_wrong_source_every_time",
        || {
            let docker = DockerHost::new().unwrap();
            let naive = NaiveServer::start(&docker.host, Wildcard::Ipv4, 0).unwrap();
            let target = SocketAddr::from((DockerHost::HOST, naive.port()));
            let options = "--count 200 --rate 2k --timeout 5s";
            let ended = docker.container.run(|| load(target, options));
            let summary = ended.summary();
            assert_eq!(ended.code, 4);
            assert_eq!(
                (count(&summary["received"]), count(&summary["lost"])),
                (0, 200)
            );
            let wrong = &summary["wrong_source"];
            let seen = SocketAddr::from((DockerHost::DOCKER0, naive.port()));
            assert_eq!(wrong["total"], 200);
            assert_eq!(wrong["expected"], target.to_string());
            assert_eq!(wrong["seen"][seen.to_string()], 200);
            assert!(
                summary["notes"][0].as_str().unwrap().contains("pktinfo"),
                "{summary}"
            );
        },
    );
}

#[test]
fn socat_is_an_echo_service_as_well() {
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    let target = socket.local_addr().unwrap();
    drop(socket);
    let listen = format!("UDP4-RECVFROM:{},bind=127.0.0.1,fork", target.port());
    let socat = Command::new("socat")
        .args([&*listen, "PIPE"])
        .stderr(Stdio::null())
        .spawn();
    let Ok(mut socat) = socat else {
        skip(
            "answers::socat_is_an_echo_service_as_well",
            "clients",
            "no socat",
        );
        return;
    };
    // It is listening once it answers.
    wait_until("socat answers", || {
        load(target, "--count 1 --timeout 200ms").code == 0
    });
    let ended = load(target, "--count 50 --rate 100 --flows 2 --timeout 10s");
    socat.kill().unwrap();
    socat.wait().unwrap();
    assert_eq!((ended.code, count(&ended.summary()["received"])), (0, 50));
}

#[test]
fn faults_are_counted_by_their_kind() {
    // All at once: those that lose something wait, most of the time, for what will not come.
    thread::scope(|scope| {
        for (fault, key, expected, lost) in [
            (Fault::None, "received", 1000, 0),
            (Fault::DropTenth, "lost", 100, 100),
            (Fault::Duplicate, "duplicated", 1000, 0),
            (Fault::Swap, "reordered", 500, 0),
            (Fault::CorruptTenth, "corrupt", 100, 100),
            (Fault::CutTenth, "corrupt", 100, 100),
        ] {
            scope.spawn(move || {
                let target = Target::start(fault);
                let options = "--count 1000 --rate 5k --flows 1 --timeout 4s";
                let ended = load(target.addr, options);
                let summary = ended.summary();
                let counted = count(&summary[key]);
                // The last duplicate may come after the last answer that was waited for.
                let is_last_late = fault == Fault::Duplicate && counted == expected - 1;
                assert!(is_last_late || counted == expected, "{fault:?}: {summary}");
                let end = (ended.code, count(&summary["lost"]));
                assert_eq!(end, (0, lost), "{fault:?}: {summary}");
            });
        }
    });
}

#[test]
fn what_is_late_is_lost_and_told_as_late() {
    let target = Target::start(Fault::DelayTenth(Duration::from_millis(750)));
    let ended = load(target.addr, "--count 1500 --rate 1k --timeout 500ms");
    let summary = ended.summary();
    let (late, lost) = (count(&summary["late"]), count(&summary["lost"]));
    // Those of the last quarter of a second are not waited for.
    assert!((1..=lost).contains(&late) && lost >= 150, "{summary}");
    assert!(
        summary["rtt_us"]["p99"].as_f64().unwrap() >= 5e5,
        "{summary}"
    );
}

#[test]
fn another_port_is_a_wrong_source_and_other_bytes_are_foreign() {
    let target = Target::start(Fault::OtherPort);
    let ended = load(target.addr, "--count 100 --rate 1k --timeout 5s");
    let seen = &ended.summary()["wrong_source"]["seen"];
    assert_eq!(
        (ended.code, &seen[target.other_addr.to_string()]),
        (4, &100.into())
    );

    let target = Target::start(Fault::Foreign);
    let ended = load(target.addr, "--count 100 --rate 1k --timeout 200ms");
    let summary = ended.summary();
    assert_eq!(ended.code, 3);
    assert!(
        count(&summary["foreign"]) > 0 && count(&summary["received"]) == 0,
        "{summary}"
    );
    assert!(
        summary["notes"][0]
            .as_str()
            .unwrap()
            .contains("not an echo service"),
        "{summary}"
    );
}

#[test]
fn a_silent_target_never_answered_and_its_flows_are_listed() {
    let target = Target::start(Fault::Silence);
    let ended = load(
        target.addr,
        "--count 100 --rate 1k --flows 5 --timeout 100ms",
    );
    let summary = ended.summary();
    assert_eq!((ended.code, count(&summary["lost"])), (3, 100));
    let silent = &summary["silent_flows"];
    assert_eq!((count(&silent["total"]), count(&silent["of"])), (5, 5));
    assert_eq!(silent["ports"].as_array().unwrap().len(), 5);
    assert!(
        summary["rtt_us"]["min"].as_f64().unwrap() >= 0.999e5,
        "lost is at least the timeout"
    );
}

#[test]
fn icmp_is_counted_by_what_it_says() {
    for host in ["127.0.0.1", "::1"] {
        let Ok(closed) = UdpSocket::bind((host, 0)) else {
            continue;
        };
        let addr = closed.local_addr().unwrap();
        drop(closed);
        let ended = load(addr, "--count 20 --rate 1k --timeout 100ms");
        let summary = ended.summary();
        assert_eq!((ended.code, count(&summary["sent"])), (3, 20), "{summary}");
        assert!(count(&summary["icmp"]["port_unreachable"]) > 0, "{summary}");
        assert!(
            summary["notes"][0]
                .as_str()
                .unwrap()
                .contains("nobody listens"),
            "{summary}"
        );
    }
}

#[test]
fn a_closed_loop_is_not_stalled_by_loss() {
    let target = Target::start(Fault::DropTenth);
    // A window that is never given back would let 8 out, and no more.
    let ended = load(
        target.addr,
        "--count 300 --window 4 --flows 2 --timeout 100ms",
    );
    let summary = ended.summary();
    assert_eq!(count(&summary["sent"]), 300);
    assert!(count(&summary["lost"]) >= 30, "{summary}");
}

#[test]
fn one_flow_of_several_that_is_never_answered_is_told_by_its_port() {
    let target = Target::start(Fault::FirstPeer);
    let ended = load(target.addr, "--count 100 --rate 1k --flows 4 --timeout 1s");
    let summary = ended.summary();
    let silent = &summary["silent_flows"];
    assert_eq!(
        (ended.code, count(&silent["total"]), count(&silent["of"])),
        (0, 1, 4),
        "{summary}"
    );
    let port = silent["ports"][0].to_string();
    let note = summary["notes"][0].as_str().unwrap();
    assert!(
        note.contains("conntrack -D") && note.contains(&port),
        "{note}"
    );
}

#[test]
fn what_this_host_refuses_to_send_is_no_loss_of_the_target() {
    let test_name = "answers::what_this_host_refuses_to_send_is_no_loss_of_the_target";
    in_namespaces(test_name, || {
        let namespace = Namespace::new().unwrap();
        namespace.set_up("lo").unwrap();
        let drops = "table ip f { chain out { type filter hook output priority 0; \
                     udp dport 5151 drop; }; }";
        match nft(&namespace, drops) {
            Err(NftError::Missing) => return skip(test_name, "nft", "no nft"),
            rules => rules.unwrap(),
        }
        let ended = namespace.run(|| load("127.0.0.1:5151", "--count 20 --rate 1k"));
        let summary = ended.summary();
        assert_eq!((ended.code, count(&summary["sent"])), (1, 0), "{summary}");
        assert_eq!(summary["send_errors"]["EPERM"], 20, "{summary}");
        let note = summary["notes"][0].as_str().unwrap();
        assert!(note.contains("firewall"), "{note}");
    });
}

#[test]
fn a_name_is_asked_like_an_address() {
    let target = Target::start(Fault::None);
    let name = format!("localhost:{}", target.addr.port());
    let ended = load(name, "--count 20 --rate 1k --timeout 5s --bind 127.0.0.1");
    let summary = ended.summary();
    assert_eq!(
        (ended.code, count(&summary["received"])),
        (0, 20),
        "{summary}"
    );
    assert_eq!(summary["address"], target.addr.to_string());
}
