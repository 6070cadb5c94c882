//! The cases as text for people: two columns where the terminal has room, else one.

mod column;
mod line;

use crate::server::ServerUnderTest;
use crate::show::{Outcome, Show};
use crate::trial::{Trial, Verdict};
use column::{LABEL_LEN, Section, columns, label, word};
use line::{BOLD, DIM, DOUBTFUL, Line, PLAIN, hung, wrapped};
use reflector_measure::exit::Exit;

/// Text of a certain width. Contains styles, which [`anstream`] takes out where they are not
/// wanted.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Page {
    width: usize,
}

/// The narrowest that two columns fit into.
const TWO_COLUMNS_MIN: usize = 100;
/// Wider than this, lines are harder to follow.
const WIDTH_MAX: usize = 132;
const WIDTH_MIN: usize = 40;
/// Between the columns.
const GUTTER: &str = " │ ";

impl Page {
    /// A page of `width`, as far as it is one that can be read.
    pub(crate) fn new(width: usize) -> Self {
        Self {
            width: width.clamp(WIDTH_MIN, WIDTH_MAX),
        }
    }

    /// What is about to be shown.
    pub(crate) fn opening(self, show: &Show) -> String {
        let mut lines = wrapped(
            PLAIN,
            "A UDP client that is connected to an address takes answers from there only. A server \
             on all addresses of a host (0.0.0.0 or [::]) that just sends leaves the source of \
             its answer to the routing table, which may take another address of the host \
             (moby#15127). Here two servers are asked the same question:",
            self.width,
        );
        lines.push(Line::default());
        let (name, way) = match &show.servers[0] {
            ServerUnderTest::Yours(command) => ("yours", command.to_string()),
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
    pub(crate) fn case(self, show: &Show, outcome: &Outcome) -> String {
        let mut lines = vec![Line::default(), self.heading(outcome.case.name())];
        lines.extend(wrapped(PLAIN, outcome.case.story(), self.width));
        lines.push(Line::default());
        match &outcome.trials {
            Err(reason) => {
                lines.extend(hung(DOUBTFUL, &label("SKIPPED"), PLAIN, reason, self.width));
            }
            Ok(trials) if self.width >= TWO_COLUMNS_MIN => {
                let width = (self.width - GUTTER.chars().count()) / 2;
                let [left, right] = columns(show, outcome.case, trials, width);
                lines.extend(side_by_side(left, right, width));
            }
            Ok(trials) => {
                let [first, second] = columns(show, outcome.case, trials, self.width);
                lines.extend(first.into_iter().flatten());
                lines.push(Line::default());
                lines.extend(second.into_iter().flatten());
            }
        }
        finish(lines)
    }

    /// All verdicts in a table, and what follows.
    pub(crate) fn closing(self, show: &Show, outcomes: &[Outcome], exit: Exit) -> String {
        let mut lines = vec![Line::default(), self.heading("all cases")];
        let names = show.servers.each_ref().map(ServerUnderTest::title);
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
                Ok([first, reflector]) => {
                    let (style, word) = word(first.verdict);
                    let line = line.and(style, format!("{:<14}", word.to_lowercase()));
                    let (style, word) = column::word(reflector.verdict);
                    line.and(style, word.to_lowercase())
                }
            });
        }
        lines.push(Line::default());
        for sentence in conclusion(show, outcomes, exit) {
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
}

const PICTURE: [&str; 5] = [
    "  container                 host                            outside",
    "  172.17.0.3 ────── docker0 172.17.0.1",
    "  fd17::3                   fd17::1",
    "                       eth0 172.16.13.13 ────────────────── 172.16.13.2",
    "                            fd13::13                        172.16.13.3",
];

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

/// What the whole show says, in sentences.
fn conclusion(show: &Show, outcomes: &[Outcome], exit: Exit) -> Vec<String> {
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
        show.servers[0].title(),
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
            "The remedy: take the destination from the received IP_PKTINFO or IPV6_PKTINFO and put \
             it into the answer's; or bind one socket to each address."
                .to_owned(),
        ),
        Exit::Failed => Some("This is not what was expected.".to_owned()),
        _ => None,
    });
    sentences
}

#[cfg(test)]
mod tests;
