//! Words with one meaning: what this program called something once, and what the field calls it.
//!
//! A word is found however it is written: `last words`, `last_words`, `LastWords`, over the end of
//! a line too. Names that are ordinary words elsewhere count as whole identifiers only.

use std::collections::HashMap;
use std::sync::LazyLock;

use crate::files::File;
use crate::finding::Finding;
use crate::lexer::{Token, tokens};

/// Everywhere in Rust, Markdown, scripts and manifests: not this, but that.
const WORDS: &[(&str, &str)] = &[
    // io_uring and sockets
    ("at rest", "idle"),
    ("rush", "busy"),
    ("rushes", "busy"),
    ("look at a socket", "non-blocking receive"),
    ("look at the socket", "non-blocking receive"),
    ("looks at a socket", "receives without blocking"),
    ("looks at the socket", "receives without blocking"),
    ("such a look", "non-blocking receive"),
    ("first look", "first non-blocking receive"),
    ("lent", "in the kernel"),
    ("at home", "owned"),
    ("go home", "come back"),
    ("goes home", "comes back"),
    ("gone home", "come back"),
    ("comes home", "comes back"),
    ("taken home", "taken back"),
    ("repost", "re-arm"),
    ("dstaddr", "pktinfo"),
    ("ancillary", "control message"),
    ("dst ip", "local address"),
    ("src ip", "local address"),
    // counting and measuring
    ("books", "counters, accounting"),
    ("tally", "counters"),
    ("tallies", "counters"),
    ("a stay", "residence time"),
    ("stay ns", "residence_ns"),
    ("jitter", "delay variation"),
    ("qps", "pps"),
    // the tools
    ("household", "process group"),
    ("servant", "child server"),
    ("servants", "child servers"),
    ("last words", "stderr tail"),
    ("contestant", "server under test"),
    ("contestants", "servers under test"),
    ("witness", "sniffer, capture"),
    ("witnesses", "sniffers, captures"),
    ("cure", "remedy"),
    ("cures", "remedies"),
    ("moral", "conclusion"),
    ("morals", "conclusions"),
    // turns of phrase
    ("be had", "be available, available"),
    ("to be thought of", "verdict on"),
    ("so long", "for DURATION, as long"),
    ("so often", "every INTERVAL, COUNT times"),
    ("whether to do without", "skip"),
];

/// As a whole identifier in Rust code below a folder, as written here.
const IDENTIFIERS: &[(&str, &str, &str)] = &[
    ("crates/udp/", "Name", "PeerAddr, SockAddr"),
    ("src/", "Way", "SocketPair"),
    ("", "stay", "residence"),
];

/// Where a word stands for a reason: the file, the word, why.
pub type Reason = (&'static str, &'static str, &'static str);

pub const REASONS: &[Reason] = &[
    (
        "README.md",
        "jitter",
        "what readers look for, where delay variation is explained",
    ),
    ("RELIABILITY.md", "src ip", "an option of irtt"),
    (
        "src/bin/reflector/serve/takeover/wire.rs",
        "ancillary",
        "what rustix calls the buffers of control messages",
    ),
    (
        "tests/program/takeover.rs",
        "ancillary",
        "what rustix calls the buffers of control messages",
    ),
];

/// What may stand between the words of a phrase: in identifiers, before a line of a comment, at the
/// end of a line of text.
const WITHIN: &str = "_-/!#>*\\`'";

/// This file says the words in order to forbid them, and the changelog what they became.
const EXEMPT: [&str; 2] = ["tests/tidy/words.rs", "CHANGELOG.md"];

pub fn check(files: &[File], reasons: &[Reason]) -> Vec<Finding> {
    let mut findings: Vec<Finding> = files
        .iter()
        .filter(|file| !EXEMPT.contains(&file.path.as_str()))
        .flat_map(|file| {
            let mut findings = check_words(file);
            if file.is_rust() {
                findings.extend(check_identifiers(file));
            }
            findings
        })
        .collect();
    for (path, word, reason) in reasons {
        let found = findings.len();
        findings.retain(|it| it.path != *path || !it.what.starts_with(&quoted(word)));
        if findings.len() == found {
            let file = File::planted(path, "");
            let what = format!("is gone, and still has a reason: {reason}");
            findings.push(finding(&file, 1, word, &what));
        }
    }
    findings
}

fn check_words(file: &File) -> Vec<Finding> {
    let words: Vec<(usize, String)> = file
        .lines()
        .flat_map(|(line, text)| words(text).into_iter().map(move |word| (line, word)))
        .collect();
    let mut findings = Vec::new();
    for at in 0..words.len() {
        for (phrase, banned, instead) in phrases_from(&words[at].1) {
            let here = words[at..]
                .iter()
                .take(phrase.len())
                .map(|it| it.1.as_str());
            if here.eq(phrase.iter().copied()) {
                let what = format!("say {instead}");
                findings.push(finding(file, words[at].0, banned, &what));
            }
        }
    }
    findings
}

type Phrase = (Vec<&'static str>, &'static str, &'static str);

/// What is not said, by its first word.
fn phrases_from(first: &str) -> &'static [Phrase] {
    static PHRASES: LazyLock<HashMap<&str, Vec<Phrase>>> = LazyLock::new(|| {
        let mut phrases: HashMap<&str, Vec<Phrase>> = HashMap::new();
        for &(banned, instead) in WORDS {
            let phrase: Vec<&str> = banned.split(' ').collect();
            let same = phrases.entry(phrase[0]).or_default();
            same.push((phrase, banned, instead));
        }
        phrases
    });
    PHRASES.get(first).map_or(&[], Vec::as_slice)
}

fn check_identifiers(file: &File) -> Vec<Finding> {
    let mut findings = Vec::new();
    for (line, token) in tokens(&file.text) {
        for &(folder, banned, instead) in IDENTIFIERS {
            if token == Token::Word(banned) && file.path.starts_with(folder) {
                let what = format!("say {instead}");
                findings.push(finding(file, line, banned, &what));
            }
        }
    }
    findings
}

fn finding(file: &File, line: usize, banned: &str, what: &str) -> Finding {
    Finding {
        rule: "words",
        path: file.path.clone(),
        line,
        what: quoted(banned) + what,
    }
}

fn quoted(word: &str) -> String {
    format!("\"{word}\": ")
}

/// The words of `text` in small letters; those that an identifier is made of are words as well.
/// What separates code or sentences is an empty one, so that no phrase goes across.
fn words(text: &str) -> Vec<String> {
    let mut words = Vec::new();
    let mut word = String::new();
    let mut was_small = false;
    for c in text.chars() {
        let ends = !c.is_alphanumeric() || (c.is_uppercase() && was_small);
        if ends && !word.is_empty() {
            words.push(std::mem::take(&mut word));
        }
        if c.is_alphanumeric() {
            word.extend(c.to_lowercase());
        }
        was_small = c.is_lowercase();
        if c.is_ascii_punctuation() && !WITHIN.contains(c) {
            words.push(String::new());
        }
    }
    if !word.is_empty() {
        words.push(word);
    }
    words
}

#[cfg(test)]
mod tests {
    use super::*;

    fn whats(path: &str, text: &str) -> Vec<(usize, String)> {
        let findings = check(&[File::planted(path, text)], &[]);
        findings.into_iter().map(|it| (it.line, it.what)).collect()
    }

    #[test]
    fn a_word_is_found_however_it_is_written() {
        let found = |line| (line, "\"last words\": say stderr tail".to_owned());
        for text in ["LastWords", "last_words", "Last words,", "its-LAST_WORDS"] {
            assert_eq!(whats("a.md", text), [found(1)], "{text}");
        }
        assert_eq!(whats("a.rs", "\n/// The last\n/// words."), [found(2)]);
        assert_eq!(
            whats("a.md", "lastwords, the last of words; last, words"),
            []
        );
    }

    #[test]
    fn an_identifier_is_found_in_code_only() {
        let found = (2, "\"Way\": say SocketPair".to_owned());
        let source = "// Way\nfn f(way: Way) {\"Way\"}";
        assert_eq!(whats("src/a.rs", source), [found]);
        assert_eq!(whats("crates/a.rs", source), []);
        assert_eq!(whats("src/a.md", "Way"), []);
    }

    #[test]
    fn a_word_says_what_to_say_instead_and_is_said_once() {
        let identifiers = IDENTIFIERS.iter().map(|it| it.1);
        let banned: Vec<&str> = WORDS.iter().map(|it| it.0).chain(identifiers).collect();
        for (index, word) in banned.iter().enumerate() {
            assert!(!banned[..index].contains(word), "{word} stands twice");
        }
        assert!(WORDS.iter().all(|(word, _)| words(word).join(" ") == *word));
    }

    #[test]
    fn a_word_with_a_reason_may_stand_until_nothing_needs_it_any_more() {
        let reasons = [("a.md", "cure", "a quotation")];
        let found = |path, text| check(&[File::planted(path, text)], &reasons);
        assert_eq!(found("a.md", "cure, the cure"), []);
        assert_eq!(found("b.md", "cure").len(), 2);
        let gone = "\"cure\": is gone, and still has a reason: a quotation";
        assert_eq!(found("a.md", "a remedy")[0].what, gone);
    }
}
