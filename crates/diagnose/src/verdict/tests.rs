//! Facts in, verdict and explanation out.

mod flows;

use std::time::Duration;

use super::*;
use crate::attempt::{Refusal, SocketKind};
use crate::facts::Other;
use crate::host::{Address, Counters, Occupancy, Route};
use crate::question::{Answer, Question};
use reflector_measure::exit::Exit;
use reflector_netlab::conntrack::{ConntrackEntry, Tuple};

fn addr(text: &str) -> SocketAddr {
    text.parse().unwrap()
}

fn answered(from: &str) -> Outcome {
    Outcome::Answered {
        from: addr(from),
        after: Duration::from_micros(80),
        answer: Answer::Expected,
    }
}

fn refused(by: &str, icmp_code: u8) -> Outcome {
    Outcome::Refused(Refusal {
        by: Some(by.parse().unwrap()),
        is_v6: false,
        icmp_type: 3,
        icmp_code,
    })
}

fn route(gateway: Option<&str>) -> Route {
    Route {
        interface: "eth0".to_owned(),
        interface_index: 2,
        gateway: gateway.map(|ip| ip.parse().unwrap()),
        source: None,
        is_local: false,
    }
}

/// A container that asked 172.16.13.13:53 once by each socket, with these outcomes.
fn container(connected: Outcome, unconnected: Outcome) -> Facts {
    let attempt = |socket, port, outcome| Attempt {
        number: 1,
        socket,
        local: SocketAddr::new([172, 17, 0, 3].into(), port),
        outcome,
    };
    Facts {
        target: "172.16.13.13:53".to_owned(),
        asked: addr("172.16.13.13:53"),
        others: Vec::new(),
        question: Question::Echo,
        timeout: Duration::from_secs(1),
        denied_ports: &[1900, 11_211],
        attempts: vec![
            attempt(SocketKind::Connected, 40_001, connected),
            attempt(SocketKind::Unconnected, 40_002, unconnected),
        ],
        route: Some(route(Some("172.17.0.1"))),
        interface_kind: "veth".to_owned(),
        addresses: vec![Address {
            net: "172.17.0.3/16".parse().unwrap(),
            interface: "eth0".to_owned(),
        }],
        routes_to_seen: vec![(addr("172.17.0.1:53").ip(), route(None))],
        unresolved: None,
        rp_filter: Some(0),
        counted: Counters::default(),
        occupancy: None,
        tracked: None,
        seen_on_interface: None,
    }
}

fn texts(diagnosis: &Diagnosis) -> String {
    let texts = diagnosis.findings.iter().map(|it| it.text.as_str());
    texts.collect::<Vec<_>>().join("\n")
}

fn kinds(diagnosis: &Diagnosis) -> Vec<&'static str> {
    diagnosis.findings.iter().map(|it| it.kind).collect()
}

fn commands(diagnosis: &Diagnosis) -> Vec<&str> {
    let commands = diagnosis.remedies.iter();
    commands.filter_map(|it| it.command.as_deref()).collect()
}

#[test]
fn the_right_address_needs_no_explanation() {
    let right = || answered("172.16.13.13:53");
    let diagnosis = diagnose(&container(right(), right()));
    assert_eq!(diagnosis.verdict, Verdict::Answered);
    assert_eq!(diagnosis.verdict.exit(), Exit::Done);
    assert!(diagnosis.findings.is_empty() && diagnosis.remedies.is_empty());
}

#[test]
fn moby_15127_is_recognised_silent_or_refused() {
    for connected in [Outcome::Silent, refused("172.17.0.1", 3)] {
        let mut facts = container(connected, answered("172.17.0.1:53"));
        facts.counted.no_ports = 1;
        let diagnosis = diagnose(&facts);
        assert_eq!(diagnosis.verdict, Verdict::WrongSource);
        assert_eq!(diagnosis.verdict.exit(), Exit::WrongSource);
        assert_eq!(diagnosis.seen, [(addr("172.17.0.1:53"), 1)].into());
        assert!(diagnosis.headline.contains("172.16.13.13:53"));
        assert!(
            diagnosis
                .headline
                .contains("172.17.0.1:53 answered instead")
        );
        assert_eq!(
            kinds(&diagnosis),
            ["gateway", "possible_causes", "connected_socket"]
        );
        let texts = texts(&diagnosis);
        for part in ["docker0", "moby#15127", "docker-proxy", "masquerade"] {
            assert!(texts.contains(part), "{texts}");
        }
        assert!(
            diagnosis.remedies[1]
                .text
                .contains("bind the address itself, 172.16.13.13:53")
        );
        let commands = commands(&diagnosis);
        assert_eq!(
            commands[..3],
            [
                "ss -lunp 'sport = 53'",
                "reflector --listen 0.0.0.0:53",
                "conntrack -L -p udp --orig-port-src 53"
            ]
        );
        assert!(commands[3].contains("udp dport 53 notrack") && commands[3].contains("sport 53"));
        assert_eq!(
            commands[4],
            "conntrack -D -p udp --orig-dst 172.16.13.13 --dport 53"
        );
    }
}

#[test]
fn every_place_of_the_wrong_source_has_its_explanation() {
    let explain = |asked: &str, seen: &str, to_asked: Route, to_seen: Route| {
        let mut facts = container(Outcome::Silent, answered(seen));
        facts.asked = addr(asked);
        facts.route = Some(to_asked);
        facts.interface_kind = String::new();
        facts.routes_to_seen = vec![(addr(seen).ip(), to_seen)];
        diagnose(&facts).findings[0].clone()
    };
    let (near, far) = (|| route(None), || route(Some("10.0.0.1")));
    let cases = [
        (
            explain("10.0.0.2:7", "10.0.0.2:8", near(), near()),
            "other_port",
            "TFTP",
        ),
        (
            explain("10.0.0.2:7", "172.17.0.3:7", near(), near()),
            "own_address",
            "own address",
        ),
        (
            explain("10.9.0.2:7", "10.0.0.1:7", far(), near()),
            "gateway",
            "gateway on eth0",
        ),
        (
            explain("10.0.0.2:7", "10.0.0.3:7", near(), near()),
            "same_network",
            "one host",
        ),
        (
            explain("10.9.0.2:7", "10.0.0.3:7", far(), near()),
            "neighbour",
            "hairpin",
        ),
        (
            explain("192.0.2.1:7", "10.9.0.3:7", far(), far()),
            "nat",
            "is private",
        ),
        (
            explain("10.9.0.2:7", "10.9.0.3:7", far(), far()),
            "other_address",
            "most likely",
        ),
    ];
    for (finding, kind, said) in cases {
        assert_eq!(finding.kind, kind);
        assert!(finding.text.contains(said), "{}", finding.text);
        assert!(kind == "gateway" || !finding.text.contains("docker0"));
    }
}

#[test]
fn several_servers_behind_one_address_are_told() {
    let facts = container(answered("172.16.13.13:53"), answered("172.17.0.1:53"));
    let diagnosis = diagnose(&facts);
    assert_eq!(diagnosis.verdict, Verdict::WrongSource);
    assert_eq!(kinds(&diagnosis), ["gateway", "possible_causes", "mixed"]);
}

#[test]
fn a_refusal_says_who_and_what_it_means() {
    let both = |by: &str, code| container(refused(by, code), refused(by, code));
    let diagnosis = diagnose(&both("172.16.13.13", 3));
    assert_eq!(diagnosis.verdict, Verdict::Refused);
    assert_eq!(diagnosis.verdict.exit(), Exit::Unanswered);
    assert!(diagnosis.headline.contains("172.16.13.13 refuses"));
    assert!(texts(&diagnosis).contains("Nobody listens on UDP port 53"));
    let elsewhere = texts(&diagnose(&both("172.17.0.1", 3)));
    assert!(
        elsewhere.contains("an answer that came to nobody"),
        "{elsewhere}"
    );
    let firewall = texts(&diagnose(&both("172.17.0.1", 13)));
    assert!(
        firewall.contains("administratively prohibited"),
        "{firewall}"
    );
    assert!(
        diagnose(&both("172.17.0.1", 99)).findings[0]
            .text
            .contains("code 99")
    );
}

#[test]
fn silence_is_explained_by_what_this_host_noticed() {
    let silent = || container(Outcome::Silent, Outcome::Silent);
    let diagnosis = diagnose(&silent());
    assert_eq!(diagnosis.verdict, Verdict::Silent);
    assert_eq!(diagnosis.verdict.exit(), Exit::Unanswered);
    assert_eq!(kinds(&diagnosis), ["nothing_seen"]);
    assert!(texts(&diagnosis).contains("This is a container"));
    let absent = Facts {
        unresolved: Some([172, 17, 0, 1].into()),
        ..silent()
    };
    assert_eq!(kinds(&diagnose(&absent)), ["neighbour"]);
    let filtered = Facts {
        counted: Counters {
            reverse_path_filter: 2,
            ..Counters::default()
        },
        ..silent()
    };
    let diagnosis = diagnose(&filtered);
    assert_eq!(kinds(&diagnosis), ["rp_filter", "nothing_seen"]);
    assert_eq!(
        commands(&diagnosis)[0],
        "sysctl -w net.ipv4.conf.eth0.rp_filter=2"
    );
}

#[test]
fn what_only_the_interface_saw_counts() {
    let seen_on_interface = |from: &str| Facts {
        seen_on_interface: Some(vec![addr(from)]),
        ..container(Outcome::Silent, Outcome::Silent)
    };
    let diagnosis = diagnose(&seen_on_interface("172.17.0.1:53"));
    assert_eq!(diagnosis.verdict, Verdict::WrongSource);
    assert_eq!(
        kinds(&diagnosis),
        ["gateway", "possible_causes", "dropped_here"]
    );
    let diagnosis = diagnose(&seen_on_interface("172.16.13.13:53"));
    assert_eq!(diagnosis.verdict, Verdict::Silent);
    assert_eq!(kinds(&diagnosis), ["dropped_here"]);
    assert_eq!(commands(&diagnosis), ["nft list ruleset"]);
}

#[test]
fn another_address_of_the_name_that_answers_is_named() {
    let mut facts = container(refused("172.16.13.13", 3), Outcome::Silent);
    let other = |addr: &str, is_right| Other {
        addr: addr.parse().unwrap(),
        is_right,
    };
    facts.others = vec![
        other("172.16.13.14:53", Some(false)),
        other("[fd13::13]:53", Some(true)),
    ];
    let diagnosis = diagnose(&facts);
    assert_eq!(diagnosis.verdict, Verdict::Refused);
    assert_eq!(kinds(&diagnosis), ["refused", "other_address_answers"]);
    assert!(texts(&diagnosis).contains("`-6` asks over IPv6"));
    facts.others[1].is_right = None;
    assert_eq!(kinds(&diagnose(&facts)), ["refused"]);
}

#[test]
fn ipv6_has_its_own_commands() {
    let mut facts = container(Outcome::Silent, answered("[fd17::1]:53"));
    facts.asked = addr("[fd13::13]:53");
    let diagnosis = diagnose(&facts);
    let commands = commands(&diagnosis);
    assert_eq!(commands[1], "reflector --listen [::]:53");
    assert_eq!(
        commands[4],
        "conntrack -D -f ipv6 -p udp --orig-dst fd13::13 --dport 53"
    );
}
