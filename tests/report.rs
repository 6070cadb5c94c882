//! `reflector report` on files that the program itself wrote, on damaged ones, and on foreign ones.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Output;

use reflector_testkit::command;
use reflector_testkit::targets::{Fault, Target};
use serde_json::Value;

/// A folder that goes with the test.
struct Folder(PathBuf);

impl Folder {
    fn new(name: &str) -> Self {
        let path =
            std::env::temp_dir().join(format!("reflector-report-{}-{name}", std::process::id()));
        fs::create_dir_all(&path).expect("a folder for temporary files");
        Self(path)
    }

    fn path(&self, name: &str) -> String {
        self.0.join(name).display().to_string()
    }

    fn write(&self, name: &str, text: &str) -> String {
        fs::write(self.0.join(name), text).expect("the folder is ours");
        self.path(name)
    }

    /// A run of `reflector load`, as a summary and as a histogram log.
    fn load(&self, name: &str, fault: Fault, options: &str) -> [String; 2] {
        let target = Target::start(fault);
        let log = self.path(&format!("{name}.hlog"));
        let line = format!(
            "load {} --json --timeout 1s --interval 50ms --hdr {log} {options}",
            target.addr
        );
        let output = command(&line.split(' ').collect::<Vec<_>>())
            .output()
            .unwrap();
        let text = String::from_utf8(output.stdout).unwrap();
        [self.write(&format!("{name}.json"), &text), log]
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

fn report(args: &[&str]) -> Output {
    let args: Vec<_> = ["report"].iter().chain(args).copied().collect();
    command(&args).output().expect("the program starts")
}

/// What `report --json ARGS` says of its first kind, and how it ended.
fn object(args: &[&str]) -> (Value, i32) {
    let args: Vec<_> = ["--json"].iter().chain(args).copied().collect();
    let output = report(&args);
    let text = String::from_utf8(output.stdout).unwrap();
    let line = text.lines().next().expect("there is an object");
    (
        serde_json::from_str(line).unwrap(),
        output.status.code().unwrap(),
    )
}

fn log(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

#[test]
fn runs_of_two_machines_are_one_result() {
    let folder = Folder::new("merged");
    let [a, a_log] = folder.load("a", Fault::None, "--count 300 --rate 3k");
    let [b, b_log] = folder.load("b", Fault::DropTenth, "--count 200 --rate 2k");
    let (object, code) = object(&[&a, &a_log, &b_log, &b]);
    assert_eq!(
        (code, &object["schema"], &object["type"]),
        (0, &2.into(), &"report".into())
    );
    assert_eq!(
        (&object["kind"], object["runs"].as_array().unwrap().len()),
        (&"round_trip".into(), 2)
    );
    let merged = &object["merged"];
    assert_eq!(merged["counters"]["sent"], 500, "{object}");
    assert_eq!(merged["counters"]["lost"], 20, "{object}");
    assert_eq!(merged["loss_percent"], 4.0, "{object}");
    assert_eq!(merged["targets"].as_array().unwrap().len(), 2, "{object}");
    // What is lost took at least its timeout, and is in the histogram.
    assert_eq!(merged["times_us"]["count"], 500, "{object}");
    assert!(
        merged["times_us"]["max"].as_f64().unwrap() >= 999_000.0,
        "{object}"
    );
    let rates = object["runs"].as_array().unwrap().iter();
    let sum: f64 = rates.map(|run| run["rate_pps"].as_f64().unwrap()).sum();
    assert!(
        (merged["rate_pps"].as_f64().unwrap() - sum).abs() < 1e-6,
        "{object}"
    );
    let text = String::from_utf8(report(&[&a, &a_log]).stdout).unwrap();
    assert!(
        text.contains("percentile") && text.contains("a.hlog"),
        "{text}"
    );
    assert!(text.lines().all(|line| line == line.trim_end()), "{text}");
    assert!(
        text.lines().all(|line| line.chars().count() <= 80),
        "{text}"
    );
}

#[test]
fn what_the_reflector_saved_is_of_another_kind() {
    let folder = Folder::new("kinds");
    let [round_trips, _] = folder.load("a", Fault::None, "--count 20 --rate 1k");
    let log = folder.path("served.hlog");
    let args = [
        "--listen",
        "127.0.0.1:0",
        "--cores",
        "1",
        "--engine",
        "mmsg",
        "--json",
        "--duration",
        "100ms",
        "--hdr",
        &log,
    ];
    let output = command(&args).output().unwrap();
    let served = folder.write("served.json", &String::from_utf8(output.stdout).unwrap());
    let output = report(&["--json", &round_trips, &served]);
    let text = String::from_utf8(output.stdout).unwrap();
    let kinds: Vec<_> = text
        .lines()
        .map(|line| serde_json::from_str::<Value>(line).unwrap()["kind"].clone())
        .collect();
    assert_eq!(
        (output.status.code(), kinds),
        (Some(0), vec!["round_trip".into(), "residence".into()])
    );
}

#[test]
fn a_regression_beyond_the_bound_is_a_missed_threshold() {
    let folder = Folder::new("baseline");
    let [fast, _] = folder.load("fast", Fault::None, "--count 200 --rate 2k");
    let [lossy, _] = folder.load("lossy", Fault::DropTenth, "--count 200 --rate 2k");
    let (object, code) = object(&[&lossy, "--baseline", &fast, "--max-regression", "50%"]);
    assert_eq!(code, 5, "{object}");
    assert!(
        object["worse"][0].as_str().unwrap().contains("p99 us"),
        "{object}"
    );
    let loss = object["changes"].as_array().unwrap().iter();
    let loss = loss.clone().find(|it| it["quantity"] == "lost %").unwrap();
    assert_eq!(
        (&loss["change"], &loss["is_points"]),
        (&10.0.into(), &true.into())
    );
    assert_eq!(
        report(&[&fast, &fast]).status.code(),
        Some(2),
        "named twice"
    );
    // A file is no worse than itself.
    assert_eq!(
        report(&[&fast, "--baseline", &fast, "--max-regression", "0"])
            .status
            .code(),
        Some(0)
    );
}

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
        ("bytes.json", "\0\0\0\n", "line 1: it is not text"),
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
fn the_plot_is_one_self_contained_picture() {
    let folder = Folder::new("plot");
    let [_, a] = folder.load("a", Fault::None, "--count 300 --rate 3k");
    let [_, b] = folder.load("b&<b>", Fault::DropTenth, "--count 300 --rate 3k");
    let svg = folder.path("plot.svg");
    let output = report(&[&a, &b, "--svg", &svg]);
    assert_eq!(output.status.code(), Some(0), "{}", log(&output));
    let text = fs::read_to_string(&svg).unwrap();
    assert!(
        !text.contains("href") && !text.contains("<script") && !text.contains("url("),
        "self-contained"
    );
    let picture = roxmltree::Document::parse(&text).unwrap();
    let words: Vec<_> = picture
        .descendants()
        .filter_map(|node| node.text())
        .map(str::trim)
        .filter(|it| !it.is_empty())
        .collect();
    for expected in [
        "round trip by percentile",
        "0 %",
        "90 %",
        "99 %",
        "1 ms",
        "1 s",
        "merged (2 runs)",
    ] {
        assert!(words.contains(&expected), "{expected}: {words:?}");
    }
    assert!(
        words.iter().any(|it| it.ends_with("b&<b>.hlog")),
        "{words:?}"
    );
    let (object, _) = object(&[&a]);
    assert!(
        object["runs"][0]["quantiles"].as_array().unwrap().len() > 5,
        "{object}"
    );
}

#[test]
fn a_plot_overwrites_no_run_and_needs_a_histogram() {
    let folder = Folder::new("no-plot");
    let [summary, log_path] = folder.load("a", Fault::None, "--count 20 --rate 1k");
    let output = report(&[&log_path, "--svg", &log_path]);
    assert_eq!(output.status.code(), Some(2), "{}", log(&output));
    assert!(Path::new(&log_path).metadata().unwrap().len() > 0);
    let output = report(&[&summary, "--svg", &folder.path("p.svg")]);
    assert_eq!(output.status.code(), Some(1));
    assert!(log(&output).contains("--hdr"), "{}", log(&output));
    let output = report(&[&log_path, "--svg", "/nonexistent/p.svg"]);
    assert_eq!(output.status.code(), Some(1));
    assert!(
        log(&output).contains("cannot draw into /nonexistent/p.svg"),
        "{}",
        log(&output)
    );
}
