//! How far apart two CPUs are: what it takes to hand a cache line over and get it back.
//!
//! A hypervisor moves virtual CPUs about. While the two share a last-level cache this takes some
//! tens of nanoseconds, otherwise several hundred, and then all that a generator hands to a server
//! costs more, payloads above all. A guest is told nothing of it, so it is measured beside every
//! sample.

use std::fmt;
use std::hint;
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread;

use core_affinity::CoreId;
use reflector_measure::clock;

/// Turns, of which the shortest counts: the others were interrupted.
const TURNS: usize = 20;
/// Round trips of one turn.
const ROUND_TRIPS: u32 = 100;

/// Two threads of one core are closer than this.
const SIBLINGS_NS: f64 = 45.0;
/// Two cores with a common last-level cache are closer than this, others farther apart.
const NEAR_NS: f64 = 200.0;

/// Where two CPUs are that do not share a core.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Placement {
    /// With a common cache.
    Near,
    /// Without.
    Far,
}

impl Placement {
    /// Both.
    pub const ALL: [Self; 2] = [Self::Near, Self::Far];

    /// What the distances before and after a sample tell; nothing if the CPUs have moved meanwhile,
    /// or shared a core.
    pub fn during(distances_ns: [f64; 2]) -> Option<Self> {
        let [before, after] = distances_ns.map(Self::at);
        before.filter(|_| before == after)
    }

    fn at(distance_ns: f64) -> Option<Self> {
        match distance_ns {
            ..SIBLINGS_NS => None,
            ..NEAR_NS => Some(Self::Near),
            _ => Some(Self::Far),
        }
    }
}

impl fmt::Display for Placement {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Near => "near",
            Self::Far => "far",
        })
    }
}

/// A line of its own, and the one that the prefetcher fetches with it.
#[repr(align(128))]
struct Line(AtomicU32);

/// Nanoseconds in which a cache line goes from one CPU to the other and back.
pub fn round_trip_ns(cpus: [CoreId; 2]) -> f64 {
    let line = Line(AtomicU32::new(0));
    let last = 2 * ROUND_TRIPS * TURNS as u32;
    thread::scope(|scope| {
        scope.spawn(|| {
            core_affinity::set_for_current(cpus[1]);
            answer(&line, last);
        });
        let ask = scope.spawn(|| {
            core_affinity::set_for_current(cpus[0]);
            let turn = |turn| ask(&line, 2 * ROUND_TRIPS * turn as u32);
            (0..TURNS).map(turn).fold(f64::INFINITY, f64::min)
        });
        ask.join().expect("nothing in it panics")
    })
}

/// Counts up from `first` in turn with the other CPU; how long each round trip took.
fn ask(line: &Line, first: u32) -> f64 {
    let start = clock::monotonic();
    for count in (first..first + 2 * ROUND_TRIPS).step_by(2) {
        line.0.store(count + 1, Ordering::Release);
        wait_for(line, count + 2);
    }
    start.elapsed().as_nanos() as f64 / f64::from(ROUND_TRIPS)
}

fn answer(line: &Line, last: u32) {
    for count in (0..last).step_by(2) {
        wait_for(line, count + 1);
        line.0.store(count + 2, Ordering::Release);
    }
}

fn wait_for(line: &Line, count: u32) {
    while line.0.load(Ordering::Acquire) != count {
        hint::spin_loop();
    }
}
