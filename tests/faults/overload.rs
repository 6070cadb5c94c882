//! Three times as much as the server can answer.

use std::env;
use std::fs;

use reflector_netlab::observe::counter;
use reflector_testkit::{Engine, Reflector, command, on_both_engines};
use serde_json::Value;

use super::scene::{Load, Played, SERVER, Scene, at, count, started_by};

/// How long the overload lasts as a test like others; the script says more, on an idle machine.
const SECONDS: u64 = 2;
/// It is offered in turns with just enough to keep the server busy, so that what else the machine
/// does concerns both.
const SLICE_SECONDS: u64 = 5;
/// How much more memory may be resident afterwards.
const GROWTH_KIB_MAX: u64 = 512;
/// Steps in which the capacity is looked for, each with half as much again as the one before.
const STEPS_MAX: u32 = 10;

on_both_engines! {
    /// What is too much is dropped and counted by the kernel; the rest is answered as before.
    fn more_than_it_can_answer(engine: Engine) {
        let long = env::var("REFLECTOR_FAULTS_SECONDS").ok();
        let seconds = long.as_ref().map_or(SECONDS, |it| it.parse().expect("seconds"));
        let scene = Scene::new();
        let reflector = start(&scene, engine);
        let mut sent = 0;
        let mut offer = |rate: f64, seconds: u64| {
            let (load, replied) = offer(&scene, rate, seconds);
            sent += count(&load["sent"]);
            (load, replied)
        };

        let capacity = capacity(&mut offer, if long.is_some() { STEPS_MAX } else { 1 });
        let rate = (3.0 * capacity).round();
        // Every buffer has been in use once.
        offer(rate, 1);
        let before = resident_kib(reflector.pid());
        let (mut busy, mut overload, mut last) = (0.0, 0.0, Value::Null);
        let slice = SLICE_SECONDS.min(seconds);
        let slices = seconds / slice;
        for _ in 0..slices {
            busy += offer((1.3 * capacity).round(), slice).1;
            let (load, replied) = offer(rate, slice);
            (overload, last) = (overload + replied, load);
        }
        let after = resident_kib(reflector.pid());
        scene.find(&SERVER.map(at));
        let mut played = Played::end(last, reflector);
        let offered = played.at("sent") as f64 / slice as f64;
        let share = overload / busy;
        played.log = format!(
            "busy at {:.0} /s, offered {:.1} times that for {seconds} s, replied {share:.2} times \
             that; VmRSS {before} to {after} KiB",
            busy / slices as f64,
            offered * slices as f64 / busy,
        );
        played.tell("more than it can answer", engine);
        let server = &played.server;
        let arrived = count(&server["received"]) + count(&server["kernel_drops_least"]);
        // Those that were asked whether anybody is there, too.
        assert!(arrived <= sent + 100, "{sent} {server}");
        assert!(after <= before + GROWTH_KIB_MAX, "{before} {after}");
        if long.is_some() {
            assert!(share >= 0.9, "{}", played.log);
        }
    }
}

/// The most that is replied a second, of offered rates that rise until they are no longer met.
fn capacity(offer: &mut impl FnMut(f64, u64) -> (Value, f64), steps: u32) -> f64 {
    let (mut rate, mut most) = (20_000.0, 0.0);
    for _ in 0..steps.max(1) {
        let (_, replied) = offer(rate, 1);
        most = f64::max(most, replied);
        if replied < 0.8 * rate {
            break;
        }
        rate = (rate * 1.5).round();
    }
    most
}

/// A server that answers datagram by datagram on the first CPU, so that the other one can offer
/// more.
fn start(scene: &Scene, engine: Engine) -> Reflector {
    // A short queue, so that little of it is left to be answered after a load.
    let queue = ["--rcvbuf", "256KiB"];
    let each = ["--cpus", "0", "--gro", "off", "--gso", "off"];
    scene.start(engine, &[&each[..], &queue].concat())
}

/// A load of trains, at a rate that is kept whatever comes back; and what was replied a second.
fn offer(scene: &Scene, rate: f64, seconds: u64) -> (Value, f64) {
    let sent = || counter(&scene.server, "Udp", "OutDatagrams").expect("every kernel counts it");
    let before = sent();
    let (rate, length) = (rate.to_string(), seconds.to_string());
    let load = pinned(
        scene,
        &["--rate", &rate, "--burst", "32", "--duration", &length],
    );
    let load = load.end();
    (load, (sent() - before) as f64 / seconds as f64)
}

/// A load on the last CPU.
fn pinned(scene: &Scene, args: &[&str]) -> Load {
    let last = core_affinity::get_core_ids().unwrap().last().unwrap().id;
    let load = [
        "load",
        "10.9.0.1:5151",
        "--json",
        "--timeout",
        "1s",
        "--cores",
        "1",
    ];
    let load = command(&[&load[..], args].concat());
    let mut load = started_by("taskset", &["-c", &last.to_string()], &load);
    Load(scene.peer.run(|| load.spawn().unwrap()))
}

/// Resident memory of a process (`VmRSS`, proc_pid_status(5)).
pub fn resident_kib(pid: u32) -> u64 {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).expect("it runs");
    let value = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let kib = value.and_then(|it| it.split_whitespace().next());
    kib.and_then(|it| it.parse().ok())
        .expect("every process has it")
}
