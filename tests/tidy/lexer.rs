//! Rust source as tokens: enough to know code from comments and text.

/// A piece of code. Comments and blanks are none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Token<'a> {
    /// An identifier or keyword; a raw one without its `r#`.
    Word(&'a str),
    /// One character of punctuation.
    Sign(char),
    /// Text, a number, a character, a lifetime: nothing that names anything.
    Other,
}

/// The tokens of `source`, each with its line.
pub fn tokens(source: &str) -> Vec<(usize, Token<'_>)> {
    let mut tokens = Vec::new();
    let mut rest = source;
    let mut line = 1;
    while let Some(first) = rest.chars().next() {
        let (len, token) = next(rest, first);
        tokens.extend(token.map(|token| (line, token)));
        line += rest[..len].matches('\n').count();
        rest = &rest[len..];
    }
    tokens
}

/// Bytes of what `rest` begins with, and its token if it has one.
fn next(rest: &str, first: char) -> (usize, Option<Token<'_>>) {
    if rest.starts_with("//") {
        (rest.find('\n').unwrap_or(rest.len()), None)
    } else if rest.starts_with("/*") {
        (block_comment(rest), None)
    } else if let Some(len) = text(rest) {
        (len, Some(Token::Other))
    } else if let Some(raw) = rest.strip_prefix("r#") {
        let len = word(raw);
        (2 + len, Some(Token::Word(&raw[..len])))
    } else if first.is_alphabetic() || first == '_' {
        let len = word(rest);
        (len, Some(Token::Word(&rest[..len])))
    } else if first.is_ascii_digit() {
        (word(rest), Some(Token::Other))
    } else if first == '\'' {
        (character_or_lifetime(rest), Some(Token::Other))
    } else {
        let token = (!first.is_whitespace()).then_some(Token::Sign(first));
        (first.len_utf8(), token)
    }
}

fn word(rest: &str) -> usize {
    rest.find(|c: char| !c.is_alphanumeric() && c != '_')
        .unwrap_or(rest.len())
}

/// Block comments nest.
fn block_comment(rest: &str) -> usize {
    let mut depth = 0;
    let mut at = 0;
    loop {
        match rest.get(at..at + 2) {
            Some("/*") => (depth, at) = (depth + 1, at + 2),
            Some("*/") => (depth, at) = (depth - 1, at + 2),
            _ => at += 1,
        }
        if depth == 0 || at >= rest.len() {
            return at.min(rest.len());
        }
    }
}

/// `"…"`, `r#"…"#`, and both after `b` or `c`.
fn text(rest: &str) -> Option<usize> {
    let prefix = rest.find(|c| !matches!(c, 'b' | 'c' | 'r'))?;
    let (kind, body) = rest.split_at(prefix);
    if !["", "b", "c", "r", "br", "cr"].contains(&kind) {
        return None;
    }
    if !kind.ends_with('r') {
        let quoted = body.strip_prefix('"')?;
        return Some(prefix + 1 + closing(quoted, '"'));
    }
    let hashes = body.find(|c| c != '#')?;
    let quoted = body[hashes..].strip_prefix('"')?;
    let end = format!("\"{}", "#".repeat(hashes));
    let len = quoted.find(&end).map_or(quoted.len(), |at| at + end.len());
    Some(prefix + hashes + 1 + len)
}

/// Bytes up to and with the first `quote` that has no backslash before it.
fn closing(quoted: &str, quote: char) -> usize {
    let mut is_escaped = false;
    for (at, c) in quoted.char_indices() {
        if !is_escaped && c == quote {
            return at + c.len_utf8();
        }
        is_escaped = !is_escaped && c == '\\';
    }
    quoted.len()
}

fn character_or_lifetime(rest: &str) -> usize {
    let body = &rest[1..];
    let mut chars = body.chars();
    match (chars.next(), chars.next()) {
        (Some('\\'), _) | (Some(_), Some('\'')) => 1 + closing(body, '\''),
        _ => 1 + word(body),
    }
}

#[test]
fn comments_and_text_are_no_code() {
    let source = r####"// a
    /* b /* c */ d */ e "f \" g" r#"h " i"# b"j" 'k' '\'' 'l m r#n 0x1f_u8
    ::"####;
    let words: Vec<_> = tokens(source)
        .into_iter()
        .filter(|(_, token)| *token != Token::Other)
        .collect();
    assert_eq!(
        words,
        [
            (2, Token::Word("e")),
            (2, Token::Word("m")),
            (2, Token::Word("n")),
            (3, Token::Sign(':')),
            (3, Token::Sign(':')),
        ]
    );
}

#[test]
fn words_that_begin_like_text_are_words() {
    let words = tokens("break crate b r");
    let expected = ["break", "crate", "b", "r"].map(|it| (1, Token::Word(it)));
    assert_eq!(words, expected);
}
