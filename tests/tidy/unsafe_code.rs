//! Where unsafe code may be. That each block has its proof, clippy sees to.

use std::collections::BTreeSet;

use crate::files::File;
use crate::finding::Finding;
use crate::lexer::{Token, tokens};

/// What unsafe code may be below, and why there.
const ROOMS: [(&str, &str); 4] = [
    ("crates/udp/src/", "the kernel's UDP dialect"),
    ("src/engine/uring/", "memory shared with the kernel"),
    ("tests/allocation.rs", "an allocator that counts"),
    (
        "benches/reflect/plain.rs",
        "the plain loop shares no code with what it is compared with",
    ),
];

/// Crates that forbid unsafe code in some of their modules only.
const WITH_ROOMS: [&str; 2] = ["crates/udp/src/lib.rs", "src/lib.rs"];

/// `unsafe` elsewhere.
pub fn check_rooms(files: &[File]) -> Vec<Finding> {
    let mut findings = Vec::new();
    for file in files.iter().filter(|it| it.is_rust()) {
        let is_room = ROOMS.iter().any(|(room, _)| file.path.starts_with(room));
        for (line, token) in tokens(&file.text) {
            if token == Token::Word("unsafe") && !is_room {
                findings.push(finding(file, line, "unsafe code has no place here"));
            }
        }
    }
    for (room, reason) in ROOMS {
        let mut rooms = files.iter().filter(|it| it.path.starts_with(room));
        if !rooms.any(|it| {
            tokens(&it.text)
                .iter()
                .any(|it| it.1 == Token::Word("unsafe"))
        }) {
            let file = File::planted("tests/tidy/unsafe_code.rs", "");
            findings.push(finding(
                &file,
                1,
                &format!("{room} ({reason}) needs none any more"),
            ));
        }
    }
    findings
}

/// Crates without such a room that do not forbid it.
pub fn check_crates(files: &[File]) -> Vec<Finding> {
    let rooms = BTreeSet::from(WITH_ROOMS);
    crate::modules::roots(files)
        .filter(|root| !rooms.contains(root))
        .filter_map(|root| files.iter().find(|it| it.path == root))
        .filter(|file| !file.text.contains("\n#![forbid(unsafe_code)]\n"))
        .map(|file| finding(file, 1, "begins without #![forbid(unsafe_code)]"))
        .collect()
}

fn finding(file: &File, line: usize, what: &str) -> Finding {
    Finding {
        rule: "unsafe",
        path: file.path.clone(),
        line,
        what: what.to_owned(),
    }
}

#[test]
fn unsafe_code_elsewhere_is_found() {
    let mut files: Vec<File> = ROOMS
        .iter()
        .map(|(room, _)| {
            if room.ends_with('/') {
                format!("{room}a.rs")
            } else {
                room.to_string()
            }
        })
        .map(|path| File::planted(&path, "unsafe {}"))
        .collect();
    assert_eq!(check_rooms(&files), []);
    files.push(File::planted("src/guard.rs", "// unsafe\nunsafe fn f() {}"));
    assert_eq!(
        check_rooms(&files)[0].to_string(),
        "src/guard.rs:2: unsafe code has no place here [unsafe]"
    );
    files.remove(0);
    assert!(check_rooms(&files)[1].what.contains("crates/udp/src/"));
}

#[test]
fn a_crate_that_does_not_forbid_it_is_found() {
    let forbids = File::planted("crates/a/src/lib.rs", "//! A.\n\n#![forbid(unsafe_code)]\n");
    let allows = File::planted("crates/b/src/lib.rs", "//! B.\n");
    let udp = File::planted("crates/udp/src/lib.rs", "");
    let found = check_crates(&[forbids, allows, udp]);
    assert_eq!(found.len(), 1);
    assert_eq!(found[0].path, "crates/b/src/lib.rs");
}
