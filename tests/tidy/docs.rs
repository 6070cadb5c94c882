//! Comments that say something, and nothing left behind.

use crate::files::File;
use crate::finding::Finding;

/// Words of a section about errors that names none, at most.
const EMPTY_WORDS_MAX: usize = 8;

/// What stands for work that is not done. In pieces, since this file is read as well.
const LEFTOVERS: [&str; 6] = [
    concat!("TO", "DO"),
    concat!("FIX", "ME"),
    concat!("XX", "X"),
    concat!("dbg", "!"),
    concat!("todo", "!"),
    concat!("unimplemented", "!"),
];

/// Sections about errors that name no errno and no variant: "What the kernel says."
pub fn check_errors(files: &[File]) -> Vec<Finding> {
    let mut findings = Vec::new();
    for file in files.iter().filter(|it| it.is_rust()) {
        let lines: Vec<&str> = file.text.lines().collect();
        for (at, line) in lines.iter().enumerate() {
            if doc(line) == Some("# Errors") {
                let text: Vec<&str> = lines[at + 1..]
                    .iter()
                    .map_while(|line| doc(line))
                    .take_while(|it| !it.starts_with('#'))
                    .collect();
                if says_nothing(&text.join(" ")) {
                    findings.push(Finding {
                        rule: "errors",
                        path: file.path.clone(),
                        line: at + 1,
                        what: "name the errnos that a caller can meet, or leave it out".into(),
                    });
                }
            }
        }
    }
    findings
}

fn doc(line: &str) -> Option<&str> {
    let line = line.trim_start();
    let text = line.strip_prefix("///").or(line.strip_prefix("//!"))?;
    Some(text.trim())
}

/// One short sentence that begins so, without an errno, a variant or a link.
fn says_nothing(text: &str) -> bool {
    let text = text.trim();
    let is_errno = |word: &str| {
        let word = word.trim_matches(|c: char| !c.is_alphanumeric());
        word.len() > 3 && word.starts_with('E') && word.chars().all(|c| c.is_ascii_uppercase())
    };
    let begins = ["What ", "The same", "That its "];
    text.is_empty()
        || begins.iter().any(|it| text.starts_with(it))
            && text.split_whitespace().count() <= EMPTY_WORDS_MAX
            && !text.contains(['`', '['])
            && !text.split_whitespace().any(is_errno)
}

/// Marks of unfinished work, in whatever people write.
pub fn check_leftovers(files: &[File]) -> Vec<Finding> {
    let mut findings = Vec::new();
    for file in files {
        for (line, text) in file.lines() {
            for leftover in LEFTOVERS.iter().filter(|it| has_word(text, it)) {
                findings.push(Finding {
                    rule: "leftovers",
                    path: file.path.clone(),
                    line,
                    what: format!("{leftover}: finish it, or open an issue"),
                });
            }
        }
    }
    findings
}

/// Not as part of a longer word, such as the pattern of `mktemp`.
fn has_word(text: &str, word: &str) -> bool {
    let is_part = |c: Option<char>| c.is_some_and(char::is_alphanumeric);
    text.match_indices(word).any(|(at, _)| {
        let after = text[at + word.len()..].chars().next();
        !is_part(text[..at].chars().next_back()) && (word.ends_with('!') || !is_part(after))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(findings: &[Finding]) -> Vec<usize> {
        findings.iter().map(|it| it.line).collect()
    }

    #[test]
    fn a_section_about_errors_that_says_nothing_is_found() {
        for text in [
            "What the kernel says.",
            "What setsockopt(2) says.",
            "The same.",
            "",
        ] {
            let source = format!("/// A.\n///\n/// # Errors\n///\n/// {text}\nfn f() {{}}\n");
            let file = File::planted("a.rs", &source);
            assert_eq!(lines(&check_errors(&[file])), [3], "{text}");
        }
        for text in [
            "EPERM without root.",
            "What mmap(2) says, `ENOMEM` for most.",
            "What bind(2) says, EADDRINUSE above all.",
            "The target does not resolve, or this host cannot send to it.",
            "What the kernel\n/// refuses of the ring; what it refuses of a reply is counted.",
        ] {
            let source =
                format!("/// # Errors\n/// {text}\n/// # Panics\n/// What the kernel says.");
            let file = File::planted("a.rs", &source);
            assert!(check_errors(&[file]).is_empty(), "{text}");
        }
    }

    #[test]
    fn a_leftover_is_found() {
        for leftover in LEFTOVERS {
            let text = format!("\n    {leftover}(x)");
            let found = check_leftovers(&[File::planted("a.sh", &text)]);
            assert_eq!(lines(&found), [2], "{leftover}");
        }
        let text = concat!("mktemp a.XX", "XXXX");
        assert_eq!(check_leftovers(&[File::planted("a.sh", text)]), []);
    }
}
