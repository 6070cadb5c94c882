//! The cases as text for people: two columns where the terminal has room, else one.

mod line;

use std::time::Duration;

use crate::case::Case;
use crate::server::{self, Contestant};
use crate::trial::{Heard, Role, Seen, Trial, Verdict};
use crate::{Outcome, Show};
use line::{BAD, BOLD, DIM, DOUBTFUL, GOOD, Line, PLAIN, hung, wrapped};
use reflector_measure::exit::Exit;
use reflector_netlab::observe::{ConntrackEntry, Tuple};

/// Text of a certain width. Contains styles, which [`anstream`] takes out where they are not
/// wanted.
#[derive(Clone, Copy, Debug)]
pub struct Page {
    width: usize,
}

/// The width where there is no terminal, and the narrowest that two columns fit into.
const TWO_COLUMNS_MIN: usize = 100;
/// Wider than this, lines are harder to follow.
const WIDTH_MAX: usize = 132;
const WIDTH_MIN: usize = 40;
/// Between the columns.
const GUTTER: &str = " │ ";
/// Room for what a paragraph is about.
const LABEL_LEN: usize = 11;

impl Page {
    /// A page as wide as the terminal, or one of 100 columns.
    pub fn new(width: Option<usize>) -> Self {
        let width = width.unwrap_or(TWO_COLUMNS_MIN);
        Self {
            width: width.clamp(WIDTH_MIN, WIDTH_MAX),
        }
    }

    /// What is about to be shown.
    pub fn opening(self, show: &Show) -> String {
        let mut lines = wrapped(
            PLAIN,
            "A UDP client that is connected to an address takes answers from there only. A server \
             on all addresses of a host (0.0.0.0 or [::]) that just sends leaves the source of \
             its answer to the routing table, which may take another address of the host \
             (moby#15127). Here two servers are asked the same question:",
            self.width,
        );
        lines.push(Line::default());
        let (name, way) = match &show.contestants[0] {
            Contestant::Yours(command) => ("yours", command.to_string()),
            _ => (
                "naive",
                "just receives and sends (recvfrom, sendto)".to_owned(),
            ),
        };
        let way_of_reflector = "sends from the address that the question was sent to (pktinfo)";
        lines.extend(hung(
            BOLD,
            &format!("  {name:<LABEL_LEN$}"),
            PLAIN,
            &way,
            self.width,
        ));
        lines.extend(hung(
            BOLD,
            &format!("  {:<LABEL_LEN$}", "reflector"),
            PLAIN,
            way_of_reflector,
            self.width,
        ));
        lines.push(Line::default());
        lines.extend(PICTURE.map(|row| Line::of(DIM, row)));
        finish(lines)
    }

    /// One case.
    pub fn case(self, show: &Show, outcome: &Outcome) -> String {
        let mut lines = vec![Line::default(), self.heading(outcome.case.name())];
        lines.extend(wrapped(PLAIN, outcome.case.story(), self.width));
        lines.push(Line::default());
        match &outcome.trials {
            Err(reason) => {
                lines.extend(hung(DOUBTFUL, &label("SKIPPED"), PLAIN, reason, self.width));
            }
            Ok(trials) if self.width >= TWO_COLUMNS_MIN => {
                let width = (self.width - GUTTER.chars().count()) / 2;
                let [left, right] = Self::columns(show, outcome.case, trials, width);
                lines.extend(side_by_side(left, right, width));
            }
            Ok(trials) => {
                let [first, second] = Self::columns(show, outcome.case, trials, self.width);
                lines.extend(first.into_iter().flatten());
                lines.push(Line::default());
                lines.extend(second.into_iter().flatten());
            }
        }
        finish(lines)
    }

    /// All verdicts in a table, and what follows.
    pub fn closing(self, show: &Show, outcomes: &[Outcome], exit: Exit) -> String {
        let mut lines = vec![Line::default(), self.heading("all cases")];
        let names = show.contestants.each_ref().map(Contestant::title);
        let row = |case: &str, asked: &str| format!("{case:<LABEL_LEN$}{asked:<20}");
        lines.push(
            Line::of(BOLD, row("case", "asked at"))
                .and(BOLD, format!("{:<14}{}", names[0], names[1])),
        );
        for outcome in outcomes {
            let asked = std::net::SocketAddr::new(outcome.case.asked(), show.question.port);
            let line = Line::of(PLAIN, row(outcome.case.name(), &asked.to_string()));
            lines.push(match &outcome.trials {
                Err(_) => line.and(DOUBTFUL, "skipped"),
                Ok([challenger, reflector]) => {
                    let (style, word) = word(challenger.verdict);
                    let line = line.and(style, format!("{:<14}", word.to_lowercase()));
                    let (style, word) = self::word(reflector.verdict);
                    line.and(style, word.to_lowercase())
                }
            });
        }
        lines.push(Line::default());
        for sentence in moral(show, outcomes, exit) {
            lines.extend(wrapped(PLAIN, &sentence, self.width));
        }
        finish(lines)
    }

    fn heading(self, name: &str) -> Line {
        let rule = "─".repeat(self.width.saturating_sub(name.len() + 4));
        Line::of(DIM, "── ")
            .and(BOLD, name)
            .and(DIM, format!(" {rule}"))
    }

    /// The sections of both trials: as many, and of the same things.
    fn columns(show: &Show, case: Case, trials: &[Trial; 2], width: usize) -> [Vec<Section>; 2] {
        let is_one_line = trials
            .iter()
            .filter_map(|trial| trial.record.as_ref())
            .flat_map(|record| &record.packets)
            .all(|seen| one_line(seen).width() <= width);
        let column = |index: usize| {
            let (contestant, trial) = (&show.contestants[index], &trials[index]);
            let mut sections = vec![title(contestant, trial, width)];
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
}

/// Lines of one thing, which stand next to each other in both columns.
type Section = Vec<Line>;

const PICTURE: [&str; 5] = [
    "  container                 host                            outside",
    "  172.17.0.3 ────── docker0 172.17.0.1",
    "  fd17::3                   fd17::1",
    "                       eth0 172.16.13.13 ────────────────── 172.16.13.2",
    "                            fd13::13                        172.16.13.3",
];

fn label(text: &str) -> String {
    format!("{text:<LABEL_LEN$}")
}

fn finish(lines: Vec<Line>) -> String {
    lines.iter().map(|line| line.render() + "\n").collect()
}

fn side_by_side(left: Vec<Section>, right: Vec<Section>, width: usize) -> Vec<Line> {
    let mut lines = Vec::new();
    for (left, right) in left.into_iter().zip(right) {
        let height = left.len().max(right.len());
        let pad = |section: Section| {
            let missing = height - section.len();
            section
                .into_iter()
                .chain((0..missing).map(|_| Line::default()))
        };
        for (left, right) in pad(left).zip(pad(right)) {
            lines.push(left.padded(width).and(DIM, GUTTER).then(right));
        }
    }
    lines
}

fn title(contestant: &Contestant, trial: &Trial, width: usize) -> Section {
    let addresses = match &trial.bound[..] {
        [] => trial.listen.to_string(),
        bound => server::list(bound),
    };
    let engine = match &trial.engine {
        Some(engine) => format!(" ({engine} engine)"),
        None => String::new(),
    };
    let label = format!("{} ", contestant.title());
    let place = format!("on {addresses}{engine}");
    let mut lines = hung(BOLD, &label, PLAIN, &place, width);
    lines.push(Line::default());
    lines
}

fn word(verdict: Verdict) -> (anstyle::Style, &'static str) {
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

/// What the whole show says, in sentences.
fn moral(show: &Show, outcomes: &[Outcome], exit: Exit) -> Vec<String> {
    let held: Vec<&[Trial; 2]> = outcomes
        .iter()
        .filter_map(|outcome| outcome.trials.as_ref().ok())
        .collect();
    let count = |index: usize, verdict| {
        let is_it = |trials: &&&[Trial; 2]| trials[index].verdict == verdict;
        held.iter().filter(is_it).count()
    };
    let of = held.len();
    let mut sentences = vec![format!(
        "{}: wrong source in {} of {of}, right in {}. reflector: right in {} of {of}.",
        show.contestants[0].title(),
        count(0, Verdict::WrongSource),
        count(0, Verdict::Right),
        count(1, Verdict::Right),
    )];
    sentences.extend(match exit {
        Exit::Done if !show.is_yours() => {
            Some("Ask your own: reflector lab --server 'CMD --port {port}'".to_owned())
        }
        Exit::Done => Some("Your server answers from the address that it was asked at.".to_owned()),
        Exit::WrongSource => Some(
            "The cure: take the destination from the received IP_PKTINFO or IPV6_PKTINFO and put \
             it into the answer's; or bind one socket to each address."
                .to_owned(),
        ),
        Exit::Failed => Some("This is not what was expected.".to_owned()),
        _ => None,
    });
    sentences
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::judge::tests::hairpin_trial;
    use crate::tests::show;

    fn outcome() -> Outcome {
        Outcome {
            case: Case::Hairpin,
            trials: Ok([hairpin_trial(false), hairpin_trial(true)]),
        }
    }

    fn plain(text: &str) -> Vec<String> {
        let text = anstream::adapter::strip_str(text).to_string();
        text.lines().map(str::to_owned).collect()
    }

    #[test]
    fn a_hundred_columns_hold_both_servers_side_by_side() {
        let text = Page::new(None).case(&show(Contestant::Naive), &outcome());
        let lines = plain(&text);
        let expected = "
── hairpin ─────────────────────────────────────────────────────────────────────────────────────────
The container asks its own host, at eth0's address. The host's shortest way back is docker0, which
has an address of its own.

naive server on 0.0.0.0:9007                     │ reflector on 0.0.0.0:9007 (uring engine)
                                                 │
    ms  on docker0                               │     ms  on docker0
 0.000  172.17.0.3.40000 > 172.16.13.13.9007:    │  0.000  172.17.0.3.40000 > 172.16.13.13.9007:
        UDP, length 4  question                  │         UDP, length 4  question
 0.052  172.17.0.1.9007 > 172.17.0.3.40000:      │  0.052  172.16.13.13.9007 > 172.17.0.3.40000:
        UDP, length 4  wrong source!             │         UDP, length 4  answer
 1.071  172.17.0.3 > 172.17.0.1:                 │
        ICMP udp port 40000 unreachable          │
                                                 │
conntrack  nothing: no NAT or filter needs it    │ conntrack  nothing: no NAT or filter needs it
client     waited 1s in vain                     │ client     got 4 bytes after 0.123 ms
                                                 │
WRONG      Asked at 172.16.13.13:9007, it        │ RIGHT      Asked at 172.16.13.13:9007, it
           answered from 172.17.0.1:9007         │            answered from there.
           (docker0's address). The client is    │
           connected to the address it asked, so │
           its kernel knows no such peer and     │
           refuses the answer.                   │";
        assert_eq!(lines.join("\n"), expected);
    }

    #[test]
    fn nothing_is_wider_than_the_terminal() {
        let show = show(Contestant::Naive);
        for width in [40, 80, 99, 100, 120, 132] {
            let page = Page::new(Some(width));
            let mut text = page.opening(&show) + &page.case(&show, &outcome());
            text += &page.closing(&show, &[outcome()], Exit::Done);
            for line in plain(&text) {
                let is_picture = PICTURE.contains(&line.as_str());
                // Packets are not cut: below 60 columns the terminal wraps them.
                assert!(
                    line.chars().count() <= width.max(60) || is_picture,
                    "{width}: {line}"
                );
            }
        }
    }

    #[test]
    fn a_narrow_terminal_has_one_above_the_other() {
        let text = Page::new(Some(80)).case(&show(Contestant::Naive), &outcome());
        let lines = plain(&text);
        assert!(lines.iter().all(|line| !line.contains('│')), "{lines:#?}");
        let position = |needle: &str| lines.iter().position(|line| line.contains(needle)).unwrap();
        assert!(position("WRONG") < position("reflector on 0.0.0.0:9007"));
        let packet = "172.17.0.1.9007 > 172.17.0.3.40000: UDP, length 4  wrong source!";
        assert!(lines[position("52")].ends_with(packet), "{lines:#?}");
    }
}
