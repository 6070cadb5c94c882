//! Reports and logs that nobody takes, or that have no room.

use std::fs::{self, File};
use std::io;
use std::process::Child;
use std::thread;
use std::time::Duration;

use reflector_testkit::{Engine, command, on_both_engines, text};
use rustix::process::{Pid, Signal, kill_process};

use super::FAILED;
use super::scene::{Load, SERVER, Scene, at, started_by, tell_cells, with_listen};

/// Reports often, so that what takes them is soon full.
const ARGS: [&str; 4] = ["--json", "--interval", "2ms", "--engine"];

on_both_engines! {
    fn reports_that_have_no_room(engine: Engine) {
        let scene = Scene::new();
        let mut program = command(&with_listen(&[&ARGS[..], &[engine.name()]].concat()));
        program.stdout(File::create("/dev/full").unwrap());
        let child = scene.server.run(|| program.spawn().unwrap());
        serve(&scene, child, "stdout on a full device", engine, &[
            "ERROR cannot write the report: No space left on device (os error 28); the service \
             goes on",
        ]);
    }

    fn reports_that_nobody_reads(engine: Engine) {
        let scene = Scene::new();
        let (_reader, writer) = io::pipe().unwrap();
        let mut program = command(&with_listen(&[&ARGS[..], &[engine.name()]].concat()));
        program.stdout(writer);
        let child = scene.server.run(|| program.spawn().unwrap());
        // The writer that the command holds goes with it.
        drop(program);
        serve(&scene, child, "stdout is a pipe that nobody reads", engine, &[
            "ERROR nobody takes what is written to stdout: reports are lost",
            "ERROR reports are missing in stdout: it did not take them in time",
        ]);
    }

    /// The log of times is on a file system of 16 KiB.
    fn a_histogram_log_whose_file_system_is_full(engine: Engine) {
        let scene = Scene::new();
        let folder = std::env::temp_dir().join(format!(
            "reflector-full-{}-{}", engine.name(), std::process::id()
        ));
        fs::create_dir(&folder).unwrap();
        let script = "mount -t tmpfs -o size=16k tmpfs \"$0\" && exec \"$@\"";
        let log = folder.join("times.hlog");
        let args = [&ARGS[..], &[engine.name(), "--hdr", log.to_str().unwrap()]].concat();
        let program = command(&with_listen(&args));
        let folder_text = folder.to_str().unwrap();
        let apart = ["--mount", "sh", "-c", script, folder_text];
        let mut apart = started_by("unshare", &apart, &program);
        apart.stdout(File::create("/dev/null").unwrap());
        let child = scene.server.run(|| apart.spawn().unwrap());
        serve(&scene, child, "file system of --hdr full", engine, &[]);
        fs::remove_dir(&folder).unwrap();
    }
}

/// Loads what was started as `child` until its output is stuck, and ends it: it has answered all
/// the while, says `expected` of it (or something, where that is empty), and exits with 1.
fn serve(scene: &Scene, child: Child, case: &str, engine: Engine, expected: &[&str]) {
    scene.find(&SERVER.map(at));
    let load: Load = scene.load("10.9.0.1:5151", 2.0);
    let load = load.end();
    // Less than that is not stuck, with reports this often.
    thread::sleep(Duration::from_millis(100));
    kill_process(Pid::from_child(&child), Signal::TERM).unwrap();
    let output = child.wait_with_output().unwrap();
    let said: Vec<_> = reflector_testkit::own_lines(text(&output.stderr)).collect();
    let count = |key: &str| load[key].to_string();
    let cells = [
        case.to_owned(),
        engine.name().to_owned(),
        count("sent"),
        count("received"),
        count("lost"),
        count("refused"),
        String::new(),
        String::new(),
        format!("exit {}", output.status.code().unwrap_or(-1)),
        said.join(" / "),
    ];
    tell_cells(&cells);
    assert_eq!(load["lost"], 0, "{load}");
    assert_eq!(output.status.code(), Some(FAILED), "{said:?}");
    if expected.is_empty() {
        assert!(
            said.len() == 1 && said[0].contains("No space left on device"),
            "{said:?}"
        );
    } else {
        assert_eq!(said, expected);
    }
}
