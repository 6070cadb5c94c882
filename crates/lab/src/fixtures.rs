//! Trials as they go in the hairpin, for the tests of what judges and shows them.

use std::net::SocketAddr;
use std::time::Duration;

use crate::case::Case;
use crate::judge::{conversation, judge};
use crate::process_group::ProcessGroups;
use crate::server::ServerUnderTest;
use crate::show::{Outcome, Show};
use crate::trial::{Heard, Question, Record, Trial, Verdict};
use reflector_netlab::packet::{Kind, Packet};

pub(crate) fn addr(text: &str) -> SocketAddr {
    text.parse().unwrap()
}

pub(crate) fn udp(at_us: u64, source: &str, destination: &str) -> Packet {
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

/// The address asked.
pub(crate) const ASKED: &str = "172.16.13.13:9007";
/// The client.
pub(crate) const CLIENT: &str = "172.17.0.3:40000";

/// A record of the hairpin: a right one, or the naive server's.
pub(crate) fn hairpin(is_right: bool) -> Record {
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
pub(crate) fn hairpin_trial(is_right: bool) -> Trial {
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

/// What is shown of `first` and the reflector.
pub(crate) fn show(first: ServerUnderTest) -> Show {
    Show {
        question: Question {
            port: 9007,
            payload: b"ping".to_vec(),
            timeout: Duration::from_secs(1),
        },
        servers: [first, ServerUnderTest::Reflector("auto")],
        process_groups: ProcessGroups::default(),
    }
}

/// The hairpin, with the naive server and the reflector as they are.
pub(crate) fn hairpin_outcome() -> Outcome {
    Outcome {
        case: Case::Hairpin,
        trials: Ok([hairpin_trial(false), hairpin_trial(true)]),
    }
}

/// A case with these verdicts.
pub(crate) fn outcome(case: Case, first: Verdict, reflector: Verdict) -> Outcome {
    let trial = |verdict| Trial {
        verdict,
        ..hairpin_trial(true)
    };
    Outcome {
        case,
        trials: Ok([trial(first), trial(reflector)]),
    }
}
