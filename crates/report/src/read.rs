//! Opens a file and tells by its content what it is.

use std::io::{self, BufRead, BufReader};
use std::path::Path;

use crate::hdr_log::line::{self, Entry};
use crate::lines::{Fault, Lines};
use crate::run::Saved;
use crate::unit::{self, Form, UnitOf};
use crate::{document, hdr_log, json, percentiles};
use reflector_measure::error::Error;
use reflector_measure::file;

/// Lines at the beginning that may say nothing about what a file is.
const PEEKED_MAX: usize = 200;

/// What a file can be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Format {
    JsonLines,
    Document,
    HdrLog,
    Percentiles,
}

/// Reads the file at `path`; `-` is stdin. Other tools' times are in what `units` say of their
/// form, which is the other thing that is returned where the file tells none.
///
/// # Errors
/// As [`file::open_to_read`]; or what is wrong with the content and in which line.
pub(crate) fn read(path: &Path, units: &[UnitOf]) -> Result<(Saved, Option<Form>), Error> {
    let name = display_name(path);
    let attempted = || format!("cannot read {name}");
    let read = if is_stdin(path) {
        read_from(io::stdin().lock(), &name, units)
    } else {
        let file = file::open_to_read(path).map_err(|e| Error::system(attempted(), &e))?;
        read_from(BufReader::new(file), &name, units)
    };
    read.map_err(|fault| Error::new(attempted(), fault.said()))
}

/// Whether `path` stands for stdin.
pub(crate) fn is_stdin(path: &Path) -> bool {
    path.as_os_str() == "-"
}

/// The name of a file as it may be shown: a terminal obeys control characters.
pub(crate) fn display_name(path: &Path) -> String {
    if is_stdin(path) {
        return "stdin".to_owned();
    }
    let name = path.display().to_string();
    name.replace(char::is_control, "\u{fffd}")
}

pub(crate) fn read_from(
    reader: impl BufRead,
    name: &str,
    units: &[UnitOf],
) -> Result<(Saved, Option<Form>), Fault> {
    let mut lines = Lines::new(reader);
    let of = |form| unit::of(units, form);
    let (saved, form) = match detect(&mut lines)? {
        Format::JsonLines => (json::read(&mut lines, name), None),
        Format::Document => {
            let text = lines.read_all()?;
            let saved = document::read(&text, name, of(Form::Json));
            (saved, Some(Form::Json))
        }
        Format::HdrLog => {
            let saved = hdr_log::read(&mut lines, name, of(Form::Log));
            (saved, Some(Form::Log))
        }
        Format::Percentiles => {
            let saved = percentiles::read(&mut lines, name, of(Form::Table));
            (saved, Some(Form::Table))
        }
    };
    let mut saved = saved?;
    saved.warnings.extend(lines.warning(name));
    let form = form.filter(|_| saved.has_no_unit);
    Ok((saved, form))
}

/// What the first lines say. Those of a log may be before those of a report, and then the file
/// looks like nothing, or like another tool's JSON.
fn detect(lines: &mut Lines<impl BufRead>) -> Result<Format, Fault> {
    let mut is_empty = true;
    let mut has_remark = false;
    let mut is_document = false;
    for _ in 0..PEEKED_MAX {
        let Some(line) = lines.peek_next()? else {
            break;
        };
        let text = line.text.trim();
        if text.is_empty() {
            continue;
        }
        if json::report_in(text).is_some() {
            return Ok(Format::JsonLines);
        }
        is_document |= is_empty && text.starts_with(['{', '[']);
        is_empty = false;
        if is_document {
            continue;
        }
        if percentiles::is_head(text) {
            return Ok(Format::Percentiles);
        }
        has_remark |= text.starts_with("#[") || text.starts_with("\"StartTimestamp\"");
        if matches!(line::parse(text), Some(Entry::Interval(_))) {
            return Ok(Format::HdrLog);
        }
    }
    if has_remark {
        Ok(Format::HdrLog)
    } else if is_document {
        Ok(Format::Document)
    } else if is_empty {
        Err(Fault::new("it is empty"))
    } else {
        Err(Fault::new(
            "it is neither JSON nor an HdrHistogram log or percentile table",
        ))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn format(text: &str) -> Option<Format> {
        detect(&mut Lines::new(text.as_bytes())).ok()
    }

    #[test]
    fn content_tells_the_format() {
        for (text, expected) in [
            (
                "\n{\"schema\":1,\"type\":\"ready\"}\n",
                Some(Format::JsonLines),
            ),
            ("{\n\"latency\": {}}", Some(Format::Document)),
            (
                "{\"level\":\"WARN\"}\n{\"schema\":2}\n",
                Some(Format::JsonLines),
            ),
            (" WARN a\nb {\"schema\":2}\n", Some(Format::JsonLines)),
            (
                "#[a comment]\n\"StartTimestamp\",\"…\"\n",
                Some(Format::HdrLog),
            ),
            ("Tag=a,0.127,1.007,2.769,HISTFAAA\n", Some(Format::HdrLog)),
            (
                "#[x]\n Value Percentile TotalCount 1/(1-Percentile)\n",
                Some(Format::Percentiles),
            ),
            ("hello\n", None),
            ("# shell\nexit\n", None),
            ("\n\n", None),
        ] {
            assert_eq!(format(text), expected, "{text}");
        }
    }

    #[test]
    fn a_name_commands_no_terminal() {
        let name = display_name(Path::new("a\u{1b}[2J.json"));
        assert_eq!(name, "a\u{fffd}[2J.json");
    }
}
