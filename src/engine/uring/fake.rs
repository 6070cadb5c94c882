//! A whole worker in a world that does its worst.
//!
//! The world is the kernel, those who ask, and the server that gives orders. It keeps the kernel's
//! promises (a send that does not wait is over when the submission returns; the error completion of
//! a send comes before `enter` has nothing left to do; recvmmsg(2) and sendmmsg(2) do what their
//! manual says) and no others: it accepts submissions in part, is interrupted or busy, ends
//! multishots with and without data, runs out of buffers and of memory, refuses sends for any
//! reason, has no room, and brings completions late and out of order. In between datagrams and
//! trains arrive, time passes, and lists change, counters are asked for, the ring is taken away,
//! until the worker is told to drain.
//!
//! What runs is the worker's own loop with guard, limiter and responders, on either engine; the
//! world is where the ring (`Ring`) and the system calls (`Calls`) are otherwise. An engine that is
//! looked on at (`Moves`) compares each batch with what the world knows.
//!
//! What must hold, at each step: every buffer is in exactly one place, and none is visible to the
//! kernel, or received into, while a send or another try still reads it. Each datagram is answered
//! once or counted, with the bytes and attributes that its responder says, never longer than it
//! was, from the address that it asked, to its peer; in order, where no train was refused. What the
//! lists of that moment refuse is not answered, nor what is beyond the limit. Each counter is what
//! follows from that, and they add up. A drain answers all that is queued.
//!
//! A seed fails with its shortest story and the command that tells it again.

mod calls;
mod choices;
mod fates;
mod message;
mod replies;
mod ring;
mod rules;
mod run;
mod sends;
mod shrink;
mod watched;
mod world;

use std::collections::BTreeMap;
use std::env;
use std::ops::Range;
use std::panic::resume_unwind;
use std::thread;

use crate::batch::Batch;
use crate::engine::Moves;
use crate::engine::settings::Wait;
use choices::Choices;
use run::{Life, arm_broken, live};
use watched::Mistake;
use world::BUFFERS;

/// Steps of each seed before it is told to drain.
const STEPS: usize = 1000;
/// Seeds of an ordinary test.
const SEEDS: Range<u64> = 0..40;
/// Seeds of the long one.
const MANY_SEEDS: Range<u64> = 0..1100;
/// Other seeds than those: `17..18`.
const VARIABLE: &str = "REFLECTOR_SEEDS";

/// All that the world can do; each has to have been done.
const DEEDS: [&str; 24] = [
    "looked for completions",
    "looked for datagrams",
    "accepted a part",
    "failed an enter",
    "ran out of buffers",
    "ended a multishot with data",
    "ended it with an empty datagram",
    "failed a receive",
    "cancelled a receive",
    "found nothing",
    "cut a receive short",
    "disarmed a receive",
    "brought errors out of order",
    "refused a train",
    "refused a single",
    "refused another try",
    "had no room",
    "interrupted a send",
    "held a completion back",
    "held a datagram back",
    "changed the lists",
    "changed the routes",
    "asked for counters",
    "took the ring away",
];

/// Lives by each of `seeds`; says how many steps that were.
fn live_all(seeds: Range<u64>) -> usize {
    let mut covered: BTreeMap<_, usize> = BTreeMap::new();
    let mut steps = 0;
    for seed in seeds.clone() {
        match live(Choices::by_seed(seed), STEPS, None, false) {
            Ok(lived) => {
                steps += lived.steps;
                for (deed, count) in lived.coverage {
                    *covered.entry(deed).or_default() += count;
                }
            }
            Err(failure) => panic!("{}", told(seed, &failure, None)),
        }
    }
    let is_covered = |deed: &str| covered.get(deed).is_some_and(|&count| count > 5);
    assert!(
        seeds.end - seeds.start < SEEDS.end || DEEDS.into_iter().all(is_covered),
        "each has been done: {covered:?}"
    );
    steps
}

/// The shortest story of a failure of `seed`, and how to be told it again.
fn told(seed: u64, failure: &run::Failure, mistake: Option<Mistake>) -> String {
    let shortest = shrink::shortest(failure, STEPS, mistake);
    format!(
        "seed {seed} fails after {} steps: {}\nthe shortest story found, {} steps:\n{}\n\
         {}\nagain: {VARIABLE}={seed}..{} cargo test -p reflector --lib worlds -- --ignored",
        failure.steps,
        failure.what,
        shortest.steps,
        shortest.story.join("\n"),
        shortest.what,
        seed + 1,
    )
}

#[test]
fn a_worker_keeps_its_promises_in_a_few_worlds() {
    live_all(SEEDS);
}

#[test]
#[ignore = "a million steps: .ci/run runs it"]
fn a_worker_keeps_its_promises_in_many_worlds() {
    let seeds = match env::var(VARIABLE) {
        Ok(text) => {
            let (start, end) = text.split_once("..").expect("seeds such as 17..18");
            start.parse().expect("a number")..end.parse().expect("a number")
        }
        Err(_) => MANY_SEEDS,
    };
    let count = thread::available_parallelism().map_or(1, |it| it.get() as u64);
    let at = |part: u64| seeds.start + (seeds.end - seeds.start) * part / count;
    let steps: usize = thread::scope(|scope| {
        let lives = |part| scope.spawn(move || live_all(at(part)..at(part + 1)));
        let parts: Vec<_> = (0..count).map(lives).collect();
        let steps = parts.into_iter().map(thread::ScopedJoinHandle::join);
        steps
            .map(|it| it.unwrap_or_else(|what| resume_unwind(what)))
            .sum()
    });
    println!("{steps} steps of seeds {seeds:?}");
    let is_all = seeds == MANY_SEEDS;
    assert!(!is_all || steps >= 1_000_000, "{steps} are no million");
}

#[test]
fn the_same_seed_lives_the_same_life() {
    for seed in SEEDS.take(4) {
        let steps = || live(Choices::by_seed(seed), STEPS, None, false).map(|it| it.steps);
        assert_eq!(steps().ok(), steps().ok(), "{seed}");
    }
}

/// The story of the first seed that finds `mistake`.
fn found(mistake: Mistake) -> (u64, Box<run::Failure>, String) {
    let lived = |seed| live(Choices::by_seed(seed), STEPS, Some(mistake), false).err();
    let first = SEEDS
        .into_iter()
        .find_map(|seed| Some((seed, lived(seed)?)));
    let (seed, failure) = first.expect("a seed finds it");
    let story = told(seed, &failure, Some(mistake));
    (seed, failure, story)
}

#[test]
fn a_reply_that_is_counted_twice_is_found_and_its_story_short() {
    let (_, failure, story) = found(Mistake::CountsTwice);
    assert!(failure.what.contains("replied"), "{}", failure.what);
    assert!(story.lines().count() < 40, "{story}");
}

#[test]
fn an_answer_that_the_lists_refuse_is_found_and_its_story_short() {
    let (_, failure, story) = found(Mistake::AnswersTheRefused);
    assert!(failure.what.contains("NotAllowed"), "{}", failure.what);
    assert!(story.lines().count() < 40, "{story}");
}

#[test]
fn nothing_is_ready_while_a_socket_cannot_be_received_from() {
    for seed in 0..4 {
        for errno in [libc::EACCES, libc::EBADF, libc::ENOMEM] {
            let (armed, ..) = arm_broken(Choices::by_seed(seed), Some(errno));
            let error = armed.unwrap_err().to_string();
            assert!(error.contains("cannot be received from"), "{error}");
        }
        arm_broken(Choices::by_seed(seed), None).0.unwrap();
    }
}

#[test]
fn a_socket_that_is_lost_ends_the_engine_and_is_counted() {
    for seed in 0..4 {
        let (_, life, mut stats) = arm_broken(Choices::by_seed(seed), None);
        let Life {
            mut engine, world, ..
        } = life;
        world.borrow_mut().broken = Some(libc::EBADF);
        let mut batch = Batch::new(usize::from(BUFFERS));
        let mut receive = || {
            engine
                .engine
                .receive(&mut batch, &mut stats, Wait::Never)
                .err()
        };
        let failed = (0..100).find_map(|_| receive());
        assert!(failed.is_some_and(|it| it.to_string().contains("EBADF")));
        let counted: Vec<_> = stats.counters().receive_errors().collect();
        assert_eq!(counted, [(libc::EBADF, 1)]);
    }
}
