//! The cases as JSON lines, one object each.
//!
//! Times carry their unit and count from the first packet of the conversation; addresses are
//! `ADDR:PORT`, with port 0 where there is none (ICMP).

use std::io::{self, Write};
use std::net::SocketAddr;
use std::time::Duration;

use serde::Serialize;

use crate::server::ServerUnderTest;
use crate::show::{Outcome, Show};
use crate::trial::{Heard, Record, Role, Seen, Trial};
use reflector_measure::json;
use reflector_netlab::observe::{ConntrackEntry, Tuple};

/// Writes one case as a line.
///
/// # Errors
/// EPIPE where nobody reads any more.
pub(crate) fn case(show: &Show, outcome: &Outcome, out: &mut impl Write) -> io::Result<()> {
    let line = CaseLine {
        case: outcome.case.name(),
        story: outcome.case.story(),
        asked: SocketAddr::new(outcome.case.asked(), show.question.port),
        client: outcome.case.client(),
        skipped: outcome.trials.as_ref().err().map(String::as_str),
        servers: match &outcome.trials {
            Err(_) => Vec::new(),
            Ok(trials) => show
                .servers
                .iter()
                .zip(trials)
                .map(|(under_test, trial)| server(under_test, trial))
                .collect(),
        },
    };
    json::write_line(out, "case", &line)
}

#[derive(Serialize)]
struct CaseLine<'a> {
    case: &'static str,
    story: &'static str,
    asked: SocketAddr,
    client: SocketAddr,
    /// Why there are no servers.
    skipped: Option<&'a str>,
    servers: Vec<ServerLine<'a>>,
}

#[derive(Serialize)]
struct ServerLine<'a> {
    server: &'static str,
    command: Option<String>,
    /// What it was told.
    listen: SocketAddr,
    /// What it did, if it is the user's.
    bound: &'a [SocketAddr],
    engine: Option<&'a str>,
    verdict: &'static str,
    reason: &'a str,
    /// Right or wrong.
    answered_from: Option<SocketAddr>,
    heard: Option<HeardLine>,
    packets: Vec<PacketLine>,
    /// `null` where it is not known; see `conntrack_unknown`.
    conntrack: Option<Vec<EntryLine>>,
    conntrack_unknown: Option<&'a str>,
}

#[derive(Serialize)]
struct HeardLine {
    what: &'static str,
    bytes: Option<usize>,
    rtt_us: Option<f64>,
}

#[derive(Serialize)]
struct PacketLine {
    interface: &'static str,
    at_us: f64,
    source: SocketAddr,
    destination: SocketAddr,
    what: String,
    role: &'static str,
}

#[derive(Serialize)]
struct EntryLine {
    original: TupleLine,
    reply: TupleLine,
    is_replied: bool,
}

#[derive(Serialize)]
struct TupleLine {
    source: SocketAddr,
    destination: SocketAddr,
}

fn server<'a>(under_test: &ServerUnderTest, trial: &'a Trial) -> ServerLine<'a> {
    let record = trial.record.as_ref();
    let table = record.map(|record| record.conntrack.as_ref());
    ServerLine {
        server: under_test.name(),
        command: match under_test {
            ServerUnderTest::Yours(command) => Some(command.to_string()),
            ServerUnderTest::Naive | ServerUnderTest::Reflector(_) => None,
        },
        listen: trial.listen,
        bound: &trial.bound,
        engine: trial.engine.as_deref(),
        verdict: trial.verdict.name(),
        reason: &trial.reason,
        answered_from: record.and_then(Record::answered_from),
        heard: record.map(|record| heard(&record.client)),
        packets: record.map_or_else(Vec::new, |r| r.packets.iter().map(packet).collect()),
        conntrack: table
            .and_then(Result::ok)
            .map(|entries| entries.iter().map(entry).collect()),
        conntrack_unknown: table.and_then(Result::err).map(String::as_str),
    }
}

fn heard(client: &Heard) -> HeardLine {
    let (what, bytes, rtt_us) = match client {
        Heard::Answer { payload_len, rtt } => ("answer", Some(*payload_len), Some(micros(*rtt))),
        Heard::Refusal => ("refusal", None, None),
        Heard::Nothing(_) => ("nothing", None, None),
    };
    HeardLine {
        what,
        bytes,
        rtt_us,
    }
}

fn packet(seen: &Seen) -> PacketLine {
    PacketLine {
        interface: seen.interface,
        at_us: micros(seen.since_first),
        source: seen.packet.source,
        destination: seen.packet.destination,
        what: seen.packet.what(),
        role: match seen.role {
            Role::Question => "question",
            Role::Answer => "answer",
            Role::WrongSource => "wrong_source",
            Role::Refusal => "refusal",
        },
    }
}

fn entry(entry: &ConntrackEntry) -> EntryLine {
    let tuple = |tuple: Tuple| TupleLine {
        source: tuple.source,
        destination: tuple.destination,
    };
    EntryLine {
        original: tuple(entry.original),
        reply: tuple(entry.reply),
        is_replied: entry.is_replied,
    }
}

/// To a tenth of a microsecond.
fn micros(time: Duration) -> f64 {
    (time.as_secs_f64() * 1e7).round() / 10.0
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::case::Case;
    use crate::fixtures::{hairpin_outcome, show};
    use serde_json::Value;

    fn line(outcome: &Outcome) -> String {
        let mut out = Vec::new();
        case(&show(ServerUnderTest::Naive), outcome, &mut out).unwrap();
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn a_case_is_one_object() {
        let line = line(&hairpin_outcome());
        assert_eq!(line.lines().count(), 1);
        let value: Value = serde_json::from_str(&line).unwrap();
        assert_eq!(
            (&value["schema"], &value["type"]),
            (&json::SCHEMA.into(), &"case".into())
        );
        let [naive, reflector] = [0, 1].map(|index| &value["servers"][index]);
        assert_eq!(naive["answered_from"], "172.17.0.1:9007");
        assert_eq!(naive["packets"][1]["role"], "wrong_source");
        assert_eq!(
            naive["packets"][2]["what"],
            "ICMP udp port 40000 unreachable"
        );
        assert_eq!(naive["heard"]["what"], "nothing");
        assert_eq!(reflector["verdict"], "right");
        assert_eq!(reflector["heard"]["rtt_us"], 123.0);
        assert_eq!(reflector["packets"][1]["at_us"], 52.0);
    }

    #[test]
    fn a_skipped_case_says_why() {
        let outcome = Outcome {
            case: Case::Nat,
            trials: Err("no nft".to_owned()),
        };
        let line = line(&outcome);
        let value: Value = serde_json::from_str(&line).unwrap();
        assert_eq!(value["skipped"], "no nft");
        assert_eq!(value["servers"], serde_json::json!([]));
    }
}
