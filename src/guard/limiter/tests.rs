use std::net::Ipv4Addr;

use super::*;
use reflector_measure::clock;

const SEED: (u64, u64) = (1, 2);

fn limit(rate: u32, burst: u32) -> Limit {
    Limit {
        burst,
        ..Limit::new(rate)
    }
}

/// What `source` gets of `count` datagrams that it sends evenly in a time.
fn evenly(limiter: &mut Limiter, source: &str, start: Instant, time: Duration, count: u32) -> u32 {
    let source = source.parse().unwrap();
    let due = |number| start + time * number / count;
    (0..count)
        .map(|number| limiter.admit(source, 1, due(number)))
        .sum()
}

#[test]
fn a_source_gets_its_burst_and_its_rate_and_what_is_within_is_never_refused() {
    let start = clock::monotonic();
    let time = Duration::from_secs(5);
    for source in ["10.0.0.1", "fd00::1"] {
        for (rate, burst) in [
            (1000, 1000),
            (1000, 50),
            (50, 1000),
            (1000, 1),
            (10_000, 10),
        ] {
            let mut limiter = Limiter::new(&limit(rate, burst), SEED, start);
            let most = f64::from(burst) + f64::from(rate) * time.as_secs_f64();
            let sent = 4 * (most as u32);
            let got = f64::from(evenly(&mut limiter, source, start, time, sent)) / most;
            assert!(
                (0.94..1.03).contains(&got),
                "{rate}/{burst}: {got} of what is due"
            );
            let mut limiter = Limiter::new(&limit(rate, burst), SEED, start);
            let sent = rate * 5 * 97 / 100;
            let got = evenly(&mut limiter, source, start, time, sent);
            assert_eq!(got, sent, "{rate}/{burst}");
        }
    }
}

#[test]
fn of_a_train_the_first_are_admitted() {
    let start = clock::monotonic();
    let mut limiter = Limiter::new(&limit(10, 10), SEED, start);
    let source = "10.0.0.1".parse().unwrap();
    assert_eq!(limiter.admit(source, 64, start), 10);
    assert_eq!(limiter.admit(source, 64, start), 0);
    let later = start + Duration::from_secs(60);
    assert_eq!(limiter.admit(source, 64, later), 10);
}

#[test]
fn a_network_has_a_limit_of_its_own() {
    let start = clock::monotonic();
    for (net, hosts) in [("10.0.0.", 256), ("10.0.", 256)] {
        let mut limiter = Limiter::new(&limit(10, 10), SEED, start);
        let mut got = 0;
        for host in 0..hosts {
            let rest = if net == "10.0." {
                format!("{host}.1")
            } else {
                host.to_string()
            };
            let source: IpAddr = format!("{net}{rest}").parse().unwrap();
            got += limiter.admit(source, 10, start);
        }
        let expected = if net == "10.0." { 2560 } else { 320 };
        assert!(got.abs_diff(expected) <= 2, "{net}: {got}");
    }
}

#[test]
fn lengths_that_no_address_has_are_that_of_an_address() {
    let start = clock::monotonic();
    let mut strange = limit(10, 10);
    (strange.lens_v4, strange.lens_v6) = (vec![200, 0], Vec::new());
    let mut limiter = Limiter::new(&strange, SEED, start);
    assert_eq!(limiter.admit([10, 0, 0, 1].into(), 64, start), 10);
    assert_eq!(limiter.admit([10, 0, 0, 2].into(), 64, start), 10);
    // Nothing is said of IPv6.
    assert_eq!(limiter.admit("::1".parse().unwrap(), 64, start), 64);
}

/// Forged sources without number, each once.
fn flood(limiter: &mut Limiter, count: u32, now: Instant) {
    for number in 0..count {
        let source = Ipv4Addr::from_bits(number.wrapping_mul(0x9e37_79b9) | 0x8000_0000);
        limiter.admit(source.into(), 1, now);
    }
}

#[test]
fn forged_sources_cost_neither_memory_nor_others_their_replies() {
    let start = clock::monotonic();
    let mut limiter = Limiter::new(&limit(1000, 100), SEED, start);
    let (within, beyond): (IpAddr, IpAddr) = ([10, 0, 0, 1].into(), [10, 9, 0, 1].into());
    let (mut answered, mut refused) = (0, 0);
    for number in 0..1000 {
        let now = start + Duration::from_millis(2) * number;
        answered += limiter.admit(within, 1, now);
        refused += 10 - limiter.admit(beyond, 10, now);
        flood(&mut limiter, 200, now);
    }
    assert_eq!(limiter.lines.len() * size_of::<Line>(), Limiter::LEN);
    assert_eq!(answered, 1000, "half of its rate");
    // Five times its rate: it stays known among those that come once.
    assert!((7800..8000).contains(&refused), "{refused}");
}

/// Sources that share both lines with `victim`, under `seed`.
fn neighbours(victim: Ipv4Addr, seed: (u64, u64), lines: usize, count: usize) -> Vec<IpAddr> {
    let lines = |ip: Ipv4Addr| candidates(hash(seed, ip.to_bits().into(), 32 | 0x80), lines);
    let theirs = lines(victim);
    // Each of a network of its own, which has a limit as well.
    let all = (0..1 << 20).map(|number| Ipv4Addr::from_bits(0x4000_0000 + (number << 8)));
    let near = all.filter(|&ip| lines(ip).iter().all(|line| theirs.contains(line)));
    near.take(count).map(IpAddr::V4).collect()
}

#[test]
fn who_does_not_know_the_seed_cannot_put_out_a_chosen_source() {
    const LINES: usize = 64;
    let start = clock::monotonic();
    let victim = Ipv4Addr::new(10, 0, 0, 1);
    let crowd = neighbours(victim, SEED, LINES, 2 * LOADS);
    assert_eq!(crowd.len(), 2 * LOADS);
    // What the victim gets beyond its limit, once the crowd has been there.
    let gets_again = |seed| {
        let mut limiter = Limiter::with_lines(&limit(10, 10), seed, start, LINES);
        assert_eq!(limiter.admit(victim.into(), 10, start), 10);
        let later = start + Duration::from_millis(10);
        crowd
            .iter()
            .for_each(|&source| _ = limiter.admit(source, 10, later));
        limiter.admit(victim.into(), 10, later)
    };
    assert_eq!(
        gets_again(SEED),
        10,
        "whoever knows the seed makes the limiter forget"
    );
    for seed in 100..200 {
        assert_eq!(gets_again((seed, !seed)), 0, "seed {seed}");
    }
}
