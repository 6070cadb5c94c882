//! Every line of the log of the service is in the table of OPERATIONS.md, with what to do.

use crate::files::File;
use crate::finding::Finding;

/// The macros that write lines that an operator sees.
const MACROS: [&str; 3] = ["tracing::info!(", "tracing::warn!(", "tracing::error!("];

/// The code of the service: the heart, and what the program does when it serves.
const SERVICE: [&str; 2] = ["src/server", "src/bin/reflector/serve"];

/// Words of a line that have to be in the table, in this order; its end may be another one there.
const WORDS: usize = 4;

pub fn check(files: &[File], document: &File) -> Vec<Finding> {
    let table: Vec<&str> = document.text.split_whitespace().collect();
    let table = table.join(" ");
    let mut findings = Vec::new();
    for file in files {
        if !SERVICE.iter().any(|it| file.path.starts_with(it)) || !file.is_rust() {
            continue;
        }
        for (line, text) in said(&file.text) {
            // What is said in variables alone is found where it is made.
            let Some(words) = opening(&text) else {
                continue;
            };
            if !table.contains(&words) {
                let what = format!("'{words}' is not in the table of {}", document.path);
                findings.push(Finding {
                    rule: "log lines",
                    path: file.path.clone(),
                    line,
                    what,
                });
            }
        }
    }
    findings
}

/// The texts that `source` logs, each with its line.
fn said(source: &str) -> Vec<(usize, String)> {
    let starts = MACROS
        .iter()
        .flat_map(|it| source.match_indices(it).map(|(at, it)| at + it.len()));
    let text = |at: usize| {
        let body = source[at..].trim_start().strip_prefix('"')?;
        let end = body.find('"')?;
        let line = source[..at].lines().count();
        // A backslash at the end of a line takes the blanks of the next one away.
        let parts: Vec<_> = body[..end].split("\\\n").map(str::trim_start).collect();
        Some((line, parts.concat()))
    };
    starts.filter_map(text).collect()
}

/// The first words that stand together, without what comes from variables.
fn opening(text: &str) -> Option<String> {
    let parts = text
        .split('{')
        .map(|it| it.split_once('}').unwrap_or(("", it)).1);
    let parts: Vec<Vec<_>> = parts
        .map(|it| it.split_whitespace().take(WORDS).collect())
        .collect();
    let with = |count| parts.iter().find(|it| it.len() >= count);
    let words = with(3).or_else(|| with(2))?.join(" ");
    Some(words.trim_matches([':', ';', ',', ' ']).to_owned())
}

#[test]
fn a_line_that_the_table_lacks_is_found() {
    let source = r#"
        tracing::warn!(
            "the kernel {kernel} does not like \
             what it {sees}"
        );
        tracing::info!("known to all of us, {name}: it goes on");
        tracing::debug!("not seen by anybody at all");
        tracing::error!("{error}");
    "#;
    let files = [File::planted("src/server/planted.rs", source)];
    let table = File::planted("OPERATIONS.md", "| known to all of us, … | info |");
    let found = check(&files, &table);
    assert_eq!(found.len(), 1, "{found:?}");
    assert_eq!(found[0].line, 2);
    assert!(found[0].what.contains("'does not like what'"), "{found:?}");
}
