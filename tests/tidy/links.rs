//! Links between the documents.

use crate::files::File;
use crate::finding::Finding;

/// Relative links in Markdown that lead to no file (`exists` tells), or to no heading of one.
pub fn check(files: &[File], exists: impl Fn(&str) -> bool) -> Vec<Finding> {
    let mut findings = Vec::new();
    for file in files.iter().filter(|it| it.is_markdown()) {
        for (line, text) in file.lines() {
            for link in targets(text).filter(|it| !it.contains("://") && !it.starts_with("mailto:"))
            {
                let (to, heading) = link.split_once('#').unwrap_or((link, ""));
                let path = if to.is_empty() {
                    file.path.clone()
                } else {
                    relative(&file.path, to)
                };
                let document = files.iter().find(|it| it.path == path);
                let what = if document.is_none() && !exists(&path) {
                    format!("leads to {path}, which does not exist")
                } else if document.is_some_and(|it| !heading.is_empty() && !has(it, heading)) {
                    format!("leads to #{heading}, which {path} does not have")
                } else {
                    continue;
                };
                findings.push(Finding {
                    rule: "links",
                    path: file.path.clone(),
                    line,
                    what,
                });
            }
        }
    }
    findings
}

/// Where the links of a line lead: `[text](target)`, `[name]: target`.
fn targets(line: &str) -> impl Iterator<Item = &str> {
    let inline = line
        .split("](")
        .skip(1)
        .filter_map(|it| it.split([')', ' ']).next());
    let reference = line.strip_prefix('[').and_then(|it| it.split_once("]: "));
    inline.chain(reference.map(|it| it.1.trim()))
}

/// `to` as seen from the folder of the file at `from`.
fn relative(from: &str, to: &str) -> String {
    let mut path: Vec<&str> = from.split('/').collect();
    path.pop();
    for part in to.trim_end_matches('/').split('/') {
        match part {
            "" | "." => {}
            ".." => _ = path.pop(),
            part => path.push(part),
        }
    }
    path.join("/")
}

/// Whether a heading of `document` has the anchor `wanted`, as GitHub makes them.
fn has(document: &File, wanted: &str) -> bool {
    document
        .text
        .lines()
        .filter_map(|line| line.strip_prefix('#'))
        .map(|line| anchor(line.trim_start_matches('#')))
        .any(|it| it == wanted)
}

fn anchor(heading: &str) -> String {
    heading
        .trim()
        .to_lowercase()
        .chars()
        .filter(|c| c.is_alphanumeric() || matches!(c, ' ' | '-' | '_'))
        .map(|c| if c == ' ' { '-' } else { c })
        .collect()
}

#[test]
fn a_link_that_leads_nowhere_is_found() {
    let there = File::planted("docs/a.md", "# On `a`, and b\n[up](../b.md) [x](../src/)");
    let here = File::planted(
        "b.md",
        "[a](docs/a.md) [b](docs/a.md#on-a-and-b) [c](https://example.org/d) [e](#f)\n\
         [g](gone.md \"title\") and [h](docs/a.md#gone)\n[i]: docs/gone.md\n# f",
    );
    let findings = check(&[there, here], |path| path == "src");
    let found: Vec<String> = findings.iter().map(Finding::to_string).collect();
    assert_eq!(
        found,
        [
            "b.md:2: leads to gone.md, which does not exist [links]",
            "b.md:2: leads to #gone, which docs/a.md does not have [links]",
            "b.md:3: leads to docs/gone.md, which does not exist [links]",
        ]
    );
}
