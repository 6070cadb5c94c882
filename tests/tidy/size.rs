//! Sizes of lines and of files.

use crate::files::File;
use crate::finding::Finding;

/// Characters of a line.
const LINE_MAX: usize = 100;
/// Lines of a file.
const FILE_MAX: usize = 400;
/// Lines that a file may be shorter than it is allowed to be, before the allowance is lowered.
const SLACK: usize = 50;

/// A longer file: its path, its lines at most, and why it is one idea all the same.
pub type Longer = (&'static str, usize, &'static str);

pub const LONGER: &[Longer] = &[];

/// Lines of Rust and of Markdown's prose. A table's row and a link cannot be wrapped.
pub fn check_lines(files: &[File]) -> Vec<Finding> {
    let mut findings = Vec::new();
    for file in files.iter().filter(|it| it.is_rust() || it.is_markdown()) {
        for (line, text) in file.lines() {
            let len = text.chars().count();
            let is_prose = file.is_rust() || !(text.starts_with('|') || text.contains("]("));
            if len > LINE_MAX && is_prose && !text.contains("://") {
                findings.push(Finding {
                    rule: "lines",
                    path: file.path.clone(),
                    line,
                    what: format!("{len} characters; {LINE_MAX} fit"),
                });
            }
        }
    }
    findings
}

/// Files of Rust, but for those that are `longer` with a reason.
pub fn check_files(files: &[File], longer: &[Longer]) -> Vec<Finding> {
    let mut findings = Vec::new();
    for file in files.iter().filter(|it| it.is_rust()) {
        let lines = file.text.lines().count();
        let allowed = longer.iter().find(|it| it.0 == file.path).map(|it| it.1);
        let what = match allowed {
            None if lines > FILE_MAX => format!(
                "{lines} lines: split it by idea, or give it its reason in tests/tidy/size.rs"
            ),
            Some(max) if lines > max => format!("{lines} lines, {max} allowed: it grows"),
            Some(max) if lines + SLACK < max || lines <= FILE_MAX => {
                format!("{lines} lines, {max} allowed: lower that in tests/tidy/size.rs")
            }
            _ => continue,
        };
        findings.push(Finding {
            rule: "files",
            path: file.path.clone(),
            line: 1,
            what,
        });
    }
    for (path, _, reason) in longer {
        if !files.iter().any(|it| it.path == *path) {
            findings.push(Finding {
                rule: "files",
                path: (*path).to_owned(),
                line: 1,
                what: format!("is gone, and still has a reason: {reason}"),
            });
        }
    }
    findings
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines_of(text: &str, path: &str) -> Vec<usize> {
        let findings = check_lines(&[File::planted(path, text)]);
        findings.iter().map(|it| it.line).collect()
    }

    #[test]
    fn a_line_too_long_is_found() {
        let fits = "ä".repeat(100);
        let long = "ä".repeat(101);
        assert_eq!(lines_of(&format!("{fits}\n{long}"), "a.rs"), [2]);
        assert_eq!(lines_of(&format!("{fits}\n{long}"), "a.md"), [2]);
        assert!(lines_of(&format!("| {long}\n[a](b) {long}"), "a.md").is_empty());
        assert_eq!(lines_of(&format!("| {long}\nhttps://{long}"), "a.rs"), [1]);
        assert!(lines_of(&long, "a.sh").is_empty());
    }

    fn whats(lines: usize, longer: &[Longer]) -> Vec<String> {
        let files = [File::planted("a.rs", &"\n".repeat(lines))];
        let findings = check_files(&files, longer);
        findings.into_iter().map(|it| it.what).collect()
    }

    #[test]
    fn a_file_too_long_is_found() {
        assert!(whats(400, &[]).is_empty());
        assert!(whats(401, &[])[0].contains("split it"));
    }

    #[test]
    fn an_allowance_is_a_ratchet() {
        let longer = [("a.rs", 500, "a reason")];
        assert!(whats(500, &longer).is_empty());
        assert!(whats(450, &longer).is_empty());
        assert_eq!(whats(501, &longer), ["501 lines, 500 allowed: it grows"]);
        assert!(whats(449, &longer)[0].contains("lower that"));
        assert!(whats(400, &[("a.rs", 410, "")])[0].contains("lower that"));
        assert!(whats(1, &[("b.rs", 500, "")])[0].contains("is gone"));
    }
}
