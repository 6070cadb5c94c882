//! The modules of a crate and which of them names which, read from its source.
//!
//! A file is a module. What stands inside it in braces is part of it, and what is compiled for
//! tests only is left out: tests may know whatever they like.

use std::collections::BTreeSet;

use crate::circles::circles;
use crate::files::File;
use crate::finding::Finding;
use crate::lexer::{Token, tokens};

/// One file's mention of another, or of a crate of this workspace.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Arrow {
    /// The path of the module, such as `engine::uring`; empty for the root.
    pub from: String,
    pub to: Target,
    pub path: String,
    pub line: usize,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Target {
    /// A module of the same crate.
    Module(String),
    /// A crate by its name without `reflector_`.
    Crate(String),
}

/// The modules of one crate.
#[derive(Debug)]
pub struct Modules {
    /// Paths of all of them, the root's first.
    pub names: BTreeSet<String>,
    pub arrows: Vec<Arrow>,
}

/// The root files of the workspace's crates: libraries and the program.
pub fn roots(files: &[File]) -> impl Iterator<Item = &str> {
    let is_root = |path: &&str| {
        let in_crate = path.starts_with("crates/") && path.ends_with("/src/lib.rs");
        in_crate || ["src/lib.rs", "src/bin/reflector/main.rs"].contains(path)
    };
    files.iter().map(|it| it.path.as_str()).filter(is_root)
}

/// The modules below the root file at `root`.
pub fn read(files: &[File], root: &str) -> Modules {
    let folder = &root[..=root.rfind('/').expect("a root in a folder")];
    let mut sources: Vec<(String, &File)> = files
        .iter()
        .filter(|file| file.is_rust())
        .filter_map(|file| {
            let within = file.path.strip_prefix(folder)?.strip_suffix(".rs")?;
            let is_root = file.path == root;
            (is_root || !within.starts_with("bin/")).then(|| {
                let name = if is_root { "" } else { within };
                (name.replace('/', "::"), file)
            })
        })
        .collect();
    assert!(!sources.is_empty(), "there is no {root}");
    let for_tests: Vec<String> = sources
        .iter()
        .flat_map(|(name, file)| test_files(name, &file.text))
        .collect();
    sources.retain(|(name, _)| !for_tests.iter().any(|it| is_within(name, it)));
    let names: BTreeSet<String> = sources.iter().map(|(name, _)| name.clone()).collect();
    let arrows = sources
        .iter()
        .flat_map(|(name, file)| Reader::new(name, &names).read(file))
        .collect();
    Modules { names, arrows }
}

/// Circles among the files of a crate.
pub fn check_circles(modules: &Modules) -> Vec<Finding> {
    let edges = modules.arrows.iter().filter_map(|arrow| match &arrow.to {
        Target::Module(to) => Some((arrow.from.as_str(), to.as_str())),
        Target::Crate(_) => None,
    });
    circles(edges)
        .into_iter()
        .map(|circle| circle_finding(modules, &circle))
        .collect()
}

fn circle_finding(modules: &Modules, circle: &[&str]) -> Finding {
    let places: Vec<&Arrow> = circle
        .windows(2)
        .filter_map(|pair| {
            let mut arrows = modules.arrows.iter();
            arrows.find(|it| it.from == pair[0] && it.to == Target::Module(pair[1].to_owned()))
        })
        .collect();
    let names: Vec<&str> = circle.iter().map(|it| shown(it)).collect();
    let at: Vec<String> = places
        .iter()
        .map(|it| format!("{}:{}", it.path, it.line))
        .collect();
    Finding {
        rule: "circles",
        path: places[0].path.clone(),
        line: places[0].line,
        what: format!("circle: {} ({})", names.join(" → "), at.join(", ")),
    }
}

fn shown(name: &str) -> &str {
    if name.is_empty() { "the root" } else { name }
}

fn is_within(name: &str, outer: &str) -> bool {
    name.strip_prefix(outer)
        .is_some_and(|rest| rest.is_empty() || rest.starts_with("::"))
}

/// Modules that `mod` declares for tests only, in files of their own.
fn test_files(module: &str, text: &str) -> Vec<String> {
    let tokens = tokens(text);
    let mut found = Vec::new();
    for at in 0..tokens.len() {
        if let Some(item) = test_item(&tokens, at) {
            for window in tokens[at..item].windows(3) {
                if let [
                    (_, Token::Word("mod")),
                    (_, Token::Word(name)),
                    (_, Token::Sign(';')),
                ] = window
                {
                    found.push(join(module, name));
                }
            }
        }
    }
    found
}

/// Where the item ends that `#[cfg(test)]`, beginning at `at`, is about.
fn test_item(tokens: &[(usize, Token<'_>)], at: usize) -> Option<usize> {
    let attribute = [Token::Sign('#'), Token::Sign('['), Token::Word("cfg")];
    if !tokens[at..].iter().map(|it| it.1).take(3).eq(attribute) {
        return None;
    }
    let len = tokens[at..]
        .iter()
        .position(|it| it.1 == Token::Sign(']'))?;
    let has = |word| {
        tokens[at..at + len]
            .iter()
            .any(|it| it.1 == Token::Word(word))
    };
    if !has("test") || has("not") {
        return None;
    }
    let mut depth = 0;
    for (index, (_, token)) in tokens.iter().enumerate().skip(at + len + 1) {
        match token {
            Token::Sign('{' | '(' | '[') => depth += 1,
            Token::Sign('}') if depth == 1 => return Some(index + 1),
            Token::Sign('}' | ')' | ']') => depth -= 1,
            Token::Sign(';') if depth == 0 => return Some(index + 1),
            _ => {}
        }
    }
    Some(tokens.len())
}

fn join(module: &str, name: &str) -> String {
    if module.is_empty() {
        name.to_owned()
    } else {
        format!("{module}::{name}")
    }
}

/// Reads the paths in one file.
struct Reader<'a> {
    file: &'a str,
    names: &'a BTreeSet<String>,
    /// Modules in braces around what is read, each with the depth of its brace.
    inner: Vec<(String, usize)>,
    depth: usize,
    arrows: Vec<Arrow>,
}

impl<'a> Reader<'a> {
    fn new(file: &'a str, names: &'a BTreeSet<String>) -> Self {
        Self {
            file,
            names,
            inner: Vec::new(),
            depth: 0,
            arrows: Vec::new(),
        }
    }

    fn read(mut self, file: &File) -> Vec<Arrow> {
        let tokens = tokens(&file.text);
        let mut at = 0;
        while at < tokens.len() {
            if let Some(end) = test_item(&tokens, at) {
                at = end;
                continue;
            }
            match &tokens[at..] {
                [
                    (_, Token::Word("mod")),
                    (_, Token::Word(name)),
                    (_, Token::Sign('{')),
                    ..,
                ] => {
                    self.inner.push(((*name).to_owned(), self.depth));
                    at += 1;
                }
                // `use<'_>` in a type is none.
                [(_, Token::Word("use")), (_, Token::Sign('<')), ..] => {}
                [(_, Token::Word("use")), ..] => {
                    let mut paths = Vec::new();
                    at = use_tree(&tokens, at + 1, &[], &mut paths);
                    for (line, path) in paths {
                        self.mention(file, line, &path);
                    }
                    continue;
                }
                [(_, Token::Sign('{')), ..] => self.depth += 1,
                [(_, Token::Sign('}')), ..] => {
                    self.depth = self.depth.saturating_sub(1);
                    self.inner.retain(|it| it.1 < self.depth);
                }
                [(line, Token::Word(_)), ..] => {
                    let path = path(&tokens[at..]);
                    if path.len() > 1 {
                        self.mention(file, *line, &path);
                        // Words and the two colons between each.
                        at += 3 * (path.len() - 1);
                    }
                }
                _ => {}
            }
            at += 1;
        }
        self.arrows
    }

    fn mention(&mut self, file: &File, line: usize, path: &[&str]) {
        let to = if let Some(name) = path[0].strip_prefix("reflector_") {
            Target::Crate(name.to_owned())
        } else if let Some(to) = self.resolve(path) {
            Target::Module(to)
        } else {
            return;
        };
        let arrow = Arrow {
            from: self.file.to_owned(),
            to,
            path: file.path.clone(),
            line,
        };
        if arrow.to != Target::Module(arrow.from.clone()) {
            self.arrows.push(arrow);
        }
    }

    /// The module that `path` leads to or into, if it is one of this crate.
    fn resolve(&self, path: &[&str]) -> Option<String> {
        let inner = self.inner.iter().map(|it| it.0.as_str());
        let file = self.file.split("::").filter(|it| !it.is_empty());
        let mut here: Vec<&str> = file.chain(inner).collect();
        let mut rest = path;
        match path[0] {
            "crate" => here.clear(),
            "self" | "super" => {}
            // A child of the module at hand: any other name is a crate's, or was imported.
            name if self.names.contains(&join(&here.join("::"), name)) => {}
            _ => return None,
        }
        while let Some(&first) = rest.first() {
            match first {
                "super" => _ = here.pop(),
                "crate" | "self" => {}
                _ => break,
            }
            rest = &rest[1..];
        }
        here.extend(rest);
        while !self.names.contains(&here.join("::")) {
            here.pop();
        }
        Some(here.join("::"))
    }
}

/// The path that `tokens` begin with.
fn path<'a>(tokens: &[(usize, Token<'a>)]) -> Vec<&'a str> {
    let mut path = Vec::new();
    let mut rest = tokens;
    while let [(_, Token::Word(word)), after @ ..] = rest {
        path.push(*word);
        match after {
            [(_, Token::Sign(':')), (_, Token::Sign(':')), next @ ..] => rest = next,
            _ => break,
        }
    }
    path
}

/// Reads a tree of `use` from `at`, after `prefix`; returns where it ends.
fn use_tree<'a>(
    tokens: &[(usize, Token<'a>)],
    mut at: usize,
    prefix: &[&'a str],
    paths: &mut Vec<(usize, Vec<&'a str>)>,
) -> usize {
    let mut path = prefix.to_vec();
    let line = tokens.get(at).map_or(0, |it| it.0);
    while let Some((_, token)) = tokens.get(at) {
        match token {
            Token::Word("as") => at += 2,
            Token::Word(word) => {
                path.push(word);
                at += 1;
            }
            Token::Sign('{') => {
                at += 1;
                while !matches!(tokens.get(at), None | Some((_, Token::Sign('}')))) {
                    at = use_tree(tokens, at, &path, paths);
                    if tokens.get(at).map(|it| it.1) == Some(Token::Sign(',')) {
                        at += 1;
                    }
                }
                return at + 1;
            }
            Token::Sign(',' | ';' | '}') => break,
            _ => at += 1,
        }
    }
    paths.push((line, path));
    at
}

#[cfg(test)]
mod tests;
