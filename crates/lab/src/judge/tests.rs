//! Packets in, roles and verdicts out.

use std::time::Duration;

use super::*;
use crate::fixtures::{ASKED, CLIENT, addr, hairpin, hairpin_trial, udp};

#[test]
fn the_source_of_the_answer_decides() {
    let trial = hairpin_trial(true);
    assert_eq!(trial.verdict, Verdict::Right);
    let trial = hairpin_trial(false);
    assert_eq!(trial.verdict, Verdict::WrongSource);
    assert!(trial.reason.contains("172.17.0.1:9007 (docker0's address)"));
}

#[test]
fn strangers_are_left_out_and_the_rest_has_roles() {
    let roles: Vec<Role> = hairpin(false)
        .packets
        .iter()
        .map(|seen| seen.role)
        .collect();
    assert_eq!(roles, [Role::Question, Role::WrongSource, Role::Refusal]);
    let last = &hairpin(false).packets[2];
    assert_eq!(last.since_first, Duration::from_micros(1071));
}

#[test]
fn an_answer_to_the_masqueraded_asker_is_one() {
    let packets = vec![
        ("docker0", udp(0, CLIENT, "172.16.13.3:9007")),
        ("eth0", udp(9, "172.16.13.13:40000", "172.16.13.3:9007")),
        ("eth0", udp(20, "172.16.13.2:9007", "172.16.13.13:40000")),
    ];
    let seen = conversation(addr("172.16.13.3:9007"), packets);
    assert_eq!(seen[2].role, Role::WrongSource);
}

#[test]
fn a_wrong_port_is_a_wrong_source() {
    let mut record = hairpin(true);
    record.packets[1].packet.source.set_port(9008);
    record.packets[1].role = Role::WrongSource;
    let (verdict, reason) = judge(Case::Hairpin, addr(ASKED), &record);
    assert_eq!(verdict, Verdict::WrongSource);
    assert!(reason.contains("(another port)"), "{reason}");
}

#[test]
fn silence_loss_and_refusal_are_unanswered() {
    let mut record = hairpin(true);
    record.client = Heard::Nothing(Duration::from_secs(1));
    let (verdict, reason) = judge(Case::Hairpin, addr(ASKED), &record);
    assert_eq!(verdict, Verdict::Unanswered);
    assert!(reason.contains("did not reach"), "{reason}");
    record.packets.truncate(1);
    let (verdict, reason) = judge(Case::Hairpin, addr(ASKED), &record);
    assert_eq!(verdict, Verdict::Unanswered);
    assert!(reason.contains("within 1s"), "{reason}");
    record.client = Heard::Refusal;
    let (verdict, reason) = judge(Case::Hairpin, addr(ASKED), &record);
    assert_eq!(verdict, Verdict::Unanswered);
    assert!(reason.contains("Nobody listens"), "{reason}");
}
