//! Files of both schemas, and what can be wrong with one.

use super::*;

fn interval(received: u64) -> String {
    let one = r#"{"count":1,"min":1,"p50":1,"p90":1,"p99":1,"p99_9":1,"p99_99":1,"max":1}"#;
    let counters = format!(r#""seconds":1.0,"sent":{received},"received":{received}"#);
    format!(r#"{{"schema":1,"type":"interval",{counters},"rtt_us":{one}}}"#)
}

fn summary(received: u64) -> String {
    interval(received).replace("interval", "summary")
}

fn read_text(text: &str) -> Result<Saved, String> {
    read(&mut Lines::new(text.as_bytes()), "f").map_err(Fault::said)
}

/// Files that reflectors of both schemas wrote.
const LOADS: [&str; 2] = [
    include_str!("../../fixtures/load-1.json"),
    include_str!("../../fixtures/load-2.json"),
];
const SERVES: [&str; 2] = [
    include_str!("../../fixtures/serve-1.json"),
    include_str!("../../fixtures/serve-2.json"),
];
const SEARCHES: [&str; 2] = [
    include_str!("../../fixtures/find-rate-1.json"),
    include_str!("../../fixtures/find-rate-2.json"),
];

#[test]
fn round_trips_of_both_schemas_are_read() {
    for (text, schema) in LOADS.into_iter().zip(1..) {
        assert!(text.starts_with(&format!("{{\"schema\":{schema},")));
        let saved = read_text(text).unwrap();
        let [run] = &saved.runs[..] else {
            panic!("{saved:?}");
        };
        let counters = run.counters.unwrap();
        assert_eq!((counters.sent, counters.received), (300, 300));
        assert_eq!((&run.kind, run.seconds), (&Kind::RoundTrip, 0.3));
        assert!(run.targets.contains("127.0.0.1:5199"));
        let times = run.times.unwrap();
        assert!(times.count == 300 && times.p99_99.is_some());
    }
}

#[test]
fn residence_times_of_both_schemas_are_read() {
    for (text, schema) in SERVES.into_iter().zip(1..) {
        assert!(text.starts_with(&format!("{{\"schema\":{schema},")));
        let saved = read_text(text).unwrap();
        let [run] = &saved.runs[..] else {
            panic!("{saved:?}");
        };
        let counters = run.counters.unwrap();
        assert_eq!(run.kind, Kind::Residence);
        assert!(counters.received > 300);
        assert_eq!(counters.received, counters.replied);
        assert_eq!(run.times.unwrap().count, counters.replied);
    }
}

#[test]
fn what_a_server_dropped_for_want_of_buffer_is_lost_and_told() {
    let dropped = SERVES[1].replace("\"kernel_drops\":0", "\"kernel_drops\":1000000");
    let saved = read_text(&dropped).unwrap();
    let run = &saved.runs[0];
    assert!(run.loss_percent().unwrap() > 99.0, "{run:?}");
    assert!(run.notes[0].contains("a train counts once"), "{run:?}");
    // Since then these are datagrams.
    let dropped = dropped.replace("\"kernel_drops\"", "\"trains_dropped\":9,\"kernel_drops\"");
    let run = &read_text(&dropped).unwrap().runs[0];
    assert!(
        run.loss_percent().unwrap() > 99.0 && run.notes.is_empty(),
        "{run:?}"
    );
}

#[test]
fn searches_of_both_schemas_are_read() {
    for (text, schema) in SEARCHES.into_iter().zip(1..) {
        assert!(text.starts_with(&format!("{{\"schema\":{schema},")));
        let saved = read_text(text).unwrap();
        let [run] = &saved.runs[..] else {
            panic!("{saved:?}");
        };
        assert_eq!(run.kind, Kind::HighestRate("1".to_owned()));
        assert_eq!(run.rate_pps, Some(500.0));
    }
}

#[test]
fn a_summary_counts_instead_of_its_intervals() {
    let saved = read_text(&format!(
        "{}\n{}\n{}\n",
        interval(3),
        interval(4),
        summary(7)
    ))
    .unwrap();
    let run = &saved.runs[0];
    assert_eq!(
        (run.counters.unwrap().received, run.rate_pps),
        (7, Some(7.0))
    );
    assert!(run.times.is_some() && saved.warnings.is_empty());
}

#[test]
fn a_line_that_is_cut_off_before_anything_is_counted_is_told() {
    let ready = r#"{"schema":2,"type":"ready"}"#;
    let cut = &interval(7)[..40];
    let said = read_text(&format!("{ready}\n{cut}")).err().unwrap();
    assert_eq!(
        said,
        "line 2: it is cut off, and no interval or summary is before it"
    );
    let said = read_text(ready).err().unwrap();
    assert!(said.contains("ended before it began"), "{said}");
}

#[test]
fn without_a_summary_the_intervals_are_summed() {
    let cut = &summary(7)[..40];
    let saved = read_text(&format!("{}\n{}\n{cut}", interval(3), interval(5))).unwrap();
    let run = &saved.runs[0];
    assert_eq!(
        (run.counters.unwrap().received, run.rate_pps),
        (8, Some(4.0))
    );
    assert!(run.times.is_none());
    assert!(saved.warnings[0].contains("line 3 is cut off"));
    assert!(saved.warnings[1].contains("no summary"));
}

#[test]
fn runs_one_after_the_other_are_runs_of_their_own() {
    let saved = read_text(&format!("{}\n{}\n", summary(3), summary(5))).unwrap();
    let names: Vec<_> = saved.runs.iter().map(|run| run.name.as_str()).collect();
    assert_eq!(names, ["f #1", "f #2"]);
    let rates: Vec<_> = saved.runs.iter().map(|run| run.rate_pps).collect();
    assert_eq!(rates, [Some(3.0), Some(5.0)]);
    assert!(saved.runs.iter().all(|run| run.times.is_some()));
}

#[test]
fn what_was_asked_and_when_is_read() {
    let ready = r#"{"schema":2,"type":"ready","target":"h:7","offered_pps":5.0,"sizes":[64]}"#;
    let times = r#","start_unix_seconds":100.5,"end_unix_seconds":101.5}"#;
    let summary = summary(3);
    let summary = format!("{}{times}", &summary[..summary.len() - 1]);
    let saved = read_text(&format!("{ready}\n{summary}\n")).unwrap();
    let run = &saved.runs[0];
    assert_eq!(run.span, Some((100.5, 101.5)));
    let other = ready.replace("5.0", "7.0");
    let other = read_text(&format!("{other}\n{summary}\n")).unwrap();
    let (a, b) = (
        run.settings.as_ref().unwrap(),
        other.runs[0].settings.as_ref().unwrap(),
    );
    assert_eq!(a.apart_from([b].into_iter()), "rate 5");
}

#[test]
fn a_search_says_when_it_was() {
    let found = r#"{"schema":2,"type":"found_rate","start_unix_seconds":100.5,"end_unix_seconds":
        105.0,"rate_pps":500.0,"max_loss_percent":1.0}"#;
    let saved = read_text(&found.replace('\n', "")).unwrap();
    assert_eq!(saved.runs[0].span, Some((100.5, 105.0)));
}

#[test]
fn a_search_that_was_cut_off_is_no_run_at_any_of_its_rates() {
    let step = r#"{"schema":2,"type":"step"}"#;
    let said = read_text(&format!("{}\n{step}\n{}\n", interval(3), interval(4)));
    assert!(said.unwrap_err().contains("no summary and no interval"));
}

#[test]
fn no_text_of_a_run_is_kept_that_could_fill_the_memory() {
    let long = "x".repeat(400_000);
    let summary = summary(3);
    let texts = format!(r#","target":"{long}","limited_by":"{long}"}}"#);
    let line = format!("{}{texts}\n", &summary[..summary.len() - 1]);
    let saved = read_text(&line).unwrap();
    assert!(saved.runs[0].targets.is_empty() && saved.warnings.is_empty());
}

#[test]
fn a_line_that_is_too_long_is_refused() {
    let long = format!(
        "{{\"schema\":2,\"x\":[{}0]}}\n",
        "{\"\":0},".repeat(200_000)
    );
    let said = read_text(&long).unwrap_err();
    assert_eq!(said, "line 1: it has more than 1 MiB");
}

#[test]
fn what_is_wrong_is_told_by_line() {
    for (text, said) in [
        ("{\"schema\":1,\n", "line 2: "),
        (
            "{\"schema\":3,\"type\":\"summary\"}\n",
            "line 2: it is of schema 3, and this reflector reads 1 to 2",
        ),
        ("{schema:1}\n", "line 2: it is neither a report"),
        (
            "{\"schema\":1,\"type\":\"summary\"}\n",
            "line 2: missing field",
        ),
        (
            "{\"schema\":1,\"type\":\"verdict\"}\n",
            "line 2: unknown type \"verdict\"",
        ),
    ] {
        let error = read_text(&format!("{}\n{text}", interval(1))).unwrap_err();
        assert!(error.starts_with(said), "{error}");
    }
    assert!(
        read_text("{\"schema\":1,\"type\":\"ready\"}\n")
            .unwrap_err()
            .contains("no summary")
    );
}

#[test]
fn lines_of_a_log_are_stepped_over() {
    let logs = [
        "",
        " WARN 7 peers are refused",
        r#"{"timestamp":"2026-11-28T11:00:00Z","level":"WARN","fields":{"message":"a"}}"#,
        r#"ERROR cannot read "{"schema":1,"type":"summary"}""#,
    ];
    let text = logs.map(|log| format!("{log}\n{}\n", interval(3))).concat();
    let saved = read_text(&format!("{text}{}\n", summary(12))).unwrap();
    assert_eq!(saved.runs[0].counters.unwrap().received, 12);
    let expected = "f: 3 lines that are no report, as of a log, are stepped over";
    assert_eq!(saved.warnings, [expected]);
}

#[test]
fn what_others_put_around_a_report_is_none_of_it() {
    let report = summary(7);
    let quoted = serde_json::to_string(&format!("{report}\n")).unwrap();
    for line in [
        format!("2026-11-28T11:26:45.123456789Z {report}"),
        format!("2026-11-28T11:26:45.123456789Z stdout F {report}"),
        format!("load-1  | {report}"),
        format!("Nov 28 11:26:45 host reflector[7]: {report}"),
        format!(r#"{{"log":{quoted},"stream":"stdout","time":"2026-11-28T11:26:45Z"}}"#),
        format!(r#"{{"PRIORITY":"6","MESSAGE":{quoted}}}"#),
    ] {
        let saved = read_text(&line).unwrap_or_else(|said| panic!("{line}: {said}"));
        assert_eq!(saved.runs[0].counters.unwrap().received, 7, "{line}");
        assert!(saved.warnings.is_empty(), "{line}");
    }
}
