//! The search for the highest rate against a target whose rate is known.

use std::time::Duration;

use super::load;
use reflector_testkit::bucket::Bucket;

/// How deep the target's bucket is.
const DEPTH: Duration = Duration::from_millis(6);
/// How far from the truth what is found may be.
const WITHIN: f64 = 0.05;

/// Searches the rate of a target that answers 5 000 and 500 a second, and prints what it found.
#[test]
#[ignore = "a busy machine spoils it; scripts/find-rate.sh runs it again and counts"]
fn the_rate_of_a_token_bucket_is_found() {
    let mut wrong = Vec::new();
    for pps in [5000.0, 500.0] {
        let target = Bucket::start(pps, DEPTH);
        let options = "--find-rate 1 --duration 1s";
        let ended = load(target.addr, options);
        let found = ended
            .lines
            .last()
            .expect("a search ends with what it found");
        let rate = found["rate_pps"].as_f64().unwrap_or(0.0);
        let ladder = found["ladder"].as_array().expect("steps");
        let late = ladder.iter().filter(|step| step["verdict"] == "sent_late");
        println!(
            "of {pps:.0} /s found {rate:.0} in {} steps, {} of them late, limited by {}",
            ladder.len(),
            late.count(),
            found["limited_by"]
        );
        if (rate / pps - 1.0).abs() > WITHIN {
            wrong.push(found.clone());
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}
