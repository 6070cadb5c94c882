//! Saved runs in all their forms, from the bytes of a file to page, objects and picture.

#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| reflector_report::fuzz(data));
