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
    let histogram = times.into_ns(Unit::Ns).ns;
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
    read(&mut Lines::new(text.as_bytes()), "f", Some(Unit::Ns))
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

#[test]
fn an_end_is_one_where_the_legend_says_so_and_it_can_be_one() {
    let legend = "\"StartTimestamp\",\"EndTimestamp\",\"Interval_Max\"\n";
    let read = |starts: [f64; 2], second: fn(f64) -> f64| {
        let lines = starts.map(|start| line(start, second(start), &[1]));
        let found = runs(&format!("{}{legend}{}", head(NOW), lines.concat()));
        (found[0].seconds, found[0].span)
    };
    let two_seconds = (2.0, Some((NOW, NOW + 2.0)));
    assert_eq!(read([NOW, NOW + 1.0], |start| start + 1.0), two_seconds);
    assert_eq!(read([NOW, NOW + 1.0], |_| 1.0), two_seconds);
    // The first could be either, the last is a length: so were all.
    assert_eq!(read([0.0, 1.5], |_| 1.0), (2.0, Some((NOW, NOW + 2.5))));
}

#[test]
fn a_line_that_was_cut_off_by_a_restart_is_left_out() {
    let whole = head(NOW) + &line(0.0, 1.0, &[1]);
    let torn = &line(1.0, 1.0, &[2, 3])[..40];
    let next = head(NOW + 60.0) + &line(0.0, 1.0, &[4]);
    let read = |text: &str| read(&mut Lines::new(text.as_bytes()), "f", Some(Unit::Ns));
    let saved = read(&format!("{whole}{torn}\n{next}")).unwrap();
    assert_eq!(saved.runs.len(), 2);
    assert_eq!(saved.warnings, ["f: line 3 is cut off and left out"]);
    for rest in ["", &*line(2.0, 1.0, &[4])] {
        let said = read(&format!("{whole}{torn}\n{rest}")).unwrap_err().said();
        assert!(said.starts_with("line 3: its histogram"), "{said}");
    }
}

#[test]
fn stamps_whose_sum_is_infinite_are_no_stamps() {
    let times = encoded(&[1]);
    for text in [
        format!("#[BaseTime: 1e308]\n1e308,1,1,{times}\n1e308,1,1,{times}\n"),
        format!("0,1e308,1,{times}\n1e308,1e308,1,{times}\n"),
    ] {
        let said = read(&mut Lines::new(text.as_bytes()), "f", None);
        let said = said.unwrap_err().said();
        assert!(said.contains("it is not an interval"), "{said}");
    }
}
