//! The policy against worlds of which is known what a look and a sleep cost.

use fastrand::Rng;
use proptest::prelude::*;

use super::*;
use crate::clock;
use reflector_udp::usage::Usage;

/// A worker that answers one datagram at a time, and those who ask.
#[derive(Clone, Debug)]
struct World {
    /// From a reply to the next request, in the mean, and whether it varies.
    gap_us: f64,
    is_random: bool,
    /// CPU time of a reply, and of a sleep.
    work_us: f64,
    sleep_us: f64,
    /// How late a sleep ends.
    late_us: f64,
    /// Whether nobody can ask while this worker has the CPU.
    is_shared: bool,
    /// Looks after which somebody else takes the CPU; 0 for none.
    taken_after: u32,
}

/// What a worker has done in one.
struct Lived {
    look: Look,
    at: Instant,
    usage: Usage,
    waits: u64,
    looks: u64,
    found: u64,
    rng: Rng,
}

fn us(us: f64) -> Duration {
    Duration::from_secs_f64(us / 1e6)
}

impl Lived {
    fn new() -> Self {
        Self {
            look: Look::default(),
            at: clock::monotonic(),
            usage: Usage::default(),
            waits: 0,
            looks: 0,
            found: 0,
            rng: Rng::with_seed(7),
        }
    }

    fn work(&mut self, time: Duration) {
        self.at += time;
        self.usage.cpu += time;
    }

    /// Looks for `limit` at most, while what is waited for comes after `gap`.
    fn look(&mut self, world: &World, limit: Duration, gap: Duration) -> bool {
        self.looks += 1;
        let is_taken = world.taken_after > 0 && self.looks.is_multiple_of(world.taken_after.into());
        let mut glance = Glance::begin(limit, self.at);
        let until = self.at + gap;
        let has_found = loop {
            self.work(Duration::from_nanos(200));
            if is_taken {
                self.at += Duration::from_millis(3);
                self.usage.preempted += 1;
            }
            let goes_on = glance.goes_on(self.at);
            if !world.is_shared && !is_taken && self.at >= until {
                break true;
            }
            if !goes_on {
                break false;
            }
        };
        self.look.looked(glance.outcome(has_found), glance.end());
        self.found += u64::from(has_found);
        has_found
    }

    fn wait(&mut self, world: &World) {
        let factor = if world.is_random {
            -(1.0 - self.rng.f64()).ln()
        } else {
            1.0
        };
        let gap = us(world.gap_us * factor);
        let start = self.at;
        let limit = self.look.limit();
        let has_found = limit.is_some_and(|limit| self.look(world, limit, gap));
        if !has_found {
            let begun = if world.is_shared { self.at } else { start };
            self.at = self.at.max(begun + gap) + us(world.late_us);
            self.usage.cpu += us(world.sleep_us);
        }
        self.work(us(world.work_us));
        self.waits += 1;
        self.look.received(1);
        let (at, usage) = (self.at, self.usage);
        self.look.waited(|| Some(Reading { at, usage }));
    }

    fn wait_often(&mut self, world: &World, waits: u64) {
        (0..waits).for_each(|_| self.wait(world));
    }
}

/// Sleeps are dear, and who asks is quick.
const PING_PONG: World = World {
    gap_us: 15.0,
    is_random: false,
    work_us: 5.0,
    sleep_us: 20.0,
    late_us: 20.0,
    is_shared: false,
    taken_after: 0,
};

/// The share of waits that end with a look, once it is known what they cost.
fn share_found(world: &World) -> f64 {
    let mut lived = Lived::new();
    lived.wait_often(world, 2_000);
    let (found, waits) = (lived.found, lived.waits);
    lived.wait_often(world, 100_000);
    (lived.found - found) as f64 / (lived.waits - waits) as f64
}

/// CPU time, as a ratio to that of a worker that always sleeps.
fn cpu_ratio(world: &World, waits: u64) -> f64 {
    let mut lived = Lived::new();
    lived.wait_often(world, waits);
    let asleep = us(world.work_us + world.sleep_us) * waits as u32;
    lived.usage.cpu.as_secs_f64() / asleep.as_secs_f64()
}

#[test]
fn where_sleeps_are_dear_and_gaps_short_nearly_every_wait_ends_with_a_look() {
    assert!(share_found(&PING_PONG) > 0.98);
    assert!(cpu_ratio(&PING_PONG, 100_000) < 0.85);
}

#[test]
fn nothing_is_looked_for_where_gaps_are_long() {
    let mut lived = Lived::new();
    lived.wait_often(
        &World {
            gap_us: 1000.0,
            ..PING_PONG
        },
        10_000,
    );
    assert_eq!(lived.looks, 0);
}

#[test]
fn nearly_nothing_is_looked_for_where_those_who_ask_need_the_cpu() {
    let world = World {
        is_shared: true,
        ..PING_PONG
    };
    let mut lived = Lived::new();
    lived.wait_often(&world, 100_000);
    assert_eq!(lived.found, 0);
    assert!(lived.looks > 0 && lived.looks < 40, "{}", lived.looks);
}

#[test]
fn nearly_nothing_is_looked_for_where_the_cpu_is_taken_away() {
    let world = World {
        taken_after: 50,
        ..PING_PONG
    };
    assert!(share_found(&world) < 0.02);
}

#[test]
fn looks_go_on_where_the_cpu_is_taken_away_now_and_then() {
    let world = World {
        taken_after: 20_000,
        ..PING_PONG
    };
    assert!(share_found(&world) > 0.9);
}

#[test]
fn a_look_is_no_longer_than_what_is_usual_takes() {
    let mut lived = Lived::new();
    lived.wait_often(
        &World {
            gap_us: 3.0,
            ..PING_PONG
        },
        2_000,
    );
    let limit = lived.look.limit().expect("it looks");
    assert!(limit < us(16.0), "{limit:?}");
}

#[test]
fn what_stops_is_looked_for_three_times() {
    let mut lived = Lived::new();
    lived.wait_often(&PING_PONG, 2_000);
    let before = lived.looks;
    // The signs of life that a server asks for.
    let quiet = World {
        gap_us: 250_000.0,
        ..PING_PONG
    };
    lived.wait_often(&quiet, 10_000);
    assert_eq!(lived.looks - before, u64::from(MISSES_MAX));
    lived.wait_often(&PING_PONG, 2_000);
    assert!(lived.look.limit().is_some(), "and again once it goes on");
}

#[test]
fn nothing_is_looked_for_where_nobody_tells_what_it_costs() {
    let mut look = Look::default();
    for _ in 0..10_000 {
        look.received(1);
        look.waited(|| None);
        assert_eq!(look.limit(), None);
    }
}

#[test]
fn a_jump_of_the_clock_ends_a_look_and_what_came_meanwhile_is_found() {
    let now = clock::monotonic();
    let mut glance = Glance::begin(LOOK_MAX, now);
    assert!(glance.goes_on(now + us(1.0)));
    assert!(!glance.goes_on(now + us(201.0)));
    let outcome = |found_after, lost| Outcome { found_after, lost };
    assert_eq!(glance.outcome(false), outcome(None, us(200.0)));
    assert_eq!(glance.outcome(true), outcome(Some(us(201.0)), us(200.0)));
    let mut glance = Glance::begin(us(2.0), now);
    assert!(!glance.goes_on(now + us(2.0)));
    assert_eq!(glance.outcome(false), outcome(None, Duration::ZERO));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(100))]

    #[test]
    fn it_costs_nothing_whatever_a_sleep_costs(
        gap_us in 0.5..2000.0,
        is_random: bool,
        work_us in 2.0..20.0,
        sleep_us in 0.5..40.0,
        late_us in 0.0..50.0,
        is_shared: bool,
        taken_after in prop_oneof![Just(0_u32), 1..2000_u32],
    ) {
        let world = World { gap_us, is_random, work_us, sleep_us, late_us, is_shared, taken_after };
        let ratio = cpu_ratio(&world, 30_000);
        prop_assert!(ratio <= 1.05, "{ratio}");
    }

    #[test]
    fn it_learns_anew_what_changes(
        gaps_us in proptest::collection::vec(1.0..300.0, 1..4),
        sleep_us in 1.0..30.0,
    ) {
        let mut lived = Lived::new();
        for gap_us in gaps_us {
            lived.wait_often(&World { gap_us, sleep_us, ..PING_PONG }, 5_000);
        }
        lived.wait_often(&PING_PONG, 50_000);
        prop_assert!(lived.look.limit().is_some() || lived.look.spans_asleep < SPANS_MIN);
    }
}
