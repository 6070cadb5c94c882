//! `reflector load`, and the reflector's own report, in worlds that they are told nothing of.
//!
//! A seed draws a service, a path and a load, with faults or without (`world`). Counters of nft,
//! which count at each end of the path, and the faulty service itself know what became of each
//! datagram. What the reports say has to be that, or bounds around it, and never anything else.
//!
//! Ten worlds are a test. `scripts/worlds.sh` draws a hundred, or one again by its seed:
//! `REFLECTOR_WORLDS` says how many and `REFLECTOR_WORLD` the first seed.

mod faulty;
mod stage;
mod world;

use std::env;

use reflector_netlab::topology::in_namespaces;
use reflector_testkit::io_uring;
use serde_json::Value;

use stage::{Stage, Truth};
use world::{Service, World};

const TEST_NAME: &str = "what_is_said_of_a_world_is_right";
/// The first seed unless another is given, and how many.
const SEED: u64 = 1;
const WORLDS: u64 = 10;

#[test]
fn what_is_said_of_a_world_is_right() {
    in_namespaces(TEST_NAME, || {
        let number = |name, otherwise| match env::var(name) {
            Ok(text) => text.parse().expect("a number"),
            Err(_) => otherwise,
        };
        let first = number("REFLECTOR_WORLD", SEED);
        let mut wrong = Vec::new();
        for seed in first..first + number("REFLECTOR_WORLDS", WORLDS) {
            let mut world = World::draw(seed);
            if let Service::Reflector(engine) = &mut world.service
                && io_uring().is_err()
            {
                *engine = reflector_testkit::Engine::Mmsg;
            }
            let Some(stage) = Stage::new(&world, TEST_NAME) else {
                return;
            };
            let (summary, truth) = stage.play(&world);
            let faults = judge(&world, &summary, &truth);
            eprintln!(
                "world {seed}: {world}: {}",
                if faults.is_empty() { "right" } else { "WRONG" }
            );
            if !faults.is_empty() {
                let again = format!("scripts/worlds.sh 1 {seed}");
                wrong.push(format!(
                    "{again}: {world}\n{}\n{truth:?}\n{summary}",
                    faults.join("\n")
                ));
            }
        }
        assert!(wrong.is_empty(), "{}", wrong.join("\n\n"));
    });
}

/// What `summary` says that is not `truth`.
fn judge(world: &World, summary: &Value, truth: &Truth) -> Vec<String> {
    let mut faults = Vec::new();
    let mut hold = |is_so: bool, what: &str| {
        if !is_so {
            faults.push(what.to_owned());
        }
    };
    let count = |value: &Value| value.as_u64().unwrap_or(u64::MAX);
    let at = |key: &str| count(&summary[key]);
    let missing = &summary["missing"];
    let within = |part: &Value, value: u64| {
        let [least, most] = ["least", "most"].map(|key| count(&part[key]));
        least <= value && value <= most
    };

    let due = at("sent") + at("refused") + at("unsent");
    hold(
        due == world.load.count,
        "all that was due is sent, refused or unsent",
    );
    hold(
        at("sent") == at("received") + at("lost"),
        "sent is received or lost",
    );
    hold(
        at("refused") == 0 || truth.may_refuse,
        "nothing refuses here",
    );

    // A busy machine may be late by itself, and says so.
    let otherwise = count(&missing["answered_otherwise"]);
    hold(
        otherwise >= truth.from_elsewhere,
        "a wrong source is an answer",
    );
    let late = otherwise.saturating_sub(truth.from_elsewhere);
    hold(
        late <= at("late"),
        "answered otherwise is late, or from a wrong source",
    );
    let in_queue = at("sent").saturating_sub(truth.arrived);
    let at_server = truth.server_drops();
    let elsewhere = truth.lost_up + truth.lost_down + at_server;
    let own = (at("lost")).saturating_sub(otherwise + in_queue + elsewhere);
    hold(
        at("lost") == otherwise + in_queue + elsewhere || at("trains_dropped") > 0,
        "what is lost is exact",
    );
    hold(
        within(&missing["queue"], in_queue),
        "lost in the queue of the device",
    );
    hold(within(&missing["elsewhere"], elsewhere), "lost elsewhere");
    hold(
        within(&missing["own_sockets"], own),
        "lost at our own sockets",
    );
    hold(
        world.queue.is_some() || at("queue_drops") == 0,
        "no queue drops here",
    );

    hold(
        count(&summary["wrong_source"]["total"]) == truth.from_elsewhere,
        "wrong sources",
    );
    // Those of the last datagrams may come when nothing is waited for any more.
    let is_all = truth.duplicated.saturating_sub(64)..=truth.duplicated;
    hold(is_all.contains(&at("duplicated")), "duplicates");
    hold(at("reordered") <= truth.swapped_most, "reordered");
    for none in ["corrupt", "foreign"] {
        hold(at(none) == 0, none);
    }
    let code = match (
        truth.from_elsewhere > 0,
        at("received") + at("duplicated") + at("late"),
    ) {
        (true, _) => 4,
        (false, 0) if at("sent") == 0 => 1,
        (false, 0) => 3,
        (false, _) => 0,
    };
    hold(at("exit_code") == code, "the exit code");

    if world.starvation.is_some() && world.load.rate >= 2000 {
        let is_said = at("sent_late") > 0 || at("unsent") > 0;
        hold(is_said, "the generator stood still");
    }
    if let Some(stall) = truth.stall.filter(|_| at("received") > 100) {
        let longest = summary["rtt_us"]["max"].as_f64().unwrap_or(0.0);
        hold(longest >= stall.as_secs_f64() * 0.5e6, "the stall shows");
    }
    for (what, is_so) in truth.of_server() {
        hold(is_so, what);
    }
    faults
}
