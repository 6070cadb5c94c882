//! `reflector report` on files that the program itself wrote, on damaged ones, and on foreign ones.

mod files;
mod hostile;
mod picture;

use std::fs;
use std::path::PathBuf;
use std::process::{Child, Output};

use reflector_testkit::targets::{Fault, Target};
use reflector_testkit::{command, document};
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
        let child = self.start_load(&target, name, options);
        self.end_load(name, child)
    }

    /// Starts such a run.
    fn start_load(&self, target: &Target, name: &str, options: &str) -> Child {
        let log = self.path(&format!("{name}.hlog"));
        let line = format!(
            "load {} --json --timeout 1s --interval 50ms --hdr {log} {options}",
            target.addr
        );
        command(&line.split(' ').collect::<Vec<_>>())
            .spawn()
            .unwrap()
    }

    fn end_load(&self, name: &str, child: Child) -> [String; 2] {
        let text = String::from_utf8(child.wait_with_output().unwrap().stdout).unwrap();
        let log = self.path(&format!("{name}.hlog"));
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
    (document("report", line), output.status.code().unwrap())
}

fn log(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

#[test]
fn runs_of_two_machines_are_one_result() {
    let folder = Folder::new("merged");
    let target = Target::start(Fault::DropTenth);
    let options = "--count 400 --rate 2k --flows 4";
    let children = ["a", "b"].map(|name| (name, folder.start_load(&target, name, options)));
    let [[a, a_log], [b, b_log]] = children.map(|(name, child)| folder.end_load(name, child));
    let (object, code) = object(&[&a, &a_log, &b_log, &b]);
    assert_eq!(
        (code, &object["schema"], &object["type"]),
        (0, &2.into(), &"report".into())
    );
    assert_eq!(
        (&object["kind"], object["runs"].as_array().unwrap().len()),
        (&"round_trip".into(), 2)
    );
    assert_eq!(object["notes"], serde_json::json!([]), "{object}");
    let merged = &object["merged"];
    assert_eq!(merged["counters"]["sent"], 800, "{object}");
    assert_eq!(merged["counters"]["lost"], 80, "{object}");
    assert_eq!(merged["loss_percent"], 10.0, "{object}");
    assert_eq!(merged["targets"].as_array().unwrap().len(), 1, "{object}");
    // What is lost took at least its timeout, and is in the histogram.
    assert_eq!(merged["times_us"]["count"], 800, "{object}");
    assert!(
        merged["times_us"]["max"].as_f64().unwrap() >= 999_000.0,
        "{object}"
    );
    let [mean, ipdv] = ["mean_us", "ipdv_us"].map(|key| &object["runs"][0][key]);
    assert!(mean.as_f64().unwrap() > 0.0 && ipdv.is_f64(), "{object}");
    assert!(merged["mean_us"].as_f64().unwrap() > 0.0, "{object}");
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
    for head in ["received/s", "mean us", "ipdv us"] {
        assert!(text.contains(head), "{text}");
    }
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
        .map(|line| document("report", line)["kind"].clone())
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
    // A file is no worse than itself.
    assert_eq!(
        report(&[&fast, "--baseline", &fast, "--max-regression", "0"])
            .status
            .code(),
        Some(0)
    );
}

#[test]
fn runs_one_after_the_other_are_repetitions() {
    let folder = Folder::new("repeated");
    let target = Target::start(Fault::None);
    let runs: Vec<_> = ["a", "b", "c"]
        .iter()
        .map(|name| {
            let child = folder.start_load(&target, name, "--count 50 --rate 1k");
            folder.end_load(name, child)
        })
        .collect();
    let files: Vec<_> = runs.iter().flatten().map(String::as_str).collect();
    let (object, code) = object(&files);
    assert_eq!(
        (code, &object["notes"]),
        (0, &serde_json::json!([])),
        "{object}"
    );
    assert_eq!(object["loads"].as_array().unwrap().len(), 3, "{object}");
    let rate = |row: &Value| row["rate_pps"].as_f64().unwrap();
    assert!(
        (rate(&object["merged"]) - 1000.0).abs() < 100.0,
        "not three times that: {object}"
    );
    let [least, greatest] = [0, 1].map(|side| rate(&object["spread"][side]));
    assert!(least <= rate(&object["merged"]) && rate(&object["merged"]) <= greatest);

    // Against themselves nothing has changed, and three are too few to tell.
    let args = [&files[..], &["--max-regression", "0"]].concat();
    let baseline = files.iter().flat_map(|file| ["--baseline", file]);
    let output = report(&args.into_iter().chain(baseline).collect::<Vec<_>>());
    let page = String::from_utf8(output.stdout).unwrap();
    assert_eq!(output.status.code(), Some(0), "{page}");
    assert!(
        page.contains("median of 3") && page.contains("too few repetitions"),
        "{page}"
    );
    assert!(
        page.lines().all(|line| line.chars().count() <= 80),
        "{page}"
    );
}

#[test]
fn logs_one_after_the_other_are_repetitions_too() {
    let folder = Folder::new("logs");
    let target = Target::start(Fault::None);
    let logs = ["a", "b"].map(|name| {
        let child = folder.start_load(&target, name, "--count 50 --rate 1k");
        let [_, log] = folder.end_load(name, child);
        log
    });
    let (merged, _) = object(&[&logs[0], &logs[1]]);
    assert_eq!(merged["loads"].as_array().unwrap().len(), 2, "{merged}");
    assert_eq!(merged["notes"], serde_json::json!([]), "{merged}");
    // Another tool's, without our title.
    let others = ["a", "b"].map(|name| {
        let text = fs::read_to_string(folder.path(&format!("{name}.hlog"))).unwrap();
        let (_, text) = text.split_once('\n').unwrap();
        folder.write(&format!("other-{name}.hlog"), text)
    });
    let (merged, _) = object(&[&others[0], &others[1], "--unit", "ns"]);
    assert_eq!(merged["kind"], "other");
    assert_eq!(merged["loads"].as_array().unwrap().len(), 2, "{merged}");
    assert_eq!(merged["notes"], serde_json::json!([]), "{merged}");
}

#[test]
fn a_copy_of_a_run_counts_once() {
    let folder = Folder::new("copies");
    let [json, log_path] = folder.load("a", Fault::None, "--count 50 --rate 1k");
    let copies = [&json, &log_path].map(|path| {
        let copy = format!("{path}.copy");
        fs::copy(path, &copy).unwrap();
        copy
    });
    let link = folder.path("link");
    std::os::unix::fs::symlink(&json, &link).unwrap();
    for files in [
        [&json, &log_path, &copies[0], &copies[1]],
        [&json, &copies[0], &copies[1], &log_path],
        [&json, &json, &log_path, &link],
    ] {
        let files = files.map(String::as_str);
        let (object, code) = object(&files);
        assert_eq!((code, &object["merged"]), (0, &Value::Null), "{object}");
        assert_eq!(object["runs"][0]["counters"]["sent"], 50, "{object}");
        assert_eq!(object["runs"][0]["times_us"]["count"], 50, "{object}");
        let said = log(&report(&files)) + &object["notes"].to_string();
        assert_eq!(said.matches("counts once").count(), 2, "{said}");
    }
}

#[test]
fn unlike_runs_are_not_merged() {
    let folder = Folder::new("unlike");
    let target = Target::start(Fault::None);
    let runs = ["1k", "2k"].map(|rate| {
        let child = folder.start_load(&target, rate, &format!("--count 50 --rate {rate}"));
        folder.end_load(rate, child)
    });
    let files: Vec<_> = runs.iter().flatten().map(String::as_str).collect();
    let page = String::from_utf8(report(&files).stdout).unwrap();
    assert!(
        page.contains("; rate 1000") && page.contains("; rate 2000"),
        "{page}"
    );
    assert!(
        !page.contains("merged") && !page.contains("median"),
        "{page}"
    );
}
