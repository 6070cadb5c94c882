//! How many datagrams a source may send: in fixed memory, whatever comes.
//!
//! Every source has a load: each of its datagrams that is answered adds to it, and it halves by
//! itself in a fixed time. One that would lift the load above its bound is not answered. A source
//! that has been silent has room for a burst, and one that never is for the rate, since decay and
//! arrivals balance there. A prefix that holds many sources has a load of its own, with a higher
//! bound.
//!
//! Loads lie in lines of a cache line each. A key, a prefix and its length, may be in either of
//! two lines that a keyed hash gives (SipHash), and is told apart by 16 more bits of it; a new one
//! takes the place of the least load there. So what comes once cannot put out what comes often,
//! and without the seed nobody can tell which keys share a line. After the table of loads by which
//! Knot DNS limits its responses.

use std::hash::Hasher;
use std::io;
use std::net::IpAddr;
use std::time::{Duration, Instant};

use siphasher::sip::SipHasher13;

/// What each source may send.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Limit {
    /// Datagrams a second, for ever.
    pub rate: u32,
    /// Datagrams at once, after a rest.
    pub burst: u32,
    /// Lengths of the IPv4 prefixes that are limited; one beyond that of an address counts as it.
    pub lens_v4: Vec<u8>,
    /// The same of IPv6.
    pub lens_v6: Vec<u8>,
    /// Answer what is beyond all the same, and count it.
    pub is_dry_run: bool,
}

impl Limit {
    /// The most prefix lengths that one family may have; of more, the first are limited.
    pub const LENS_MAX: usize = 8;

    /// `rate` datagrams a second, and as many at once, by the default prefixes.
    pub fn new(rate: u32) -> Self {
        Self {
            rate,
            burst: rate,
            lens_v4: vec![32, 24],
            lens_v6: vec![64, 56, 48],
            is_dry_run: false,
        }
    }
}

/// Lines of the table; 64 bytes each.
const LINES: usize = 1 << 14;
/// Loads of a line.
const LOADS: usize = 10;
/// What a burst comes to, as loads are counted.
const BURST: f64 = (1_u32 << 31) as f64;
/// Ticks in which a load halves.
const TICKS: u64 = 32;
/// How many times the bound of a prefix is that of one 8 bits longer.
const SHARE: f64 = 32.0;

/// The least burst by rate, in seconds: ticks are no shorter than two microseconds, so that their
/// count wraps after more than two hours.
const TIME_CONSTANT_MIN: f64 = 1e-4;

/// Loads that were last made to decay at the same time.
#[derive(Clone, Copy, Debug, Default)]
#[repr(align(64))]
struct Line {
    /// When, in ticks; it wraps.
    tick: u32,
    tags: [u16; LOADS],
    loads: [u32; LOADS],
}

const _: () = assert!(size_of::<Line>() == 64);

/// A prefix that is limited, and what it costs.
#[derive(Clone, Copy, Debug)]
struct Class {
    /// The bits of an address that count.
    mask: u128,
    /// What tells its keys from those of other classes.
    salt: u8,
    /// What a datagram adds to a load.
    price: u32,
    /// The highest load that has room for one.
    bound: u32,
}

/// Limits the sources of one worker.
#[derive(Debug)]
pub struct Limiter {
    classes_v4: Vec<Class>,
    classes_v6: Vec<Class>,
    lines: Box<[Line]>,
    seed: (u64, u64),
    start: Instant,
    tick_ns: u64,
    is_dry_run: bool,
}

impl Limiter {
    /// A limiter that has seen nobody, from `start` on, with a seed that nobody can know.
    ///
    /// # Errors
    /// `ENOSYS` and the like of getrandom(2).
    pub fn open(limit: &Limit, start: Instant) -> io::Result<Self> {
        let mut seed = [0; 16];
        rustix::rand::getrandom(&mut seed, rustix::rand::GetRandomFlags::empty())?;
        let seed = u128::from_ne_bytes(seed);
        let seed = (seed as u64, (seed >> 64) as u64);
        Ok(Self::new(limit, seed, start))
    }

    /// A limiter that has seen nobody, from `start` on; allocates all it will ever need. `seed` has
    /// to be one that nobody can know.
    pub fn new(limit: &Limit, seed: (u64, u64), start: Instant) -> Self {
        Self::with_lines(limit, seed, start, LINES)
    }

    fn with_lines(limit: &Limit, seed: (u64, u64), start: Instant, lines: usize) -> Self {
        // With a whole burst for a load, what decays in a second is what `rate` datagrams add: the
        // time constant is burst / rate, of which ln 2 is the time to halve.
        let rate = f64::from(limit.rate.max(1));
        let time_constant = (f64::from(limit.burst.max(1)) / rate).max(TIME_CONSTANT_MIN);
        let burst = rate * time_constant;
        let half = Duration::from_secs_f64(time_constant * std::f64::consts::LN_2);
        Self {
            classes_v4: classes(&limit.lens_v4, 32, burst),
            classes_v6: classes(&limit.lens_v6, 128, burst),
            lines: vec![Line::default(); lines].into_boxed_slice(),
            seed,
            start,
            tick_ns: half.as_nanos() as u64 / TICKS,
            is_dry_run: limit.is_dry_run,
        }
    }

    /// Whether what is beyond is answered all the same.
    pub fn is_dry_run(&self) -> bool {
        self.is_dry_run
    }

    /// Bytes that a limiter takes, whatever comes.
    pub const LEN: usize = LINES * size_of::<Line>();

    /// How many of `count` datagrams of `source` at `now` are within its limits; those are counted.
    pub fn admit(&mut self, source: IpAddr, count: u32, now: Instant) -> u32 {
        let since_ns = now.saturating_duration_since(self.start).as_nanos() as u64;
        let tick = (since_ns / self.tick_ns) as u32;
        let (bits, classes) = match source {
            IpAddr::V4(ip) => (u128::from(ip.to_bits()), &self.classes_v4),
            IpAddr::V6(ip) => (ip.to_bits(), &self.classes_v6),
        };
        let mut admitted = count;
        let mut places = [(0, 0); Limit::LENS_MAX];
        for (class, place) in classes.iter().zip(&mut places) {
            let hash = hash(self.seed, bits & class.mask, class.salt);
            *place = find(&mut self.lines, hash, tick);
            let (line, slot) = *place;
            let load = self.lines[line].loads[slot];
            let room = class.bound.checked_sub(load);
            admitted = admitted.min(room.map_or(0, |room| room / class.price + 1));
        }
        for (class, (line, slot)) in classes.iter().zip(places) {
            let load = &mut self.lines[line].loads[slot];
            // The room was for as many, unless two of its prefixes share a place.
            *load = load.saturating_add(admitted * class.price);
        }
        admitted
    }
}

/// The classes of prefixes of `lens` of addresses of so many `bits`, of which the longest may have
/// a `burst`.
fn classes(lens: &[u8], bits: u8, burst: f64) -> Vec<Class> {
    let lens = lens.iter().take(Limit::LENS_MAX).map(|&len| len.min(bits));
    let longest = lens.clone().max().unwrap_or(bits);
    let class = |len: u8| {
        let burst = burst * SHARE.powf(f64::from(longest - len) / 8.0);
        let price = BURST / burst;
        Class {
            mask: mask(len) >> (128 - u32::from(bits)),
            salt: len | (u8::from(bits == 32) << 7),
            price: (price as u32).max(1),
            // From one price above it, a load is there again when the next datagram is due.
            bound: (price / (1.0 / burst).exp_m1()) as u32,
        }
    };
    lens.map(class).collect()
}

/// The first `len` of 128 bits.
fn mask(len: u8) -> u128 {
    u128::MAX.checked_shl(128 - u32::from(len)).unwrap_or(0)
}

fn hash(seed: (u64, u64), prefix: u128, salt: u8) -> u64 {
    let mut hasher = SipHasher13::new_with_keys(seed.0, seed.1);
    hasher.write_u128(prefix);
    hasher.write_u8(salt);
    hasher.finish()
}

/// The two lines of `count` in which a key may be.
fn candidates(hash: u64, count: usize) -> [usize; 2] {
    [hash >> 16, hash >> 40].map(|bits| bits as usize % count)
}

/// The place of a key: where it was, or that of the least load of its two lines, which is its own
/// from now on.
fn find(lines: &mut [Line], hash: u64, tick: u32) -> (usize, usize) {
    let tag = hash as u16;
    let candidates = candidates(hash, lines.len());
    for line in candidates {
        lines[line].decay(tick);
        let same = lines[line].tags.iter().zip(&lines[line].loads);
        if let Some(slot) = { same }.position(|(&it, &load)| it == tag && load > 0) {
            return (line, slot);
        }
    }
    let least = |line: usize| {
        let loads = lines[line].loads.iter().zip(0..);
        let (load, slot) = loads.min().expect("a line has loads");
        (*load, line, slot)
    };
    let (_, line, slot) = least(candidates[0]).min(least(candidates[1]));
    lines[line].tags[slot] = tag;
    lines[line].loads[slot] = 0;
    (line, slot)
}

impl Line {
    /// Lets the loads decay until `tick`.
    fn decay(&mut self, tick: u32) {
        let ticks = u64::from(tick.wrapping_sub(self.tick));
        if ticks == 0 {
            return;
        }
        self.tick = tick;
        let (halvings, rest) = (ticks / TICKS, ticks % TICKS);
        if halvings >= 32 {
            self.loads = [0; LOADS];
            return;
        }
        let factor = DECAY[rest as usize];
        for load in &mut self.loads {
            *load = ((u64::from(*load) * factor) >> (32 + halvings)) as u32;
        }
    }
}

/// By ticks, what is left of a load, in 2⁻³²: 2^(-n/32).
#[rustfmt::skip]
static DECAY: [u64; TICKS as usize] = [
    0x1_0000_0000, 0xfa83_b2db, 0xf525_7d15, 0xefe4_b99c, 0xeac0_c6e8, 0xe5b9_06e7, 0xe0cc_deec,
    0xdbfb_b798, 0xd744_fccb, 0xd2a8_1d92, 0xce24_8c15, 0xc9b9_bd86, 0xc567_2a11, 0xc12c_4cca,
    0xbd08_a39f, 0xb8fb_af47, 0xb504_f334, 0xb123_f582, 0xad58_3eea, 0xa9a1_5ab5, 0xa5fe_d6a9,
    0xa270_4303, 0x9ef5_3260, 0x9b8d_39ba, 0x9837_f052, 0x94f4_efa9, 0x91c3_d373, 0x8ea4_398b,
    0x8b95_c1e3, 0x8898_0e81, 0x85aa_c368, 0x82cd_8699,
];

#[cfg(test)]
mod tests;
