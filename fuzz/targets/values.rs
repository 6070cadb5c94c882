//! Values of options: the first byte says of which, the rest is the text.

#![no_main]
#![allow(dead_code, reason = "parts of the program, which uses all of them")]

use clap::Parser;
use libfuzzer_sys::fuzz_target;
use reflector_measure::host_port::HostPort;
use reflector_measure::payload::Payload;
use reflector_measure::percent::Percent;
use reflector_measure::target::Target;
use reflector_measure::{duration, number};

#[path = "../../src/bin/reflector/serve/peers/prefix.rs"]
mod prefix;
#[path = "../../src/bin/reflector/serve/peers/rate.rs"]
mod rate;
#[path = "../../src/bin/reflector/serve/values.rs"]
mod serve_values;
#[path = "../../src/bin/reflector/values.rs"]
mod values;

#[derive(Parser)]
struct Limited {
    #[command(flatten)]
    rate: rate::Rate,
}

fuzz_target!(|data: &[u8]| {
    let Some((&choice, text)) = data.split_first() else {
        return;
    };
    let Ok(text) = std::str::from_utf8(text) else {
        return;
    };
    match choice % 14 {
        0 => {
            if let Ok(prefix) = prefix::prefix(text) {
                assert!(prefix.nets().iter().all(|net| *net == net.trunc()));
            }
        }
        1 => drop(serve_values::listen(text)),
        2 => drop(serve_values::cpus(text)),
        3 => drop(serve_values::buffer_size(text)),
        4 => drop(values::port(text)),
        5 => drop(values::items(text).count()),
        6 => drop(duration::parse(text)),
        7 => drop((
            number::decimal(text),
            number::whole(text),
            number::bytes(text),
        )),
        8 => drop(text.parse::<Target>()),
        9 => drop(text.parse::<HostPort>()),
        10 => drop((text.parse::<Percent>(), Percent::parse_change(text))),
        11 => {
            if let Ok(payload) = Payload::from_hex(text, 64) {
                assert!(payload.0.len() <= 64);
            }
        }
        12 => drop(Limited::try_parse_from(["fuzz", "--rate-limit", text])),
        _ => drop(Limited::try_parse_from([
            "fuzz",
            "--rate-limit-prefix",
            text,
        ])),
    }
});
