use super::*;

/// "from to line" of each arrow in a crate of these files.
fn arrows(files: &[(&str, &str)]) -> Vec<String> {
    let modules = planted(files);
    let shown = modules.arrows.iter().map(|arrow| match &arrow.to {
        Target::Module(to) => format!("{} {} {}", shown(&arrow.from), shown(to), arrow.line),
        Target::Crate(to) => format!("{} +{to} {}", shown(&arrow.from), arrow.line),
    });
    shown.collect()
}

fn planted(files: &[(&str, &str)]) -> Modules {
    let files: Vec<File> = files
        .iter()
        .map(|(path, text)| File::planted(path, text))
        .collect();
    read(&files, "src/lib.rs")
}

const FILES: [(&str, &str); 3] = [("src/lib.rs", ""), ("src/a.rs", ""), ("src/a/b.rs", "")];

#[test]
fn each_form_of_an_import_is_an_arrow() {
    let text = "use std::io;\n\
                use crate::a::{self, b::{C, D as E}, F};\n\
                pub(super) use super::*;\n\
                fn f(x: crate::a::G) { self::h(); super::a::b::i::<J>() }\n\
                // use crate::a;\n\
                use reflector_udp::{addr, mmsg};\n\
                fn k() -> impl L + use<'_> { a; }";
    let mut files = FILES.to_vec();
    files.push(("src/c.rs", text));
    assert_eq!(
        arrows(&files),
        [
            "c a 2",
            "c a::b 2",
            "c a::b 2",
            "c a 2",
            "c the root 3",
            "c a 4",
            "c a::b 4",
            "c +udp 6",
            "c +udp 6",
        ]
    );
}

#[test]
fn a_parent_that_uses_its_child_knows_it_and_one_that_declares_it_does_not() {
    let mut files = FILES.to_vec();
    files[1].1 = "mod b;";
    assert!(arrows(&files).is_empty());
    files[1].1 = "mod b;\nuse b::C;\nfn f() { b::g() }";
    assert_eq!(arrows(&files), ["a a::b 2", "a a::b 3"]);
}

#[test]
fn what_stands_in_braces_belongs_to_its_file() {
    let mut files = FILES.to_vec();
    files[2].1 = "mod field { use super::X; mod deep { use super::super::super::Y; } }\n\
                  use super::Z;";
    assert_eq!(arrows(&files), ["a::b a 1", "a::b a 2"]);
}

#[test]
fn what_is_for_tests_only_is_free() {
    let mut files = FILES.to_vec();
    files[1].1 = "#[cfg(test)]\nmod b;\n#[cfg(test)] use crate::c;\n\
                  #[cfg(test)] mod tests { fn f() { crate::c::g(); } }\n\
                  #[cfg(not(test))] use crate::c;";
    files[2].1 = "use crate::c;";
    files.push(("src/c.rs", ""));
    assert_eq!(arrows(&files), ["a c 5"]);
}

#[test]
fn a_circle_of_files_is_found() {
    let mut files = FILES.to_vec();
    files[1].1 = "mod b;\nuse b::C;";
    files[2].1 = "\n\nuse super::D;";
    let findings = check_circles(&planted(&files));
    assert_eq!(
        findings[0].to_string(),
        "src/a.rs:2: circle: a → a::b → a (src/a.rs:2, src/a/b.rs:3) [circles]"
    );
}

#[test]
fn the_program_is_no_part_of_the_library_beside_it() {
    let mut files = FILES.to_vec();
    files.push(("src/bin/reflector/main.rs", "use crate::a;"));
    assert!(arrows(&files).is_empty());
}
