//! Files that other libraries wrote, against what those libraries say of them.
//!
//! `fixtures/others` says how they were made.

use std::path::Path;

use crate::read::read;
use crate::run::{Kind, Run, Saved};
use crate::unit::{Unit, UnitOf};

fn saved(name: &str, unit: Unit) -> Result<Saved, String> {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/fixtures/others");
    let units = [UnitOf { form: None, unit }];
    let read = read(&Path::new(folder).join(name), &units);
    read.map(|(saved, _)| saved).map_err(|e| e.to_string())
}

fn only(name: &str, unit: Unit) -> Run {
    let mut saved = saved(name, unit).unwrap();
    assert_eq!(
        (saved.runs.len(), &saved.warnings[..]),
        (1, &[][..]),
        "{name}"
    );
    saved.runs.remove(0)
}

/// Whether `run` comes to what the library says in the lines of `expected`: each a percentile and
/// nanoseconds, which may be greater by the part `resolution`.
fn assert_equals(run: &Run, expected: &str, resolution: f64) {
    for line in expected.lines() {
        let (what, number) = line.split_once(' ').unwrap();
        let number: f64 = number.parse().unwrap();
        if what == "count" {
            assert_eq!(run.times.unwrap().count as f64, number);
            continue;
        }
        // 99.9 by 100 is more than 0.999.
        let quantile = (what.parse::<f64>().unwrap() * 10.0).round() / 1000.0;
        let times_ns = run.times_ns.as_ref().unwrap();
        let ns = match what {
            "0" => (run.times.unwrap().min * 1000.0).round(),
            _ => times_ns.value_at_quantile(quantile) as f64,
        };
        let is_equal = (number..=number * (1.0 + resolution)).contains(&ns);
        assert!(
            is_equal,
            "{}: {what}: {ns}, and the library says {number}",
            run.name
        );
    }
}

#[test]
fn logs_equal_what_their_library_says_to_the_nanosecond() {
    for (name, expected) in [
        (
            "java.hlog",
            include_str!("../fixtures/others/java.expected"),
        ),
        (
            "java-fine.hlog",
            include_str!("../fixtures/others/java-fine.expected"),
        ),
        (
            "java-coarse.hlog",
            include_str!("../fixtures/others/java-coarse.expected"),
        ),
        (
            "python.hlog",
            include_str!("../fixtures/others/python.expected"),
        ),
    ] {
        assert_equals(&only(name, Unit::Ns), expected, 0.0);
    }
}

#[test]
fn logs_say_when_and_how_long_they_are() {
    for name in ["java.hlog", "python.hlog"] {
        let run = only(name, Unit::Ns);
        assert_eq!(
            run.span,
            Some((1_700_000_000.25, 1_700_000_003.25)),
            "{name}"
        );
        assert_eq!(
            (run.seconds, run.rate_pps),
            (3.0, Some(10_000.0 / 3.0)),
            "{name}"
        );
    }
    let run = only("java-coarse.hlog", Unit::Ns);
    assert_eq!(run.span, Some((1_700_000_000.0, 1_700_000_001.0)));
}

#[test]
fn tables_equal_what_their_library_says_where_they_have_a_row() {
    // A value of three digits, in the bucket that it falls into.
    let resolution = 0.001;
    let lines = |text: &'static str, left_out: &[&str]| -> String {
        let is_kept = |line: &&str| !left_out.iter().any(|it| line.starts_with(it));
        text.lines()
            .filter(is_kept)
            .map(|line| format!("{line}\n"))
            .collect()
    };
    let java = include_str!("../fixtures/others/java.expected");
    for (name, notes) in [
        ("java.hgrm", "p99, p99.9"),
        ("c.hgrm", "p99, p99.9"),
        ("java-1-tick.hgrm", "p90, p99, p99.9"),
    ] {
        let run = only(name, Unit::Us);
        let left_out: Vec<_> = notes
            .split(", ")
            .map(|it| format!("{} ", &it[1..]))
            .collect();
        let left_out: Vec<_> = left_out.iter().map(String::as_str).collect();
        // A table shows the upper end of the least bucket, and decimals of microseconds.
        let java = lines(java, &[&left_out[..], &["0 ", "90.0", "99.0"]].concat());
        assert_equals(&run, &java, resolution);
        assert!(
            run.notes[0].contains(&format!("for {notes}: at most")),
            "{:?}",
            run.notes
        );
    }
}

#[test]
fn counts_that_a_counter_of_32_bits_has_lost_are_known_again() {
    let expected = include_str!("../fixtures/others/c-many.expected");
    let expected = expected.replace("\n0 20000", "");
    assert_equals(&only("c-many.hgrm", Unit::Us), &expected, 0.001);
}

#[test]
fn corrected_and_uncorrected_times_of_wrk2_are_not_alike() {
    let saved = saved("c-wrk2.txt", Unit::Us).unwrap();
    let kinds: Vec<_> = saved.runs.iter().map(|run| run.kind.clone()).collect();
    let expected = ["Recorded Latency", "Uncorrected Latency"];
    assert_eq!(kinds, expected.map(|it| Kind::Other(it.to_owned())));
    let p50 = saved.runs.iter().map(|run| run.times.unwrap().p50.round());
    assert_eq!(Vec::from_iter(p50), [70.0, 35.0]);
}

#[test]
fn an_empty_table_is_a_run_without_times() {
    let run = only("java-empty.hgrm", Unit::Us);
    assert!(run.times.is_none() && run.times_ns.unwrap().is_empty());
}

#[test]
fn histograms_of_fractions_are_refused_with_that_reason() {
    let said = saved("java-fractions.hlog", Unit::Ns).unwrap_err();
    assert!(
        said.contains("line 5: its histogram is one of fractions"),
        "{said}"
    );
}

#[test]
fn the_percentile_of_a_few_is_the_least_value_that_so_many_do_not_exceed() {
    let mut times = crate::histogram::Sum::new();
    (1..=60).for_each(|value| times.record(value, 1));
    let run = Run::of_times(
        "r".to_owned(),
        Kind::RoundTrip,
        1.0,
        times.into_ns(Unit::Us),
    );
    assert_eq!(run.times.unwrap().p99.floor(), 60.0, "not the 59th");
}
