//! Files that are damaged, foreign, or made to do harm.

use std::fs;
use std::process::Command;

use reflector_testkit::program;
use reflector_testkit::targets::Fault;

use super::{Folder, log, object, report};

#[test]
fn a_bad_file_is_named_and_the_others_are_reported() {
    let folder = Folder::new("bad");
    let [good, good_log] = folder.load("good", Fault::None, "--count 50 --rate 1k");
    let whole = fs::read_to_string(&good).unwrap();
    let log_text = fs::read_to_string(&good_log).unwrap();
    let histogram = log_text.lines().last().unwrap();
    for (name, text, words) in [
        ("empty.json", "", "it is empty"),
        ("note.txt", "dear diary\n", "neither JSON nor"),
        (
            "cut.json",
            &whole[..whole.find('}').unwrap() - 5],
            "cut off",
        ),
        ("alien.json", "{\"a\": 1}\n", "no HdrHistogram"),
        (
            "later.json",
            "{\"schema\":9,\"type\":\"summary\"}\n",
            "line 1: it is of schema 9",
        ),
        (
            "torn.hlog",
            &format!("{}\n", &histogram[..histogram.len() - 9]),
            "line 1: its histogram",
        ),
        ("bytes.json", "a\0b\n", "line 1: it is not text"),
        ("nuls.hlog", "\0\0\0\n", "it is empty"),
    ] {
        let bad = folder.write(name, text);
        let output = report(&[&bad, &good]);
        let said = log(&output);
        assert_eq!(output.status.code(), Some(1), "{name}: {said}");
        assert!(
            said.contains(name) && said.contains(words),
            "{name}: {said}"
        );
        let errors: Vec<_> = said.lines().filter(|line| line.contains("ERROR")).collect();
        assert_eq!(errors.len(), 1, "{name}: {said}");
        let page = String::from_utf8(output.stdout).unwrap();
        assert!(page.contains("good.json"), "{name}: {page}");
    }
    let missing = folder.path("missing.json");
    let output = report(&[&missing]);
    assert_eq!(output.status.code(), Some(1));
    assert!(log(&output).contains("No such file"), "{}", log(&output));
    assert_eq!(report(&[]).status.code(), Some(2));
}

#[test]
fn what_was_whole_when_a_run_was_killed_is_reported() {
    let folder = Folder::new("killed");
    let [_, log_path] = folder.load("a", Fault::None, "--count 400 --rate 2k");
    let text = fs::read_to_string(&log_path).unwrap();
    let cut = folder.write("cut.hlog", &text[..text.len() - 20]);
    let output = report(&[&cut]);
    assert_eq!(output.status.code(), Some(0), "{}", log(&output));
    assert!(
        log(&output).contains("is cut off and left out"),
        "{}",
        log(&output)
    );
}

#[test]
fn percentile_tables_of_other_tools_are_read_in_their_unit() {
    let folder = Folder::new("table");
    let table = folder.write(
        "wrk.hgrm",
        "       Value   Percentile   TotalCount 1/(1-Percentile)\n\n\
         \x20      0.100     0.000000            1         1.00\n\
         \x20      2.000     1.000000          100          inf\n\
         #[Mean    =        0.600, StdDeviation   =        0.100]\n\
         #[Max     =        2.000, Total count    =          100]\n",
    );
    for (unit, max_us) in [("ms", 2000.0), ("us", 2.0)] {
        let (object, code) = object(&[&table, "--unit", unit]);
        let max = object["runs"][0]["times_us"]["max"].as_f64().unwrap();
        assert!(code == 0 && (max / max_us - 1.0).abs() < 0.01, "{object}");
    }
}

#[test]
fn a_unit_is_of_one_form_of_files() {
    let folder = Folder::new("units");
    let fixture = |name: &str| {
        let path = format!(
            "{}/crates/report/fixtures/others",
            env!("CARGO_MANIFEST_DIR")
        );
        folder.write(name, &fs::read_to_string(format!("{path}/{name}")).unwrap())
    };
    let [table, log_path] = ["java.hgrm", "java.hlog"].map(fixture);
    let args = |unit| {
        [
            &*table,
            "-b",
            &*log_path,
            "--max-regression",
            "1",
            "--unit",
            unit,
        ]
    };
    let output = report(&args("us"));
    let said = log(&output);
    assert_eq!(output.status.code(), Some(2), "{said}");
    assert!(
        said.contains("the files are of several forms: log, table"),
        "{said}"
    );
    assert!(
        said.contains("--unit table=us says it of one of them"),
        "{said}"
    );
    // The same values, from a table and from a log.
    for unit in ["table=us", "table=us,log=ns", "us,log=ns"] {
        let output = report(&args(unit));
        let page = String::from_utf8_lossy(&output.stdout).into_owned();
        assert!(
            page.contains("p50 us        35.0     35.0     +0.0  %"),
            "{unit}: {page}"
        );
    }
    let output = report(&[&table, "--unit", "hours"]);
    assert_eq!(output.status.code(), Some(2), "{}", log(&output));
}

/// Files that would take gibibytes as trees of values, or as lines that are kept.
#[test]
fn a_file_that_is_made_to_use_up_memory_is_refused_within_its_bound() {
    let folder = Folder::new("memory");
    let [_, log_path] = folder.load("one", Fault::None, "--count 20 --rate 1k");
    let saved = fs::read_to_string(log_path).unwrap();
    let histogram = &saved[saved.find("HIST").unwrap()..].lines().next().unwrap();
    // Each a few hundred bytes here, and half a mebibyte in memory.
    let many = format!(
        "[{}0]",
        format!("\"{histogram}\",").repeat((2 << 20) / histogram.len())
    );
    let empty = format!("[{}0]", "{\"\":0},".repeat(1 << 20));
    let comments = format!("#{}\n", "x".repeat((16 << 20) - 16)).repeat(12);
    let ours = format!("{{\"schema\":2,\"type\":\"summary\",\"x\":{empty}}}\n");
    for (name, text) in [
        ("histograms.json", many),
        ("empty.json", empty),
        ("comments.hlog", comments),
        ("ours.json", ours),
    ] {
        let path = folder.write(name, &text);
        let script = "ulimit -v 524288 && exec \"$0\" report \"$1\"";
        let mut command = Command::new("sh");
        command.env_remove("REFLECTOR_REQUIRE");
        let output = command
            .args(["-c", script])
            .arg(program())
            .arg(&path)
            .output()
            .unwrap();
        let said = log(&output);
        assert_eq!(output.status.code(), Some(1), "{name}: {said}");
        assert_eq!(said.lines().count(), 1, "{name}: {said}");
        assert!(said.starts_with("ERROR cannot read "), "{name}: {said}");
        assert!(!said.contains("damaged"), "{name}: {said}");
    }
}
