//! Tells the program the commit that it is built from: what `REFLECTOR_COMMIT` says, or git, or
//! nobody.
//!
//! Git is asked for optimized builds only, and only when what they are made of has changed: a
//! commit alone has nothing built anew, and what is there was built from an earlier one with the
//! same files. One that was built before its files were committed is built anew then.

#![allow(
    clippy::disallowed_macros,
    clippy::disallowed_methods,
    reason = "cargo tells by the environment and is told by stdout"
)]

use std::env;
use std::path::Path;
use std::process::Command;

fn main() {
    println!("cargo::rerun-if-env-changed=REFLECTOR_COMMIT");
    println!("cargo::rerun-if-changed=build.rs");
    // The library says nothing of it.
    if env::var_os("CARGO_FEATURE_CLI").is_none() {
        return;
    }
    let said = env::var("REFLECTOR_COMMIT").ok();
    let said = said.filter(|it| !it.is_empty()).or_else(of_git);
    let commit = said.unwrap_or_else(|| "unknown".to_owned());
    // Not the name of a variable of ours: cargo hands it on to what it runs.
    println!("cargo::rustc-env=BUILT_FROM_COMMIT={commit}");
}

/// What the program is made of.
const SOURCES: [&str; 5] = ["src", "crates", "Cargo.toml", "Cargo.lock", "build.rs"];

/// The commit that is checked out now, with `-dirty` where sources differ from it.
fn of_git() -> Option<String> {
    if env::var("PROFILE").ok()? != "release" {
        return None;
    }
    // This folder may lie in somebody else's repository, as an unpacked crate does.
    let top = git(&["rev-parse", "--show-toplevel"])?;
    let here = env::var("CARGO_MANIFEST_DIR").ok()?;
    if Path::new(&top).canonicalize().ok()? != Path::new(&here).canonicalize().ok()? {
        return None;
    }
    for path in SOURCES {
        println!("cargo::rerun-if-changed={path}");
    }
    let commit = git(&["rev-parse", "--short=12", "HEAD"])?;
    if git(&[&["diff", "--quiet", "HEAD", "--"], &SOURCES[..]].concat()).is_some() {
        return Some(commit);
    }
    if let Some(log) = git(&["rev-parse", "--git-path", "logs/HEAD"])
        && Path::new(&log).exists()
    {
        println!("cargo::rerun-if-changed={log}");
    }
    Some(format!("{commit}-dirty"))
}

fn git(args: &[&str]) -> Option<String> {
    let mut git = Command::new("git");
    // What is only asked writes nothing.
    git.args(args).env("GIT_OPTIONAL_LOCKS", "0");
    let output = git.output().ok().filter(|it| it.status.success())?;
    let text = String::from_utf8(output.stdout).ok()?;
    Some(text.trim().to_owned())
}
