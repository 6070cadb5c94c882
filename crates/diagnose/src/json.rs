//! The diagnosis as one JSON object, for programs.

use std::collections::BTreeMap;
use std::io::{self, Write};
use std::net::{IpAddr, SocketAddr};

use serde::Serialize;

use crate::attempt::{Attempt, Outcome};
use crate::diagnosis::{Diagnosis, Finding, Remedy, Verdict};
use crate::facts::Facts;
use crate::machine::check::Check;
use crate::question::Answer;
use reflector_measure::{errno, json};

/// Prints a diagnosis of a target.
///
/// # Errors
/// EPIPE where nobody reads any more.
pub(crate) fn diagnosis(
    facts: &Facts,
    diagnosis: &Diagnosis,
    out: &mut impl Write,
) -> io::Result<()> {
    json::write_line(out, "diagnosis", &object(facts, diagnosis))
}

/// Prints the checks of this machine.
///
/// # Errors
/// EPIPE where nobody reads any more.
pub(crate) fn machine(checks: &[Check], out: &mut impl Write) -> io::Result<()> {
    let object = MachineObject {
        is_ok: checks.iter().all(|it| it.is_ok),
        checks,
    };
    json::write_line(out, "machine", &object)
}

#[derive(Serialize)]
struct Object<'a> {
    target: &'a str,
    asked: SocketAddr,
    not_asked: Vec<SocketAddr>,
    /// Other addresses of the name that were asked, and whether they answered from themselves.
    also_asked: BTreeMap<SocketAddr, bool>,
    question: &'static str,
    timeout_ms: f64,
    verdict: Verdict,
    headline: &'a str,
    /// Wrong sources, and how often each was seen.
    seen: &'a BTreeMap<SocketAddr, usize>,
    attempts: Vec<AttemptObject>,
    route: Option<RouteObject<'a>>,
    udp_no_ports: u64,
    reverse_path_filtered: u64,
    conntrack_udp_entries: Option<usize>,
    conntrack_entries: Option<u64>,
    conntrack_max: Option<u64>,
    conntrack_drops: u64,
    seen_on_interface: Option<&'a [SocketAddr]>,
    findings: &'a [Finding],
    remedies: &'a [Remedy],
}

#[derive(Serialize)]
struct AttemptObject {
    r#try: u16,
    socket: &'static str,
    local: SocketAddr,
    #[serde(flatten)]
    outcome: OutcomeObject,
}

#[derive(Serialize)]
#[serde(tag = "outcome", rename_all = "snake_case")]
enum OutcomeObject {
    Answered {
        from: SocketAddr,
        rtt_us: f64,
        is_expected: bool,
        is_to_another: bool,
    },
    Refused {
        by: Option<IpAddr>,
        icmp_type: u8,
        icmp_code: u8,
        meaning: String,
    },
    Unsent {
        error: String,
    },
    Silent,
}

#[derive(Serialize)]
struct RouteObject<'a> {
    interface: &'a str,
    kind: &'a str,
    gateway: Option<IpAddr>,
    source: Option<IpAddr>,
    is_local: bool,
    rp_filter: Option<u64>,
}

fn object<'a>(facts: &'a Facts, diagnosis: &'a Diagnosis) -> Object<'a> {
    let route = facts.route.as_ref().map(|route| RouteObject {
        interface: &route.interface,
        kind: &facts.interface_kind,
        gateway: route.gateway,
        source: route.source,
        is_local: route.is_local,
        rp_filter: facts.rp_filter,
    });
    Object {
        target: &facts.target,
        asked: facts.asked,
        not_asked: facts.not_asked().collect(),
        also_asked: facts.also_asked().collect(),
        question: facts.question.name(),
        timeout_ms: facts.timeout.as_secs_f64() * 1e3,
        verdict: diagnosis.verdict,
        headline: &diagnosis.headline,
        seen: &diagnosis.seen,
        attempts: facts.attempts.iter().map(attempt_object).collect(),
        route,
        udp_no_ports: facts.counted.no_ports,
        reverse_path_filtered: facts.counted.reverse_path_filter,
        conntrack_udp_entries: facts.tracked.as_ref().map(Vec::len),
        conntrack_entries: facts.occupancy.map(|it| it.count),
        conntrack_max: facts.occupancy.map(|it| it.max),
        conntrack_drops: facts.counted.untrackable,
        seen_on_interface: facts.seen_on_interface.as_deref(),
        findings: &diagnosis.findings,
        remedies: &diagnosis.remedies,
    }
}

fn attempt_object(attempt: &Attempt) -> AttemptObject {
    let outcome = match &attempt.outcome {
        Outcome::Answered {
            from,
            after,
            answer,
        } => OutcomeObject::Answered {
            from: *from,
            rtt_us: after.as_nanos() as f64 / 1e3,
            is_expected: *answer == Answer::Expected,
            is_to_another: matches!(answer, Answer::ToAnother(_)),
        },
        Outcome::Refused(refusal) => OutcomeObject::Refused {
            by: refusal.by,
            icmp_type: refusal.icmp_type,
            icmp_code: refusal.icmp_code,
            meaning: refusal.meaning(),
        },
        Outcome::Unsent(errno) => OutcomeObject::Unsent {
            error: errno::name(*errno),
        },
        Outcome::Silent => OutcomeObject::Silent,
    };
    AttemptObject {
        r#try: attempt.number,
        socket: attempt.socket.name(),
        local: attempt.local,
        outcome,
    }
}

#[derive(Serialize)]
struct MachineObject<'a> {
    is_ok: bool,
    checks: &'a [Check],
}
