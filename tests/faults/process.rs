//! What happens to the process: it is stopped as a whole, or its clock is set.

use std::fs;
use std::io::Write;
use std::path::PathBuf;
use std::process::{self, Command, Stdio};
use std::thread;
use std::time::Duration;

use reflector_netlab::topology::{Namespace, skip};
use reflector_testkit::queue::{self, Delivered};
use reflector_testkit::{Client, Engine, PORT, Reflector, command, on_both_engines};
use rustix::process::Signal;
use serde_json::Value;

use super::scene::{CALM, Played, Scene, count, some_of, tell_cells};

/// Datagrams that one receive takes.
const IN_ONE_BATCH: u64 = 16;

on_both_engines! {
    /// What comes meanwhile waits in the receive buffers.
    fn a_process_that_is_stopped_and_goes_on(engine: Engine) {
        let scene = Scene::new();
        let reflector = scene.start(engine, &[]);
        let args = ["load", "10.9.0.1:5151", "--json", "--rate", "1k", "--duration", "2.5s"];
        let load = scene.load_with(&[&args[..], &["--timeout", "5s"]].concat());
        thread::sleep(CALM);
        queue::stop(&reflector);
        thread::sleep(Duration::from_millis(1500));
        reflector.signal(Signal::CONT);
        let played = Played::end(load.end(), reflector);
        played.tell("stopped for 1.5 s (SIGSTOP, SIGCONT)", engine);
        assert_eq!(played.at("lost"), 0, "{}", played.load);
        assert_eq!(played.said(), [""; 0]);
        let longest = played.load["rtt_us"]["max"].as_f64().unwrap();
        assert!(longest >= 1.4e6, "the load has seen it: {longest}");
    }

    /// Residence times across the step are not known, and counted as that: no hour, and nothing
    /// negative. What comes afterwards is timed again.
    fn a_clock_that_is_set_by_an_hour(engine: Engine) {
        let Some(clock) = SteppedClock::build(engine) else {
            return skip("a_clock_that_is_set_by_an_hour", "clients", "no C compiler");
        };
        for &(case, hours) in some_of(&[("an hour on", 1), ("an hour back", -1)]) {
            let host = Namespace::new().unwrap();
            clock.set(0);
            let mut program = command(&[
                "--json", "--engine", engine.name(), "--listen", "127.0.0.1:5151", "--cores", "1",
                "--interval", "50ms",
            ]);
            program.env("LD_PRELOAD", &clock.library).env("STEP_FILE", &clock.offset);
            let reflector = Reflector::attach(host.run(|| program.spawn().unwrap()));
            let client = Client::connect(&host, ([127, 0, 0, 1], PORT).into());
            client.ask(b"before");
            // Stamped before the step, and answered after it.
            let send = || {
                let delivered = Delivered::count(&host);
                (0..IN_ONE_BATCH).for_each(|_| client.send(b"across"));
                delivered.wait_for(IN_ONE_BATCH);
            };
            queue::while_stopped(&reflector, || {
                send();
                clock.set(hours * 3600);
            });
            (0..IN_ONE_BATCH).for_each(|_| client.expect(b"across"));
            queue::while_stopped(&reflector, || {
                send();
                clock.set(0);
            });
            (0..IN_ONE_BATCH).for_each(|_| client.expect(b"across"));
            let (summary, log) = reflector.stop_with_log();
            tell(&format!("clock set by {case} and back"), engine, &summary, &log);
            assert_eq!(summary["replied"], 1 + 2 * IN_ONE_BATCH, "{summary}");
            let times = &summary["residence_us"];
            let known = count(&times["count"]) + count(&summary["clock_stepped"]);
            assert_eq!(known, 1 + 2 * IN_ONE_BATCH, "{summary}");
            assert!(count(&summary["clock_stepped"]) >= IN_ONE_BATCH, "{summary}");
            assert!(times["max"].as_f64().unwrap() < 60e6, "{summary}");
            assert!(times["min"].as_f64().unwrap() >= 0.0, "{summary}");
            let at = |key: &str| summary[key].as_f64().unwrap();
            let span = at("end_unix_seconds") - at("start_unix_seconds");
            assert!((span - at("seconds")).abs() < 0.1, "{summary}");
        }
    }
}

fn tell(case: &str, engine: Engine, summary: &Value, log: &str) {
    let stepped = format!("clock_stepped {}", summary["clock_stepped"]);
    let both = [&summary["received"], &summary["replied"]].map(Value::to_string);
    let [received, replied] = both;
    let said = reflector_testkit::own_lines(log)
        .collect::<Vec<_>>()
        .join(" / ");
    tell_cells(&[
        case.to_owned(),
        engine.name().to_owned(),
        received.clone(),
        replied.clone(),
        "0".to_owned(),
        "0".to_owned(),
        received,
        replied,
        stepped,
        said,
    ]);
}

/// A library that puts an offset on CLOCK_REALTIME as the program reads it: the clock of the
/// machine is other programs' too, and time namespaces leave it alone (time_namespaces(7)). Stamps
/// of the kernel stay as they are, so it is a step only for what was stamped before; the tests set
/// it back before more comes.
struct SteppedClock {
    library: PathBuf,
    offset: PathBuf,
}

const SOURCE: &str = "
#define _GNU_SOURCE
#include <fcntl.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>
static volatile long *offset;
__attribute__((constructor)) static void map(void) {
    int file = open(getenv(\"STEP_FILE\"), O_RDONLY);
    offset = mmap(0, sizeof *offset, PROT_READ, MAP_SHARED, file, 0);
    close(file);
}
int clock_gettime(clockid_t clock, struct timespec *time) {
    int result = syscall(SYS_clock_gettime, clock, time);
    if (clock == CLOCK_REALTIME && offset) time->tv_sec += *offset;
    return result;
}
";

impl SteppedClock {
    /// Built by the C compiler that links Rust; `None` where it is not called `cc`.
    fn build(engine: Engine) -> Option<Self> {
        let name = format!("reflector-step-{}-{}", engine.name(), process::id());
        let place = std::env::temp_dir().join(name);
        let clock = Self {
            library: place.with_extension("so"),
            offset: place.with_extension("offset"),
        };
        let mut compiler = Command::new("cc");
        compiler.args(["-shared", "-fPIC", "-x", "c", "-", "-o"]);
        compiler.arg(&clock.library).stdin(Stdio::piped());
        let mut compiler = compiler.spawn().ok()?;
        let mut source = compiler.stdin.take().expect("it is piped");
        source.write_all(SOURCE.as_bytes()).expect("it reads");
        drop(source);
        assert!(compiler.wait().expect("it is our child").success());
        Some(clock)
    }

    fn set(&self, seconds: i64) {
        let file = fs::File::options()
            .write(true)
            .create(true)
            .truncate(false)
            .open(&self.offset);
        file.unwrap().write_all(&seconds.to_ne_bytes()).unwrap();
    }
}

impl Drop for SteppedClock {
    fn drop(&mut self) {
        for path in [&self.library, &self.offset] {
            // It may not have been written.
            let _ = fs::remove_file(path);
        }
    }
}
