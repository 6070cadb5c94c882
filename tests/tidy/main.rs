//! Tidy: the rules of this repository that a program can check, checked.
//!
//! Walls: who may know whom ([`crates`], [`rooms`]), as the tables of ARCHITECTURE.md say, and no
//! circle ([`circles`]). Each rule has a test of its own beside it that plants what it has to find.

mod circles;
mod crates;
mod files;
mod finding;
mod lexer;
mod modules;
mod pending;
mod rooms;
mod tables;

use std::process::Command;

use files::File;
use finding::Finding;

#[test]
fn crates_depend_on_what_their_table_allows() {
    let packages = crates::packages(&metadata());
    hold(crates::check(
        &packages,
        &tables::read(&architecture(), "crate"),
    ));
    hold(crates::check_owners(
        &packages,
        &tables::read(&architecture(), "crate from outside"),
    ));
}

#[test]
fn no_crate_depends_on_itself_by_way_of_others() {
    hold(crates::check_circles(&crates::packages(&metadata())));
}

#[test]
fn rooms_of_the_heart_import_what_their_table_allows() {
    let modules = modules::read(&files::all(), "src/lib.rs");
    hold(rooms::check(
        &modules,
        &tables::read(&architecture(), "room"),
    ));
}

#[test]
fn rooms_of_the_heart_form_no_circle() {
    let modules = modules::read(&files::all(), "src/lib.rs");
    hold(rooms::check_circles(&modules));
    hold(rooms::check_table_circles(&tables::read(
        &architecture(),
        "room",
    )));
}

#[test]
fn files_of_a_crate_form_no_circle() {
    let files = files::all();
    let roots = modules::roots(&files);
    hold(
        roots
            .flat_map(|root| modules::check_circles(&modules::read(&files, root)))
            .collect(),
    );
}

/// Fails with everything that was found, but for what is [`pending`].
fn hold(findings: Vec<Finding>) {
    let findings: Vec<String> = findings
        .into_iter()
        .filter(|it| !pending::covers(it))
        .map(|it| it.to_string())
        .collect();
    assert!(
        findings.is_empty(),
        "{} found:\n{}",
        findings.len(),
        findings.join("\n")
    );
}

fn architecture() -> File {
    File::open("ARCHITECTURE.md")
}

/// What cargo knows of the workspace's own packages.
fn metadata() -> serde_json::Value {
    let output = Command::new(env!("CARGO"))
        .args(["metadata", "--format-version", "1", "--no-deps"])
        .args(["--offline", "--locked"])
        .current_dir(files::root())
        .output()
        .expect("cargo starts");
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    serde_json::from_slice(&output.stdout).expect("cargo metadata prints JSON")
}
