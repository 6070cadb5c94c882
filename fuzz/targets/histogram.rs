//! Encoded histograms (HdrHistogram V2) behind their base64, in a log of their own.

#![no_main]

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let line = format!("0.5,1.0,1.0,{}\n", STANDARD.encode(data));
    reflector_report::fuzz((line.clone() + &line).as_bytes());
});
