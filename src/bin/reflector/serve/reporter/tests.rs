use super::workers::{WORKERS_MAX, unshown};
use super::*;

fn totals() -> Totals {
    let mut totals = Totals::default();
    (totals.seconds, totals.received, totals.replied) = (2.0, 32, 30);
    totals
}

fn reporter(format: Format) -> Reporter<Vec<u8>> {
    Reporter::new(Vec::new(), format, 80)
}

#[test]
fn each_report_is_one_json_line_of_its_type() {
    let mut reporter = reporter(Format::Json);
    let mut summary = Summary::default();
    summary.totals = totals();
    reporter.write(Report::Summary(&summary), None).unwrap();
    let text = String::from_utf8(reporter.out).unwrap();
    assert_eq!(text.lines().count(), 1);
    let value: serde_json::Value = serde_json::from_str(&text).unwrap();
    assert_eq!(value["type"], "summary");
    assert_eq!(value["received"], 32);
}

#[test]
fn people_read_columns_that_line_up() {
    let mut reporter = reporter(Format::Columns);
    reporter.write_interval(&totals(), None).unwrap();
    let text = String::from_utf8(reporter.out).unwrap();
    let lines: Vec<_> = text.lines().map(str::len).collect();
    assert_eq!(lines, [79, 79]);
}

#[test]
fn what_people_read_fits_the_terminal() {
    for width in [80, 60, 40] {
        assert_fits(width);
    }
}

fn assert_fits(width: usize) {
    let mut reporter = Reporter::new(Vec::new(), Format::Columns, width);
    let mut totals = totals();
    (totals.received, totals.replied) = (12_345_678_901, 12_345_678_901);
    (totals.bytes_received, totals.bytes_replied) = (1 << 37, 1 << 37);
    totals.residence_us.count = 1;
    totals.residence_us.max = 9_999_999.9;
    reporter.write_interval(&totals, None).unwrap();
    totals.dropped = [("not_allowed", 12_345_678_901)].into();
    totals.kernel.drops.datagrams = 12_345_678_901;
    let mut summary = Summary::default();
    summary.totals = totals;
    reporter.write_counts("summary of", &summary, None).unwrap();
    let text = String::from_utf8(reporter.out).unwrap();
    assert!(
        text.lines().all(|line| line.chars().count() <= width),
        "{width}: {text}"
    );
    for word in ["replied/s", "p99 us", "not_allowed", "p99.9", "bytes"] {
        assert!(text.contains(word), "{width}: {text}");
    }
}

#[test]
fn a_summary_has_no_row_of_zeros() {
    let mut reporter = reporter(Format::Columns);
    reporter
        .write_counts("summary of", &Summary::default(), None)
        .unwrap();
    let text = String::from_utf8(reporter.out).unwrap();
    let names = text
        .lines()
        .filter_map(|line| line.split_whitespace().next());
    assert_eq!(Vec::from_iter(names), ["summary", "received", "replied"]);
    assert_eq!(unshown(2, 2), None);
    assert_eq!(
        unshown(3, 1).as_deref(),
        Some("and 2 more, which received nothing")
    );
    assert_eq!(unshown(64, WORKERS_MAX).as_deref(), Some("and 48 more"));
}

#[test]
fn an_idle_interval_is_no_line_for_people() {
    let mut reporter = reporter(Format::Columns);
    reporter.write_interval(&Totals::default(), None).unwrap();
    assert!(reporter.out.is_empty());
}

#[test]
fn errors_of_both_directions_are_shown_even_alone() {
    let mut reporter = reporter(Format::Columns);
    let mut totals = Totals::default();
    totals.seconds = 1.0;
    totals.receive_errors = [("ENOMEM".to_owned(), 3)].into();
    totals.send_errors = [("EPERM".to_owned(), 4)].into();
    reporter.write_interval(&totals, None).unwrap();
    let text = String::from_utf8(reporter.out).unwrap();
    let row: Vec<_> = text.lines().last().unwrap().split_whitespace().collect();
    assert_eq!(row[..6], ["0", "0", "0.000", "0", "7", "0"], "{text}");
}

#[test]
fn a_shell_reads_one_line_of_words_for_each_summary_and_none_for_an_interval() {
    let mut reporter = reporter(Format::Lines);
    let mut summary = Summary::default();
    summary.totals = totals();
    summary.totals.dropped = [("denied_port", 1), ("not_allowed", 1)].into();
    reporter.write_snapshot(&summary, None).unwrap();
    reporter.write(Report::Summary(&summary), None).unwrap();
    let text = String::from_utf8(reporter.out).unwrap();
    let counters = "received=32 replied=30 dropped=2 send_errors=0 receive_errors=0 \
                    kernel_drops=0 unaccounted=0 seconds=2.000";
    assert_eq!(text, format!("snapshot {counters}\nsummary {counters}\n"));
}
