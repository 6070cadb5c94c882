//! The limiter by itself, against more sources than there are. It has a process of its own,
//! whose memory is measured; `scripts/abuse.sh` runs those that are ignored one at a time.

use std::fs;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::time::Duration;

use fastrand::Rng;
use reflector::internals::guard::Limit;
use reflector::internals::guard::limiter::Limiter;
use reflector_measure::clock;

/// Resident memory of this process in KiB, without pages of files.
fn memory_kib() -> u64 {
    let status = fs::read_to_string("/proc/self/status").unwrap();
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("RssAnon:"))
        .unwrap();
    line.trim_end_matches("kB").trim().parse().unwrap()
}

/// `count` random sources that `any` gives, a million a second, which is several a second for each
/// place of the table: more than a source may send. Two hundred victims send half of their limit.
fn survive(count: u64, victims: impl Fn(u16) -> IpAddr, mut any: impl FnMut() -> IpAddr) {
    let start = clock::monotonic();
    let mut limiter = Limiter::open(&Limit::new(1), start).unwrap();
    // What is touched is resident from now on.
    (0..100_000).for_each(|_| _ = limiter.admit(any(), 1, start));
    let before = memory_kib();
    let (mut asked, mut admitted) = (0_u64, 0);
    for number in 0..count {
        let now = start + Duration::from_micros(number);
        limiter.admit(any(), 1, now);
        if number % 10_000 == 0 {
            admitted += limiter.admit(victims((asked % 200) as u16), 1, now);
            asked += 1;
        }
    }
    let grown = memory_kib().saturating_sub(before);
    let each = start.elapsed().as_secs_f64() * 1e9 / count as f64;
    println!(
        "limiter | {count} beside {} | {admitted} of {asked} | {grown} KiB | {each:.0} ns |",
        victims(0),
    );
    assert!(
        u64::from(admitted) * 100 >= asked * 99,
        "{admitted} of {asked} are admitted"
    );
    assert!(grown <= 64, "{grown} KiB more");
}

fn any_v4() -> impl FnMut() -> IpAddr {
    let mut rng = Rng::with_seed(3);
    move || Ipv4Addr::from_bits(rng.u32(..)).into()
}

fn any_v6() -> impl FnMut() -> IpAddr {
    let mut rng = Rng::with_seed(4);
    move || Ipv6Addr::from_bits(0x2000 << 112 | rng.u128(..) >> 3).into()
}

fn victim_v4(number: u16) -> IpAddr {
    Ipv4Addr::new(10, number as u8, 0, 1).into()
}

fn victim_v6(number: u16) -> IpAddr {
    Ipv6Addr::new(0xfd00, number, 0, 0, 0, 0, 0, 1).into()
}

#[test]
fn a_million_random_sources_cost_neither_memory_nor_replies() {
    survive(1_000_000, victim_v4, any_v4());
}

/// Take a minute or two in release; `scripts/abuse.sh` runs them.
#[test]
#[ignore = "only in release"]
fn a_hundred_million_random_sources_of_ipv4_cost_neither_memory_nor_replies() {
    survive(100_000_000, victim_v4, any_v4());
}

#[test]
#[ignore = "only in release"]
fn a_hundred_million_random_sources_of_ipv6_cost_neither_memory_nor_replies() {
    survive(100_000_000, victim_v6, any_v6());
}
