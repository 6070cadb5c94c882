//! The verdict on a server, from what was seen of it.

use std::net::{IpAddr, SocketAddr};

use crate::case::{Case, Place};
use crate::server::running::Server;
use crate::trial::{Heard, Record, Role, Seen, Verdict};
use reflector_netlab::packet::{Kind, Packet};
use reflector_netlab::topology::DockerHost;

/// The packets that belong to the question at `asked`, each with its role.
pub(crate) fn conversation(asked: SocketAddr, packets: Vec<(&'static str, Packet)>) -> Vec<Seen> {
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
pub(crate) fn verdict(
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
pub(crate) fn judge(case: Case, asked: SocketAddr, record: &Record) -> (Verdict, String) {
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
mod tests;
