//! The diagnosis as text, for people.

use std::io::{self, Write};
use std::time::Duration;

use crate::attempt::{Attempt, Outcome, is_same};
use crate::diagnosis::Diagnosis;
use crate::facts::Facts;
use crate::machine::check::Check;
use crate::question::{Answer, Question};
use reflector_measure::text::{paragraph, width};

/// Prints a diagnosis of a target.
///
/// # Errors
/// EPIPE where nobody reads any more.
pub(crate) fn diagnosis(
    facts: &Facts,
    diagnosis: &Diagnosis,
    out: &mut impl Write,
) -> io::Result<()> {
    let page = Page::as_wide_as_stdout();
    out.write_all(page.diagnosis(facts, diagnosis).as_bytes())
}

/// Prints the checks of this machine.
///
/// # Errors
/// EPIPE where nobody reads any more.
pub(crate) fn machine(checks: &[Check], out: &mut impl Write) -> io::Result<()> {
    out.write_all(Page::as_wide_as_stdout().machine(checks).as_bytes())
}

/// Text of a certain width.
#[derive(Clone, Copy)]
struct Page {
    columns: usize,
}

/// Wider than this, lines are harder to follow.
const COLUMNS_MAX: usize = 100;
const COLUMNS_MIN: usize = 40;

impl Page {
    fn as_wide_as_stdout() -> Self {
        Self {
            columns: width(io::stdout()).clamp(COLUMNS_MIN, COLUMNS_MAX),
        }
    }

    fn diagnosis(self, facts: &Facts, diagnosis: &Diagnosis) -> String {
        let mut text = self.paragraph("", &diagnosis.headline);
        text += &format!("\n{}\n", self.paragraph("  ", &way(facts)));
        text += &format!("  {:>3}  {:<11}  {:>5}  outcome\n", "try", "socket", "port");
        for attempt in &facts.attempts {
            let number = match attempt.number {
                0 => "-".to_owned(),
                number => number.to_string(),
            };
            let (socket, port) = (attempt.socket.name(), attempt.local.port());
            let first = format!("  {number:>3}  {socket:<11}  {port:>5}  ");
            text += &self.paragraph(&first, &outcome(attempt, facts));
        }
        if !diagnosis.findings.is_empty() {
            text += "\nWhy\n";
            for finding in &diagnosis.findings {
                text += &self.paragraph("  - ", &finding.text);
            }
        }
        if !diagnosis.remedies.is_empty() {
            text += "\nWhat to do, in this order\n";
        }
        for (index, remedy) in diagnosis.remedies.iter().enumerate() {
            text += &self.paragraph(&format!("  {}. ", index + 1), &remedy.text);
            if let Some(command) = &remedy.command {
                text += &self.command("       ", command);
            }
        }
        text
    }

    fn machine(self, checks: &[Check]) -> String {
        let width = checks.iter().map(|it| it.name.len()).max().unwrap_or(0);
        let mut text = String::new();
        for check in checks {
            let word = if check.is_ok { "ok" } else { "warn" };
            let first = format!("{word:<4}  {:<width$}  ", check.name);
            text += &self.paragraph(&first, &check.found);
            if let Some(remedy) = &check.remedy {
                let label = format!("{:len$}try: ", "", len = first.len());
                text += &self.paragraph(&label, remedy);
            }
            if let Some(command) = &check.command {
                text += &self.command(&format!("{:len$}", "", len = first.len() + 5), command);
            }
        }
        let hindering: Vec<_> = checks
            .iter()
            .filter(|it| !it.is_ok)
            .map(|it| it.name)
            .collect();
        let last = match hindering.len() {
            0 => "Nothing hinders the reflector.".to_owned(),
            _ => format!(
                "The reflector runs, but is hindered: {}.",
                hindering.join(", ")
            ),
        };
        text + "\n" + &self.paragraph("", &last)
    }

    /// `text` after `label`, in lines of the page's width. What stands between backquotes is not
    /// broken.
    fn paragraph(self, label: &str, text: &str) -> String {
        const NO_BREAK_SPACE: &str = "\u{a0}";
        let pieces = text.split('`').enumerate();
        let pieces: Vec<_> = pieces
            .map(|(index, piece)| match index % 2 {
                0 => piece.to_owned(),
                _ => piece.replace(' ', NO_BREAK_SPACE),
            })
            .collect();
        paragraph(label, &pieces.join("`"), self.columns).replace(NO_BREAK_SPACE, " ")
    }

    /// A command, over several lines with a backslash at their ends where it is long: a shell
    /// takes it as it stands.
    fn command(self, indent: &str, command: &str) -> String {
        const CONTINUED: &str = " \\\n";
        const INDENT: &str = "  ";
        // The line end takes no column.
        let columns = self.columns - (CONTINUED.len() - 1) - INDENT.len();
        let text = paragraph(indent, command, columns);
        let lines: Vec<&str> = text.lines().collect();
        lines.join(&format!("{CONTINUED}{INDENT}")) + "\n"
    }
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
    let not_asked: Vec<_> = facts.not_asked().map(|it| it.to_string()).collect();
    if !not_asked.is_empty() {
        text += &format!(
            " Not asked, though the name has them: {}.",
            not_asked.join(", ")
        );
    }
    text
}

fn outcome(attempt: &Attempt, facts: &Facts) -> String {
    match &attempt.outcome {
        Outcome::Answered {
            from,
            after,
            answer,
        } => {
            let from_text = if is_same(*from, facts.asked) {
                "from the address asked".to_owned()
            } else {
                format!("FROM {from}")
            };
            let odd = match (answer, &facts.question) {
                (Answer::Expected, _) => "",
                (Answer::ToAnother(_), _) => ", to another's question",
                (Answer::Other, Question::Dns(_)) => ", no DNS answer",
                (Answer::Other, _) => ", no echo",
            };
            format!("answered {from_text} after {}{odd}", ms(*after))
        }
        Outcome::Refused(refusal) => {
            let by = refusal
                .by
                .map_or_else(String::new, |ip| format!(" by {ip}"));
            format!("refused{by}: {}", refusal.short_meaning())
        }
        Outcome::Unsent(errno) => {
            let error = io::Error::from_raw_os_error(*errno);
            format!("could not be sent: {error}")
        }
        Outcome::Silent => format!("silent for {}", humantime::format_duration(facts.timeout)),
    }
}

fn ms(time: Duration) -> String {
    format!("{:.3} ms", time.as_secs_f64() * 1e3)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_filled_and_what_is_quoted_stays_whole() {
        let quoted = "`sysctl -w net.core.rmem_max=1`";
        let text = "word ".repeat(50) + quoted + " end";
        for columns in [40, 80] {
            let filled = Page { columns }.paragraph("- ", &text);
            let lines: Vec<&str> = filled.lines().collect();
            assert!(lines.len() > 2 && lines.iter().all(|line| line.len() <= columns));
            assert!(lines[0].starts_with("- word") && lines[1].starts_with("  word"));
            assert!(lines.iter().any(|line| line.contains(quoted)), "{filled}");
        }
        assert_eq!(Page { columns: 40 }.paragraph("- ", "short"), "- short\n");
    }

    #[test]
    fn a_long_command_can_still_be_pasted() {
        let page = Page { columns: 40 };
        let text = page.command(
            "  ",
            "conntrack -D -p udp --orig-dst 172.16.13.13 --dport 53",
        );
        let expected = "  conntrack -D -p udp --orig-dst \\\n    172.16.13.13 --dport 53\n";
        assert_eq!(text, expected);
        let longest = page.command("  ", &"word ".repeat(30));
        assert!(longest.lines().all(|line| line.len() <= 40), "{longest}");
        assert_eq!(
            page.command("  ", "nft list ruleset"),
            "  nft list ruleset\n"
        );
    }
}
