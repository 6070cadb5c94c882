//! The verdict on a server, from what was seen of it.

use std::net::{IpAddr, SocketAddr};

use crate::case::{Case, Place};
use crate::server::Server;
use crate::trial::{Heard, Record, Role, Seen, Verdict};
use reflector_netlab::capture::{Kind, Packet};
use reflector_netlab::topology::DockerHost;

/// The packets that belong to the question at `asked`, each with its role.
pub fn conversation(asked: SocketAddr, packets: Vec<(&'static str, Packet)>) -> Vec<Seen> {
    // More than one behind NAT.
    let who_asked: Vec<SocketAddr> = packets
        .iter()
        .filter(|(_, packet)| packet.destination == asked && is_udp(packet))
        .map(|(_, packet)| packet.source)
        .collect();
    let role = |packet: &Packet| match packet.kind {
        Kind::Udp { .. } if packet.destination == asked => Some(Role::Question),
        Kind::Udp { .. } if !who_asked.contains(&packet.destination) => None,
        Kind::Udp { .. } if packet.source == asked => Some(Role::Answer),
        Kind::Udp { .. } => Some(Role::WrongSource),
        Kind::Unreachable {
            quoted_source,
            quoted_destination,
            ..
        } => {
            let is_ours = |end| end == asked || who_asked.contains(&end);
            (is_ours(quoted_source) || is_ours(quoted_destination)).then_some(Role::Refusal)
        }
        Kind::Fragment { .. } | Kind::Other { .. } => None,
    };
    let ours: Vec<_> = packets
        .into_iter()
        .filter_map(|(interface, packet)| Some((interface, role(&packet)?, packet)))
        .collect();
    let first = ours.first().map(|(_, _, packet)| packet.at);
    ours.into_iter()
        .map(|(interface, role, packet)| Seen {
            interface,
            since_first: packet.at.saturating_sub(first.unwrap_or_default()),
            packet,
            role,
        })
        .collect()
}

fn is_udp(packet: &Packet) -> bool {
    matches!(packet.kind, Kind::Udp { .. })
}

/// The verdict by what was seen and by what became of the server meanwhile, with its reason.
pub fn verdict(
    case: Case,
    asked: SocketAddr,
    record: &Record,
    server: &mut Server,
) -> (Verdict, String) {
    let (verdict, reason) = judge(case, asked, record);
    let has_ignored_address = case == Case::Specific
        && !server.bound().is_empty()
        && server.bound().iter().all(|socket| *socket != asked);
    match verdict {
        Verdict::Unanswered => {
            if record.client == Heard::Refusal
                && let Some(reason) = server.is_ipv6_only(asked)
            {
                return (Verdict::Skipped, reason);
            }
            let end = server.sudden_end().map(|end| format!(" {end}"));
            (verdict, reason + &end.unwrap_or_default())
        }
        Verdict::WrongSource if has_ignored_address => {
            let address = case.bind();
            (
                verdict,
                format!("{reason} It took no notice of {{addr}}, which is {address} here."),
            )
        }
        _ => (verdict, reason),
    }
}

/// The verdict by what was seen.
fn judge(case: Case, asked: SocketAddr, record: &Record) -> (Verdict, String) {
    let first = |role| record.packets.iter().find(|seen| seen.role == role);
    if let Some(seen) = first(Role::WrongSource) {
        let reason = format!(
            "Asked at {asked}, it answered from {}{}. {}",
            seen.packet.source,
            whose(seen.packet.source.ip(), asked.ip(), case.place()),
            case.consequence()
        );
        return (Verdict::WrongSource, reason);
    }
    match (&record.client, first(Role::Answer)) {
        (Heard::Answer { .. }, _) => (
            Verdict::Right,
            format!("Asked at {asked}, it answered from there."),
        ),
        (_, Some(_)) => (
            Verdict::Unanswered,
            format!("It answered from {asked}, but that did not reach the client."),
        ),
        (Heard::Refusal, None) => (
            Verdict::Unanswered,
            format!("Nobody listens at {asked}: the question came back as port unreachable."),
        ),
        (Heard::Nothing(timeout), None) => (
            Verdict::Unanswered,
            format!(
                "It did not answer within {}. If it is no echo, --payload-hex asks it something \
                 that it understands.",
                humantime::format_duration(*timeout)
            ),
        ),
    }
}

/// In parentheses, whose address a wrong source is.
fn whose(source: IpAddr, asked: IpAddr, place: Place) -> &'static str {
    let docker0 = [DockerHost::DOCKER0.into(), DockerHost::DOCKER0_V6.into()];
    if docker0.contains(&source) {
        " (docker0's address)"
    } else if source == asked {
        " (another port)"
    } else if place == Place::Outside && source == DockerHost::OUTSIDE {
        " (that machine's first address)"
    } else {
        ""
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::trial::Trial;
    use std::time::Duration;

    fn addr(text: &str) -> SocketAddr {
        text.parse().unwrap()
    }

    fn udp(at_us: u64, source: &str, destination: &str) -> Packet {
        Packet {
            at: Duration::from_micros(1_000_000 + at_us),
            is_outgoing: false,
            source: addr(source),
            destination: addr(destination),
            kind: Kind::Udp {
                payload_len: 4,
                payload: b"ping".to_vec(),
            },
        }
    }

    fn unreachable(at_us: u64, (from, to): (&str, &str), quoted: (&str, &str)) -> Packet {
        Packet {
            kind: Kind::Unreachable {
                code: 3,
                quoted_source: addr(quoted.0),
                quoted_destination: addr(quoted.1),
            },
            ..udp(at_us, from, to)
        }
    }

    const ASKED: &str = "172.16.13.13:9007";
    const CLIENT: &str = "172.17.0.3:40000";

    /// A record of the hairpin: a right one, or the naive server's.
    pub fn hairpin(is_right: bool) -> Record {
        let source = if is_right { ASKED } else { "172.17.0.1:9007" };
        let mut packets = vec![
            ("docker0", udp(0, CLIENT, ASKED)),
            ("docker0", udp(52, source, CLIENT)),
            ("docker0", udp(60, "172.17.0.9:53", "172.17.0.1:53")),
        ];
        if !is_right {
            let ends = ("172.17.0.3:0", "172.17.0.1:0");
            packets.push(("docker0", unreachable(1071, ends, (source, CLIENT))));
        }
        Record {
            packets: conversation(addr(ASKED), packets),
            conntrack: Ok(Vec::new()),
            client: if is_right {
                Heard::Answer {
                    payload_len: 4,
                    rtt: Duration::from_micros(123),
                }
            } else {
                Heard::Nothing(Duration::from_secs(1))
            },
        }
    }

    /// A trial with that record.
    pub fn hairpin_trial(is_right: bool) -> Trial {
        let record = hairpin(is_right);
        let (verdict, reason) = judge(Case::Hairpin, addr(ASKED), &record);
        Trial {
            listen: addr("0.0.0.0:9007"),
            bound: Vec::new(),
            engine: is_right.then(|| "uring".to_owned()),
            record: Some(record),
            verdict,
            reason,
        }
    }

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
}
