//! Tidy: the rules of this repository that a program can check, checked.
//!
//! Walls: who may know whom ([`crates`], [`rooms`]), as the tables of ARCHITECTURE.md say, and no
//! circle ([`circles`]). Text: [`words`] with one meaning, [`size`] of lines and files, [`links`]
//! that lead somewhere, [`docs`] that say something, [`log_lines`] that are explained,
//! [`unsafe_code`] where it belongs. Each rule has a test of its own beside it that plants what it
//! has to find.
//!
//! What is found and has its reason is in the list of its rule, never in a comment at the place.

mod circles;
mod crates;
mod docs;
mod files;
mod finding;
mod lexer;
mod links;
mod log_lines;
mod modules;
mod pending;
mod rooms;
mod size;
mod tables;
mod unsafe_code;
mod words;

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

#[test]
fn words_have_one_meaning() {
    hold(words::check(&files::all(), words::REASONS));
}

#[test]
fn lines_fit() {
    hold(size::check_lines(&files::all()));
}

#[test]
fn files_hold_one_idea() {
    hold(size::check_files(&files::all(), size::LONGER));
}

#[test]
fn links_lead_somewhere() {
    hold(links::check(&files::all(), |path| {
        files::root().join(path).exists()
    }));
}

#[test]
fn sections_about_errors_name_them() {
    hold(docs::check_errors(&files::all()));
}

#[test]
fn nothing_is_left_to_do() {
    hold(docs::check_leftovers(&files::all()));
}

#[test]
fn every_line_of_the_log_is_explained() {
    hold(log_lines::check(
        &files::all(),
        &File::open("OPERATIONS.md"),
    ));
}

#[test]
fn unsafe_code_is_where_it_belongs() {
    hold(unsafe_code::check_rooms(&files::all()));
    hold(unsafe_code::check_crates(&files::all()));
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
