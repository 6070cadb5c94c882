//! Three times as much as the server can answer.

use std::env;
use std::fs;

use reflector_testkit::{Engine, Reflector, command, on_both_engines};

use super::scene::{Load, Played, SERVER, Scene, at, count, started_by};

/// How long the overload lasts as a test like others; the script says more, on an idle machine.
const SECONDS: u64 = 2;
/// How much more memory may be resident afterwards.
const GROWTH_KIB_MAX: u64 = 512;
/// Steps in which the capacity is looked for, each with half as much again as the one before.
const STEPS_MAX: u32 = 8;

on_both_engines! {
    /// What is too much is dropped and counted by the kernel; the rest is answered as before.
    fn more_than_it_can_answer(engine: Engine) {
        let long = env::var("REFLECTOR_FAULTS_SECONDS").ok();
        let seconds = long.as_ref().map_or(SECONDS, |it| it.parse().expect("seconds"));
        let capacity = capacity(engine, if long.is_some() { STEPS_MAX } else { 1 });

        let scene = Scene::new();
        let reflector = start(&scene, engine);
        let rate = (3.0 * capacity).round();
        // Every buffer has been in use once.
        let first = offer(&scene, rate, 1).end();
        let before = resident_kib(reflector.pid());
        let load = offer(&scene, rate, seconds).end();
        let after = resident_kib(reflector.pid());
        scene.find(&SERVER.map(at));
        let sent = count(&first["sent"]) + count(&load["sent"]);
        let mut played = Played::end(load, reflector);
        let replied = count(&played.server["replied"]) as f64 / (1 + seconds) as f64;
        let offered = played.at("sent") as f64 / seconds as f64;
        played.log = format!(
            "capacity {capacity:.0} /s, offered {:.1} times that for {seconds} s, replied {:.2} \
             times; VmRSS {before} to {after} KiB",
            offered / capacity,
            replied / capacity,
        );
        played.tell("more than it can answer", engine);
        let server = &played.server;
        let arrived = count(&server["received"]) + count(&server["kernel_drops_least"]);
        // Those that were asked whether anybody is there, too.
        assert!(arrived <= sent + 100, "{sent} {server}");
        assert!(after <= before + GROWTH_KIB_MAX, "{before} {after}");
        if long.is_some() {
            assert!(replied >= 0.9 * capacity, "{}", played.log);
        }
    }
}

/// The most that a server has replied a second, of rates that begin with what is answered at the
/// pace of the answers, until more is offered than it replies to.
fn capacity(engine: Engine, steps: u32) -> f64 {
    let replied = |load: &dyn Fn(&Scene) -> Load| {
        let scene = Scene::new();
        let reflector = start(&scene, engine);
        let played = Played::end(load(&scene).end(), reflector);
        let is_all = count(&played.server["kernel_drops"]) == 0;
        (count(&played.server["replied"]) as f64 / 2.0, is_all)
    };
    let window = ["--window", "512", "--duration", "2s"];
    let (mut rate, _) = replied(&|scene| pinned(scene, &window));
    let mut most = rate;
    for _ in 1..steps {
        rate = (rate * 1.5).round();
        let (answered, is_all) = replied(&|scene| offer(scene, rate, 2));
        most = f64::max(most, answered);
        if !is_all && answered < 0.8 * rate {
            break;
        }
    }
    most
}

/// A server that answers datagram by datagram on the first CPU, so that the other one can offer
/// more.
fn start(scene: &Scene, engine: Engine) -> Reflector {
    scene.start(engine, &["--cpus", "0", "--gro", "off", "--gso", "off"])
}

/// A load of trains, at a rate that is kept whatever comes back.
fn offer(scene: &Scene, rate: f64, seconds: u64) -> Load {
    let (rate, seconds) = (rate.to_string(), seconds.to_string());
    pinned(
        scene,
        &["--rate", &rate, "--burst", "32", "--duration", &seconds],
    )
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
