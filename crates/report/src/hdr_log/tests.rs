//! Logs of several runs, and when they were.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use hdrhistogram::serialization::{Serializer, V2DeflateSerializer};

use super::*;

const NOW: f64 = 1_700_000_000.0;

fn encoded(values: &[u64]) -> String {
    let mut times = Sum::new();
    values.iter().for_each(|&value| times.record(value, 1));
    let mut bytes = Vec::new();
    let histogram = times.into_ns(Unit::Ns);
    let written = V2DeflateSerializer::new().serialize(&histogram, &mut bytes);
    assert!(written.is_ok());
    STANDARD.encode(bytes)
}

fn line(start: f64, length: f64, values: &[u64]) -> String {
    format!("{start:.3},{length:.3},1.000,{}\n", encoded(values))
}

fn head(start_time: f64) -> String {
    format!("#[StartTime: {start_time:.3} (seconds since epoch), some day]\n")
}

fn runs(text: &str) -> Vec<Run> {
    read(Lines::new(text.as_bytes()), "f", Some(Unit::Ns))
        .unwrap()
        .runs
}

#[test]
fn a_log_says_when_its_run_was() {
    let relative = head(NOW) + &line(0.5, 1.0, &[1]) + &line(1.5, 1.0, &[2, 3]);
    let absolute = head(NOW) + &line(NOW + 0.5, 1.0, &[1]) + &line(NOW + 1.5, 1.0, &[2, 3]);
    for text in [&relative, &absolute, &absolute[head(NOW).len()..]] {
        let [run] = &runs(text)[..] else {
            panic!("{text}");
        };
        assert_eq!(run.span, Some((NOW + 0.5, NOW + 2.5)), "{text}");
        assert_eq!((run.seconds, run.rate_pps), (2.0, Some(1.5)), "{text}");
    }
    assert_eq!(runs(&relative[head(NOW).len()..])[0].span, None);
}

#[test]
fn a_log_that_was_appended_to_another_is_a_run_of_its_own() {
    let ours = format!("#{}\n", hdr_log::title(ROUND_TRIPS));
    let one = ours.clone() + &head(NOW) + &line(0.0, 1.0, &[1]);
    let other = head(NOW + 60.0) + &line(0.0, 1.0, &[2]);
    let found = runs(&format!("{one}{ours}{other}"));
    let spans: Vec<_> = found.iter().map(|run| run.span.unwrap().0).collect();
    assert_eq!(spans, [NOW, NOW + 60.0]);
    assert_eq!((&*found[0].name, &*found[1].name), ("f #1", "f #2"));
    assert!(found.iter().all(|run| run.kind == Kind::RoundTrip));
    // Without the title it is another tool's.
    let found = runs(&format!("{one}{other}"));
    assert_eq!(found[1].kind, Kind::Other(String::new()));
    // The same beginning is that of the same run, where it goes on, as a log that was rotated does.
    let rest = one.replace("\n0.000", "\n1.000");
    let found = runs(&format!("{one}{rest}"));
    assert_eq!((found.len(), found[0].times.unwrap().count), (1, 2));
    assert_eq!(runs(&format!("{one}{one}")).len(), 2, "a copy");
}

#[test]
fn tags_are_runs_at_one_time() {
    let tagged = |tag: &str| format!("Tag={tag},{}", line(NOW, 1.0, &[1]));
    let found = runs(&(tagged("a") + &tagged("b") + &tagged("a")));
    let names: Vec<_> = found.iter().map(|run| run.name.as_str()).collect();
    assert_eq!(names, ["f [a]", "f [b]"]);
    // Of two intervals at one time, both count and the time counts once.
    assert_eq!((found[0].seconds, found[0].rate_pps), (1.0, Some(2.0)));
}
