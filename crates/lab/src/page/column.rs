//! One trial as a column: the server, the packets, connection tracking, the client, the verdict.

use std::time::Duration;

use super::line::{BAD, BOLD, DIM, DOUBTFUL, GOOD, Line, PLAIN, hung};
use crate::case::Case;
use crate::server::ServerUnderTest;
use crate::server::running::list;
use crate::show::Show;
use crate::trial::{Heard, Role, Seen, Trial, Verdict};
use reflector_netlab::observe::{ConntrackEntry, Tuple};

/// Lines of one thing, which stand next to each other in both columns.
pub(crate) type Section = Vec<Line>;

/// Room for what a paragraph is about.
pub(crate) const LABEL_LEN: usize = 11;

/// The sections of both trials: as many, and of the same things.
pub(crate) fn columns(
    show: &Show,
    case: Case,
    trials: &[Trial; 2],
    width: usize,
) -> [Vec<Section>; 2] {
    let is_one_line = trials
        .iter()
        .filter_map(|trial| trial.record.as_ref())
        .flat_map(|record| &record.packets)
        .all(|seen| one_line(seen).width() <= width);
    let column = |index: usize| {
        let (under_test, trial) = (&show.servers[index], &trials[index]);
        let mut sections = vec![title(under_test, trial, width)];
        for interface in case.interfaces() {
            sections.push(packets(trial, interface, is_one_line));
        }
        sections.push(tracking(trial, width));
        sections.push(client(trial, width));
        sections.push(vec![Line::default()]);
        let (style, word) = word(trial.verdict);
        sections.push(hung(style, &label(word), PLAIN, &trial.reason, width));
        sections
    };
    [column(0), column(1)]
}

/// `text`, as wide as labels are.
pub(crate) fn label(text: &str) -> String {
    format!("{text:<LABEL_LEN$}")
}

fn title(under_test: &ServerUnderTest, trial: &Trial, width: usize) -> Section {
    let addresses = match &trial.bound[..] {
        [] => trial.listen.to_string(),
        bound => list(bound),
    };
    let engine = match &trial.engine {
        Some(engine) => format!(" ({engine} engine)"),
        None => String::new(),
    };
    let label = format!("{} ", under_test.title());
    let place = format!("on {addresses}{engine}");
    let mut lines = hung(BOLD, &label, PLAIN, &place, width);
    lines.push(Line::default());
    lines
}

/// The verdict in a word, with its style.
pub(crate) fn word(verdict: Verdict) -> (anstyle::Style, &'static str) {
    match verdict {
        Verdict::Right => (GOOD, "RIGHT"),
        Verdict::WrongSource => (BAD, "WRONG"),
        Verdict::Unanswered => (DOUBTFUL, "UNANSWERED"),
        Verdict::Failed => (BAD, "FAILED"),
        Verdict::Skipped => (DOUBTFUL, "SKIPPED"),
    }
}

fn packets(trial: &Trial, interface: &str, is_one_line: bool) -> Section {
    let Some(record) = &trial.record else {
        return Vec::new();
    };
    let mut lines = vec![Line::of(DIM, format!("    ms  on {interface}"))];
    let is_here = |seen: &&Seen| seen.interface == interface;
    let seen: Vec<&Seen> = record.packets.iter().filter(is_here).collect();
    if seen.is_empty() {
        lines.push(Line::of(DIM, "        nothing"));
    }
    for seen in seen {
        if is_one_line {
            lines.push(one_line(seen));
        } else {
            lines.push(time(seen.since_first).and(PLAIN, format!("{}:", seen.packet.ends())));
            lines.push(what(Line::of(PLAIN, " ".repeat(TIME_LEN)), seen));
        }
    }
    lines.push(Line::default());
    lines
}

fn one_line(seen: &Seen) -> Line {
    let line = time(seen.since_first).and(PLAIN, format!("{}: ", seen.packet.ends()));
    what(line, seen)
}

/// Room for the time of a packet.
const TIME_LEN: usize = 8;

/// Milliseconds, to the microsecond below a second.
fn time(since_first: Duration) -> Line {
    let ms = since_first.as_secs_f64() * 1e3;
    let digits = if ms < 100.0 { 3 } else { 1 };
    Line::of(DIM, format!("{ms:>6.digits$}  "))
}

fn what(line: Line, seen: &Seen) -> Line {
    let (style, mark) = match seen.role {
        Role::Question => (DIM, "  question"),
        Role::Answer => (GOOD, "  answer"),
        Role::WrongSource => (BAD, "  wrong source!"),
        Role::Refusal => (BAD, ""),
    };
    let text = match seen.role {
        Role::Refusal => BAD,
        _ => PLAIN,
    };
    line.and(text, seen.packet.what()).and(style, mark)
}

fn tracking(trial: &Trial, width: usize) -> Section {
    let label = label("conntrack");
    let Some(record) = &trial.record else {
        return Vec::new();
    };
    match &record.conntrack {
        Err(reason) => hung(DIM, &label, DIM, reason, width),
        Ok(entries) if entries.is_empty() => hung(
            DIM,
            &label,
            DIM,
            "nothing: no NAT or filter needs it",
            width,
        ),
        Ok(entries) => entries
            .iter()
            .enumerate()
            .flat_map(|(index, entry)| {
                let label = if index == 0 { &label } else { "" };
                let label = format!("{label:<LABEL_LEN$}");
                tracked(&label, entry, width)
            })
            .collect(),
    }
}

/// A flow, its state, and the answer that it had or waits for.
fn tracked(label: &str, entry: &ConntrackEntry, width: usize) -> Vec<Line> {
    let arrow = |tuple: Tuple| format!("{} > {}", tuple.source, tuple.destination);
    let (style, state) = if entry.is_replied {
        (GOOD, "REPLIED by")
    } else {
        (BAD, "UNREPLIED, waits for")
    };
    let indent = " ".repeat(LABEL_LEN);
    let mut lines = hung(DIM, label, PLAIN, &arrow(entry.original), width);
    lines.extend(hung(PLAIN, &indent, style, state, width));
    lines.extend(hung(PLAIN, &indent, PLAIN, &arrow(entry.reply), width));
    lines
}

fn client(trial: &Trial, width: usize) -> Section {
    let Some(record) = &trial.record else {
        return Vec::new();
    };
    let text = match &record.client {
        Heard::Answer { payload_len, rtt } => format!(
            "got {payload_len} bytes after {:.3} ms",
            rtt.as_secs_f64() * 1e3
        ),
        Heard::Refusal => "connection refused (ICMP port unreachable)".to_owned(),
        Heard::Nothing(timeout) => {
            format!("waited {} in vain", humantime::format_duration(*timeout))
        }
    };
    hung(DIM, &label("client"), PLAIN, &text, width)
}
