//! The diagnosis as people and programs read it.

use std::collections::BTreeMap;
use std::io::{self, Write};
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use serde::Serialize;

use crate::ask::{Attempt, Outcome};
use crate::facts::{Facts, is_same};
use crate::machine::Check;
use crate::question::Question;
use crate::remedies::Cure;
use crate::verdict::{Diagnosis, Verdict};
use crate::why::Finding;
use reflector_measure::json::SCHEMA;

/// Columns that text is filled to.
const WIDTH: usize = 96;

/// Prints a diagnosis of a target.
///
/// # Errors
/// What writing says.
pub fn diagnosis(
    facts: &Facts,
    diagnosis: &Diagnosis,
    is_json: bool,
    out: &mut impl Write,
) -> io::Result<()> {
    if is_json {
        return write_json(&object(facts, diagnosis), out);
    }
    fill(out, "", "", &diagnosis.headline)?;
    writeln!(out)?;
    fill(out, "  ", "  ", &way(facts))?;
    writeln!(out)?;
    writeln!(
        out,
        "  {:>3}  {:<11}  {:>5}  outcome",
        "try", "socket", "port"
    )?;
    for attempt in &facts.attempts {
        let number = match attempt.number {
            0 => "-".to_owned(),
            number => number.to_string(),
        };
        writeln!(
            out,
            "  {number:>3}  {:<11}  {:>5}  {}",
            attempt.way.name(),
            attempt.local.port(),
            outcome(attempt, facts)
        )?;
    }
    if !diagnosis.findings.is_empty() {
        writeln!(out, "\nWhy")?;
        for finding in &diagnosis.findings {
            fill(out, "  - ", "    ", &finding.text)?;
        }
    }
    if !diagnosis.cures.is_empty() {
        writeln!(out, "\nWhat to do, in this order")?;
    }
    for (index, cure) in diagnosis.cures.iter().enumerate() {
        fill(out, &format!("  {}. ", index + 1), "     ", &cure.text)?;
        if let Some(command) = &cure.command {
            writeln!(out, "       {command}")?;
        }
    }
    Ok(())
}

/// The way that the questions took, in a sentence.
fn way(facts: &Facts) -> String {
    let mut text = format!("Sent {}", facts.question.describe());
    if facts.target != facts.asked.to_string() {
        text += &format!(" to {}", facts.target);
    }
    let local = facts.attempts.first().map(|it| it.local.ip());
    if let Some(local) = local {
        text += &format!(" from {local}");
    }
    if let Some(route) = &facts.route {
        text += &format!(" by {}", route.interface);
        if let Some(gateway) = route.gateway {
            text += &format!(" through {gateway}");
        }
    }
    text.push('.');
    if !facts.others.is_empty() {
        let others: Vec<_> = facts.others.iter().map(ToString::to_string).collect();
        text += &format!(
            " Not asked, though the name has them: {}.",
            others.join(", ")
        );
    }
    text
}

fn outcome(attempt: &Attempt, facts: &Facts) -> String {
    match &attempt.outcome {
        Outcome::Answered {
            from,
            after,
            is_expected,
        } => {
            let from_text = if is_same(*from, facts.asked) {
                "from the address asked".to_owned()
            } else {
                format!("FROM {from}")
            };
            let odd = match (is_expected, &facts.question) {
                (true, _) => "",
                (false, Question::Dns(_)) => ", no DNS answer",
                (false, _) => ", no echo",
            };
            format!("answered {from_text} after {}{odd}", ms(*after))
        }
        Outcome::Refused(refusal) => {
            let by = refusal
                .by
                .map_or_else(String::new, |ip| format!(" by {ip}"));
            format!("refused{by}: {}", refusal.meaning())
        }
        Outcome::Silent => format!("silent for {}", humantime::format_duration(facts.timeout)),
    }
}

fn ms(time: Duration) -> String {
    format!("{:.3} ms", time.as_secs_f64() * 1e3)
}

/// The JSON object: the same facts, with the type first.
#[derive(Serialize)]
struct Object<'a> {
    r#type: &'static str,
    schema: u32,
    target: &'a str,
    asked: SocketAddr,
    not_asked: &'a [SocketAddr],
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
    seen_on_interface: Option<&'a [SocketAddr]>,
    findings: &'a [Finding],
    cures: &'a [Cure],
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
    },
    Refused {
        by: Option<IpAddr>,
        icmp_type: u8,
        icmp_code: u8,
        meaning: String,
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
        r#type: "diagnosis",
        schema: SCHEMA,
        target: &facts.target,
        asked: facts.asked,
        not_asked: &facts.others,
        question: match facts.question {
            Question::Echo => "echo",
            Question::Bytes(_) => "bytes",
            Question::Dns(_) => "dns",
        },
        timeout_ms: facts.timeout.as_secs_f64() * 1e3,
        verdict: diagnosis.verdict,
        headline: &diagnosis.headline,
        seen: &diagnosis.seen,
        attempts: facts.attempts.iter().map(attempt_object).collect(),
        route,
        udp_no_ports: facts.counted.no_ports,
        reverse_path_filtered: facts.counted.reverse_path_filter,
        conntrack_udp_entries: facts.tracked.as_ref().map(Vec::len),
        seen_on_interface: facts.witnessed.as_deref(),
        findings: &diagnosis.findings,
        cures: &diagnosis.cures,
    }
}

fn attempt_object(attempt: &Attempt) -> AttemptObject {
    let outcome = match &attempt.outcome {
        Outcome::Answered {
            from,
            after,
            is_expected,
        } => OutcomeObject::Answered {
            from: *from,
            rtt_us: after.as_nanos() as f64 / 1e3,
            is_expected: *is_expected,
        },
        Outcome::Refused(refusal) => OutcomeObject::Refused {
            by: refusal.by,
            icmp_type: refusal.icmp_type,
            icmp_code: refusal.icmp_code,
            meaning: refusal.meaning(),
        },
        Outcome::Silent => OutcomeObject::Silent,
    };
    AttemptObject {
        r#try: attempt.number,
        socket: attempt.way.name(),
        local: attempt.local,
        outcome,
    }
}

/// The JSON object of the machine's checks.
#[derive(Serialize)]
struct MachineObject<'a> {
    r#type: &'static str,
    schema: u32,
    is_ok: bool,
    checks: &'a [Check],
}

fn write_json(object: &impl Serialize, out: &mut impl Write) -> io::Result<()> {
    serde_json::to_writer(&mut *out, object)?;
    writeln!(out)
}

/// Prints the checks of this machine.
///
/// # Errors
/// What writing says.
pub fn machine(checks: &[Check], is_json: bool, out: &mut impl Write) -> io::Result<()> {
    let hindering: Vec<_> = checks
        .iter()
        .filter(|it| !it.is_ok)
        .map(|it| it.name)
        .collect();
    if is_json {
        let object = MachineObject {
            r#type: "machine",
            schema: SCHEMA,
            is_ok: hindering.is_empty(),
            checks,
        };
        return write_json(&object, out);
    }
    let width = checks.iter().map(|it| it.name.len()).max().unwrap_or(0);
    for check in checks {
        let word = if check.is_ok { "ok" } else { "warn" };
        let first = format!("{word:<4}  {:<width$}  ", check.name);
        let rest = " ".repeat(first.len());
        fill(out, &first, &rest, &check.found)?;
        if let Some(remedy) = &check.remedy {
            fill(
                out,
                &format!("{rest}try: "),
                &format!("{rest}     "),
                remedy,
            )?;
        }
    }
    let last = match hindering.len() {
        0 => "Nothing hinders the reflector.".to_owned(),
        _ => format!(
            "The reflector runs, but is hindered: {}.",
            hindering.join(", ")
        ),
    };
    writeln!(out, "\n{last}")
}

/// Writes `text` in lines of at most [`WIDTH`] columns: `first` before the first, `rest` before
/// the others. What stands between backquotes is not broken.
fn fill(out: &mut impl Write, first: &str, rest: &str, text: &str) -> io::Result<()> {
    let mut line = first.to_owned();
    let mut has_word = false;
    for word in words(text) {
        if has_word && line.chars().count() + 1 + word.chars().count() > WIDTH {
            writeln!(out, "{line}")?;
            rest.clone_into(&mut line);
            has_word = false;
        }
        if has_word {
            line.push(' ');
        }
        line += &word;
        has_word = true;
    }
    writeln!(out, "{line}")
}

/// The words of `text`; a command between backquotes is one word.
fn words(text: &str) -> Vec<String> {
    let mut words: Vec<String> = Vec::new();
    let mut is_quoted = false;
    for piece in text.split(' ') {
        match words.last_mut() {
            Some(last) if is_quoted => {
                last.push(' ');
                last.push_str(piece);
            }
            _ => words.push(piece.to_owned()),
        }
        is_quoted ^= piece.matches('`').count() % 2 == 1;
    }
    words
}

#[cfg(test)]
mod tests {
    use super::*;

    fn filled(text: &str) -> Vec<String> {
        let mut bytes = Vec::new();
        fill(&mut bytes, "- ", "  ", text).unwrap();
        let text = String::from_utf8(bytes).unwrap();
        text.lines().map(str::to_owned).collect()
    }

    #[test]
    fn lines_are_filled_and_commands_stay_whole() {
        let text = "word ".repeat(50) + "`sysctl -w net.core.rmem_max=1` end";
        let lines = filled(&text);
        assert!(lines.len() > 2 && lines.iter().all(|line| line.len() <= WIDTH));
        assert!(lines[0].starts_with("- word") && lines[1].starts_with("  word"));
        let whole = |line: &String| line.contains("`sysctl -w net.core.rmem_max=1`");
        assert!(lines.iter().any(whole));
        assert_eq!(filled("short"), ["- short"]);
    }
}
