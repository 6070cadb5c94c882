//! Files that are made to take memory or time without end: each is refused, or read, within the
//! bound that the README names, and nothing that is added up wraps.

use std::fmt::Write;
use std::fs;
use std::process::{Command, Output};

use reflector_testkit::targets::Fault;
use reflector_testkit::{document, program};

use super::{Folder, log};

/// KiB of address space that reading any file fits in.
const ROOM_KIB: u32 = 512 << 10;
/// Seconds after which a test takes it for endless; all of it is done in a few.
const ENDLESS_S: u32 = 300;

/// `reflector report --json` on what `script` names as `$1`, in its room.
fn within_bounds(script: &str, path: &str) -> Output {
    let script = format!("ulimit -v {ROOM_KIB} && {script}");
    let mut command = Command::new("timeout");
    command.env_remove("REFLECTOR_REQUIRE");
    command.args([&ENDLESS_S.to_string(), "sh", "-c", &script]);
    command.arg(program()).arg(path).output().unwrap()
}

fn refused(path: &str, words: &str) {
    let output = within_bounds("exec \"$0\" report \"$1\"", path);
    let said = log(&output);
    assert_eq!(output.status.code(), Some(1), "{path}: {said}");
    assert_eq!(said.lines().count(), 1, "{path}: {said}");
    assert!(said.starts_with("ERROR cannot "), "{path}: {said}");
    assert!(said.contains(words) && said.len() < 800, "{path}: {said}");
}

#[test]
fn what_is_made_to_use_up_memory_is_refused_with_its_limit() {
    let folder = Folder::new("hostile");
    let [_, saved] = folder.load("one", Fault::None, "--count 20 --rate 1k");
    let saved = fs::read_to_string(saved).unwrap();
    let line = saved.lines().last().unwrap();
    let histogram = &line[line.find("HIST").unwrap()..];

    // Each run is a line of a hundred bytes, and none of them has a summary.
    let interval = "{\"schema\":2,\"type\":\"interval\",\"seconds\":1,\"received\":1,\
                    \"rtt_us\":{\"count\":0}}\n{\"schema\":2,\"type\":\"ready\"}\n";
    let runs = interval.repeat(2000);
    let long = "k".repeat(15 << 20);
    let nested = "[".repeat(1 << 20);
    let mut keys = String::from("[{");
    write!(keys, "\"{long}\":[\"{histogram}\"").unwrap();
    keys += &format!(",\"{histogram}\"").repeat(60);
    keys += "]}]";
    let mut tags = String::new();
    for tag in 0..4 {
        writeln!(tags, "Tag={long}{tag},0.1,1,1,{histogram}").unwrap();
    }
    for (name, text, words) in [
        (
            "runs.json",
            &*runs,
            "more than 1000 runs in one file; split it",
        ),
        ("keys.json", &*keys, "keys of more than 300 bytes"),
        ("tags.hlog", &*tags, "tag has more than 300 bytes"),
        ("nested.json", &*nested, "recursion limit exceeded"),
        ("line.json", &*"x".repeat(17 << 20), "longer than 16 MiB"),
    ] {
        refused(&folder.write(name, text), words);
    }
}

#[test]
fn many_files_together_have_a_bound_as_well() {
    let folder = Folder::new("together");
    let summary = "{\"schema\":2,\"type\":\"summary\",\"seconds\":1,\"received\":1,\
                   \"rtt_us\":{\"count\":0}}\n";
    let files: Vec<_> = (0..5)
        .map(|number| folder.write(&number.to_string(), &summary.repeat(1000)))
        .collect();
    let script = "cd \"$1\" && \"$0\" report --json 0 1 2 3 4 > /dev/null";
    let output = within_bounds(script, &folder.path(""));
    let said = log(&output);
    assert_eq!(output.status.code(), Some(1), "{files:?}: {said}");
    assert!(
        said.contains("cannot take 4 in: there are more than 4000 runs in all"),
        "{said}"
    );
}

#[test]
fn what_has_no_end_or_nobody_writes_keeps_nobody_waiting() {
    let folder = Folder::new("endless");
    let fifo = folder.path("fifo");
    assert!(
        Command::new("mkfifo")
            .arg(&fifo)
            .status()
            .unwrap()
            .success()
    );
    refused(&fifo, "it is empty");
    refused("/dev/zero", "neither a regular file nor a pipe");
    // Sparse: three GiB that take no room, of which two are read.
    let sparse = fs::File::create(folder.path("sparse.json")).unwrap();
    sparse.set_len(3 << 30).unwrap();
    refused(
        &folder.path("sparse.json"),
        "it has more than 2 GiB; split it",
    );
    let summary = "{\"schema\":2,\"type\":\"summary\",\"seconds\":1,\"received\":1,\
                   \"rtt_us\":{\"count\":0}}";
    let written = folder.write("piped.json", &format!("{summary}\n"));
    let through = "exec bash -c '\"$0\" report --json <(sleep 0.2; cat \"$1\")' \"$0\" \"$1\"";
    let output = within_bounds(through, &written);
    assert_eq!(output.status.code(), Some(0), "{}", log(&output));
    assert!(!output.stdout.is_empty());
}

#[test]
fn no_sum_of_a_file_wraps() {
    let folder = Folder::new("sums");
    let most = u64::MAX;
    let times = format!(
        "\"count\":{most},\"min\":1,\"p50\":1e308,\"p90\":-1e308,\"p99\":1,\"p99_9\":1,\"max\":1"
    );
    let summary = |start: f64| {
        let end = start + 10.0;
        format!(
            "{{\"schema\":2,\"type\":\"summary\",\"seconds\":1e308,\"received\":{most},\
             \"sent\":{most},\"lost\":{most},\"kernel_drops\":{most},\
             \"dropped\":{{\"a\":{most},\"b\":{most}}},\
             \"send_errors\":{{\"a\":{most},\"b\":2}},\
             \"start_unix_seconds\":{start:e},\"end_unix_seconds\":{end:e},\
             \"rtt_us\":{{{times}}}}}\n"
        )
    };
    let one = summary(1e9) + &summary(1e9 + 1.0) + &summary(2e9) + &summary(-1e308);
    let path = folder.write("sums.json", &one);
    let output = within_bounds("exec \"$0\" report --json \"$1\"", &path);
    let said = log(&output);
    assert_eq!(output.status.code(), Some(0), "{said}");
    let text = String::from_utf8(output.stdout).unwrap();
    let object = document("report", text.lines().next().unwrap());
    let merged = &object["loads"][1]["counters"];
    for (counter, sum) in [("sent", most), ("dropped", most), ("refused", most)] {
        assert_eq!(merged[counter], sum, "{object}");
    }
    // Repetitions, whose times are added as well.
    let repeated = summary(1e9) + &summary(2e9);
    let repeated = folder.write("repeated.json", &repeated);
    let output = within_bounds("exec \"$0\" report --json \"$1\"", &repeated);
    let text = String::from_utf8(output.stdout).unwrap();
    let object = document("report", text.lines().next().unwrap());
    assert_eq!(object["merged"]["times_us"]["count"], most, "{object}");
    // And as a page.
    let output = within_bounds("exec \"$0\" report \"$1\"", &path);
    assert_eq!(output.status.code(), Some(0), "{}", log(&output));
}
