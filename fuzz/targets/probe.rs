//! What a generator takes for an answer to its probe.

#![no_main]

use libfuzzer_sys::fuzz_target;
use reflector_load::wire::Packet;

fuzz_target!(|data: &[u8]| {
    let Some(packet) = Packet::new_checked(data) else {
        assert!(data.len() < 40);
        return;
    };
    let _ = packet.probe();
    if packet.is_intact() {
        assert!(data.starts_with(b"RFL1"));
        // Any change of the check itself shows.
        let mut other = data.to_owned();
        other[4] ^= 1;
        assert!(!Packet::new_checked(&other).unwrap().is_intact());
    }
});
