//! Where some flows fare otherwise than others, and what this host itself does to them.

use super::*;

fn entry(port: u16, reply_source: &str) -> ConntrackEntry {
    let source = SocketAddr::new([172, 17, 0, 3].into(), port);
    ConntrackEntry {
        protocol: "udp".to_owned(),
        original: Tuple {
            source,
            destination: addr("172.16.13.13:53"),
        },
        reply: Tuple {
            source: addr(reply_source),
            destination: source,
        },
        is_replied: false,
    }
}

#[test]
fn a_dead_flow_beside_a_living_one_is_stale() {
    let mut facts = container(Outcome::Silent, answered("172.16.13.13:53"));
    facts.attempts[0].number = 0;
    assert_eq!(kinds(&diagnose(&facts)), ["flow"]);
    assert_eq!(
        commands(&diagnose(&facts)),
        ["conntrack -D -p udp --orig-src 172.17.0.3 --sport 40001 \
          --orig-dst 172.16.13.13 --dport 53"]
    );
    facts.tracked = Some(vec![
        entry(40_001, "172.16.13.13:53"),
        entry(40_002, "172.16.13.14:53"),
    ]);
    let diagnosis = diagnose(&facts);
    assert_eq!(diagnosis.verdict, Verdict::FlowSilent);
    assert_eq!(diagnosis.verdict.exit(), Exit::Unanswered);
    assert!(diagnosis.headline.contains("port 40001"));
    assert_eq!(kinds(&diagnosis), ["flow", "conntrack"]);
    assert!(texts(&diagnosis).contains("on the way"));
    facts.route.as_mut().unwrap().is_local = true;
    assert!(!texts(&diagnose(&facts)).contains("on the way"));
}

#[test]
fn fresh_ports_are_not_stale_but_lose() {
    let mut facts = container(Outcome::Silent, answered("172.16.13.13:53"));
    let diagnosis = diagnose(&facts);
    assert_eq!(diagnosis.verdict, Verdict::Partly);
    assert_eq!(diagnosis.verdict.exit(), Exit::Done);
    assert_eq!(kinds(&diagnosis), ["loss"]);
    assert!(!commands(&diagnosis).iter().any(|it| it.contains("-D")));
    // A chosen port that is answered at times loses as well.
    for number in [0, 0, 1] {
        facts.attempts[0].number = number;
        facts.attempts.push(facts.attempts[0].clone());
    }
    facts.attempts[1].number = 0;
    assert_eq!(kinds(&diagnose(&facts)), ["loss"]);
    // What this host knows of the ways is more than a guess.
    facts.tracked = Some(vec![
        entry(40_001, "172.16.13.13:53"),
        entry(40_002, "172.16.13.14:53"),
    ]);
    assert_eq!(kinds(&diagnose(&facts)), ["backend"]);
}

#[test]
fn a_wrong_source_on_the_chosen_flow_alone_is_stale() {
    let right = || answered("172.16.13.13:53");
    let mut facts = container(right(), right());
    let mut chosen = facts.attempts[1].clone();
    chosen.number = 0;
    chosen.outcome = answered("172.17.0.1:53");
    facts.attempts.push(chosen);
    let diagnosis = diagnose(&facts);
    assert_eq!(diagnosis.verdict, Verdict::WrongSource);
    assert_eq!(kinds(&diagnosis), ["stale_flow", "gateway"]);
    assert_eq!(
        commands(&diagnosis),
        ["conntrack -D -p udp --orig-src 172.17.0.3 --sport 40002 \
          --orig-dst 172.16.13.13 --dport 53"]
    );
    assert!(diagnosis.remedies[1].text.contains("udp_timeout_stream"));
    // One more fresh flow that is wrong, and nothing is stale.
    facts.attempts[0].outcome = answered("172.17.0.1:53");
    let diagnosis = diagnose(&facts);
    assert_eq!(kinds(&diagnosis), ["gateway", "possible_causes", "mixed"]);
}

#[test]
fn a_known_flow_that_is_answered_alone_is_no_loss() {
    let mut facts = container(answered("172.16.13.13:53"), Outcome::Silent);
    facts.attempts[0].number = 0;
    let diagnosis = diagnose(&facts);
    assert_eq!(kinds(&diagnosis), ["new_flows"]);
    assert!(texts(&diagnosis).contains("on the server's host or a host on the way"));
    // Where fresh ones are answered as well, and the chosen one is not always, it is loss.
    facts.attempts[1].outcome = answered("172.16.13.13:53");
    for number in [0, 1] {
        facts.attempts.push(facts.attempts[0].clone());
        let added = facts.attempts.last_mut().unwrap();
        (added.number, added.outcome) = (number, Outcome::Silent);
    }
    let diagnosis = diagnose(&facts);
    assert_eq!(kinds(&diagnosis), ["loss"]);
    assert!(texts(&diagnosis).contains("of fresh ports, of which no entry can be stale, some"));
}

#[test]
fn a_full_table_is_told_from_a_rule_by_what_was_counted() {
    let unsent = || Outcome::Unsent(libc::EPERM);
    let mut facts = container(unsent(), unsent());
    let diagnosis = diagnose(&facts);
    assert_eq!(diagnosis.verdict, Verdict::Unsent);
    assert_eq!(diagnosis.verdict.exit(), Exit::Failed);
    assert_eq!(kinds(&diagnosis), ["not_permitted"]);
    assert!(texts(&diagnosis).contains("tracks nothing"));
    facts.occupancy = Some(Occupancy {
        count: 999,
        max: 1000,
    });
    assert_eq!(kinds(&diagnose(&facts)), ["not_permitted"]);
    facts.counted.untrackable = 2;
    let diagnosis = diagnose(&facts);
    assert_eq!(kinds(&diagnosis), ["table_full"]);
    let commands = commands(&diagnosis);
    assert_eq!(commands[0], "sysctl -w net.netfilter.nf_conntrack_max=4000");
    assert!(commands[1].contains("udp sport 53 notrack") && commands[1].contains("dport 53"));
    // Some fit in, and the others are still explained.
    facts.attempts[0].outcome = answered("172.16.13.13:53");
    let diagnosis = diagnose(&facts);
    assert_eq!(diagnosis.verdict, Verdict::Partly);
    assert_eq!(kinds(&diagnosis), ["table_full"]);
}

#[test]
fn an_answer_to_anothers_question_is_the_servers_fault() {
    let to_another = Outcome::Answered {
        from: addr("172.16.13.13:53"),
        after: Duration::from_micros(80),
        answer: Answer::ToAnother(None),
    };
    let diagnosis = diagnose(&container(to_another, Outcome::Silent));
    assert_eq!(diagnosis.verdict, Verdict::MixedUp);
    assert_eq!(diagnosis.verdict.exit(), Exit::Unanswered);
    assert_eq!(kinds(&diagnosis), ["mixed_up"]);
    assert!(texts(&diagnosis).contains("answered another client's question to this one"));
}

#[test]
fn a_port_that_is_denied_is_named_before_anything_else() {
    let mut facts = container(answered("172.16.13.13:53"), answered("172.16.13.13:53"));
    let mut chosen = facts.attempts[1].clone();
    chosen.number = 0;
    chosen.local.set_port(11_211);
    chosen.outcome = Outcome::Silent;
    facts.attempts.push(chosen);
    let diagnosis = diagnose(&facts);
    assert_eq!(diagnosis.verdict, Verdict::FlowSilent);
    assert_eq!(kinds(&diagnosis), ["denied_port"]);
    assert!(diagnosis.remedies[0].command.is_none());
    let mut facts = container(Outcome::Silent, answered("172.16.13.13:53"));
    facts.attempts[0].local.set_port(1900);
    assert_eq!(kinds(&diagnose(&facts))[0], "denied_port");
}

#[test]
fn nat_of_this_host_is_told() {
    let mut facts = container(Outcome::Silent, Outcome::Silent);
    facts.tracked = Some(vec![entry(40_001, "10.0.0.9:53")]);
    let diagnosis = diagnose(&facts);
    assert_eq!(kinds(&diagnosis), ["nat", "nothing_seen"]);
    assert!(texts(&diagnosis).contains("10.0.0.9:53 (DNAT)"));
}
