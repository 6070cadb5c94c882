//! The plot.

use std::fs;
use std::path::Path;

use reflector_testkit::targets::{Fault, Target};

use super::{Folder, log, object, report};

#[test]
fn the_plot_is_one_self_contained_picture() {
    let folder = Folder::new("plot");
    // At one time, and long enough for their overlap.
    let options = "--count 1500 --rate 3k";
    let runs = [("a", Fault::None), ("b&<b>", Fault::DropTenth)].map(|(name, fault)| {
        let target = Target::start(fault);
        let child = folder.start_load(&target, name, options);
        (name, target, child)
    });
    let [[json, a], [_, b]] = runs.map(|(name, _target, child)| folder.end_load(name, child));
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
        "time (logarithmic)",
    ] {
        assert!(words.contains(&expected), "{expected}: {words:?}");
    }
    assert!(
        words.iter().any(|it| it.ends_with("b&<b>.hlog")),
        "{words:?}"
    );
    report(&[&json, &a, "--svg", &svg]);
    let text = fs::read_to_string(&svg).unwrap();
    assert!(
        text.contains("; asked for 3000/s, 64 bytes, 16 flows"),
        "{text}"
    );
    assert!(text.contains("received/s, 0.00 % lost"), "{text}");
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

#[test]
fn a_picture_of_many_runs_says_what_it_leaves_out() {
    let folder = Folder::new("many");
    let [_, one] = folder.load("one", Fault::None, "--count 500 --rate 5k");
    let text = fs::read_to_string(&one).unwrap();
    // Runs at one time, which are no copies of one another.
    let later = |line: &str, millis: u32| match line.split_once(',') {
        Some((start, rest)) if !line.starts_with(['#', '"']) => {
            let start = start.parse::<f64>().unwrap() + f64::from(millis) / 1000.0;
            format!("{start:.3},{rest}\n")
        }
        _ => format!("{line}\n"),
    };
    let files: Vec<_> = (0..12)
        .map(|it| {
            let text: String = text.lines().map(|line| later(line, it)).collect();
            folder.write(&format!("{it}.hlog"), &text)
        })
        .collect();
    let svg = folder.path("many.svg");
    let mut args: Vec<_> = files.iter().map(String::as_str).collect();
    args.extend(["--svg", &svg]);
    let output = report(&args);
    assert_eq!(output.status.code(), Some(0), "{}", log(&output));
    let page = String::from_utf8(output.stdout).unwrap();
    assert!(page.contains("11.hlog"), "{page}");
    let picture = fs::read_to_string(&svg).unwrap();
    assert!(picture.contains("3 of 13 lines are left out"), "{picture}");
}
