//! Lists of prefixes, as `--allow-file` and `--deny-file` read them.

#![no_main]
#![allow(dead_code, reason = "parts of the program, which uses all of them")]

use libfuzzer_sys::fuzz_target;

#[path = "../../src/bin/reflector/serve/peers/files.rs"]
mod files;
#[path = "../../src/bin/reflector/serve/peers/prefix.rs"]
mod prefix;

/// One line has eleven at most.
const PREFIXES_MAX: usize = 20;

fuzz_target!(|text: &str| {
    let mut nets = Vec::new();
    match files::parse(text, &mut nets, PREFIXES_MAX) {
        Ok(()) => {
            assert!(nets.len() <= PREFIXES_MAX);
            drop(reflector::Prefixes::new(nets));
        }
        Err(said) => assert!(said.len() < 1000 && !said.contains('\u{1b}'), "{said}"),
    }
});
