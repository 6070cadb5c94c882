//! A world, as a seed draws it: nothing of it is told to whom is judged.

use std::fmt;
use std::time::Duration;

use reflector_testkit::Engine;
use reflector_testkit::random::Random;

/// A service, a path to it and a load, each with faults or without.
#[derive(Clone, Debug)]
pub struct World {
    pub is_v6: bool,
    pub service: Service,
    pub load: Load,
    /// Of so many requests one is lost on the way, and of so many answers.
    pub loss_up: Option<u64>,
    pub loss_down: Option<u64>,
    /// Packets a second that the path lets pass.
    pub limit: Option<u64>,
    /// Of so many sends the generator's own host refuses one.
    pub refusal: Option<u64>,
    /// What the queue of the generator's device is: bits a second, bytes at once, bytes that wait.
    pub queue: Option<(u64, u64, u64)>,
    /// How long the generator stands still, once.
    pub starvation: Option<Duration>,
}

#[derive(Clone, Debug)]
pub enum Service {
    Reflector(Engine),
    Faulty(Faults),
}

/// What a service does wrong, each to one of so many datagrams.
#[derive(Clone, Debug, Default)]
pub struct Faults {
    pub duplicate: Option<u64>,
    pub other_port: Option<u64>,
    /// It answers the next one first.
    pub swap: Option<u64>,
    /// How long it stands still, once.
    pub stall: Option<Duration>,
}

#[derive(Clone, Copy, Debug)]
pub struct Load {
    pub count: u64,
    pub rate: u64,
    pub burst: u64,
    pub size: u64,
    pub flows: u64,
    pub cores: u64,
}

impl World {
    pub fn draw(seed: u64) -> Self {
        let mut random = Random::new(seed);
        // The first numbers of neighbouring seeds have something in common.
        random.number();
        let is_v6 = random.below(2) == 0;
        let service = match random.below(2) {
            0 => Service::Reflector(random.one_of(&[Engine::Uring, Engine::Mmsg])),
            _ => Service::Faulty(Faults::draw(&mut random)),
        };
        let load = Load {
            rate: random.one_of(&[500, 2000, 5000, 12_000]),
            count: 0,
            burst: random.one_of(&[1, 1, 8, 32]),
            size: random.one_of(&[40, 100, 700, 1400]),
            flows: random.one_of(&[1, 4, 16]),
            cores: random.one_of(&[1, 1, 2]),
        };
        let load = Load {
            // Whole bursts, half a second to one and a half.
            count: (load.rate * (5 + random.below(11) as u64) / 10).next_multiple_of(load.burst),
            ..load
        };
        let mut one_of_four = || random.below(4) == 0;
        let [up, down, limit, refusal, queue, starvation] = [(); 6].map(|()| one_of_four());
        let every = |random: &mut Random| 2 + random.below(30) as u64;
        let mut world = Self {
            is_v6,
            loss_up: up.then(|| every(&mut random)),
            loss_down: down.then(|| every(&mut random)),
            limit: limit.then(|| load.rate / load.burst / 2),
            refusal: refusal.then(|| every(&mut random)),
            queue: queue.then(|| {
                let wanted = load.rate * (load.size + 50) * 8;
                let at_once = random.one_of(&[1600, 10_000, 60_000]);
                (wanted / 2, at_once, random.one_of(&[5000, 20_000]))
            }),
            starvation: starvation.then(|| Duration::from_millis(200)),
            service,
            load,
        };
        if let Service::Faulty(faults) = &world.service
            && (faults.duplicate.is_some() || faults.swap.is_some())
        {
            // What of two answers is lost would be known to nobody.
            world.loss_down = None;
        }
        world
    }
}

impl Faults {
    fn draw(random: &mut Random) -> Self {
        let mut every = || match random.below(3) {
            0 => Some(2 + random.below(20) as u64),
            _ => None,
        };
        Self {
            duplicate: every(),
            other_port: every(),
            swap: every(),
            stall: every().map(|tens| Duration::from_millis(50 + 10 * tens)),
        }
    }
}

impl fmt::Display for World {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let family = if self.is_v6 { "IPv6" } else { "IPv4" };
        let Load {
            count,
            rate,
            burst,
            size,
            ..
        } = self.load;
        write!(
            f,
            "{family}, {count} of {size} bytes at {rate} /s in bursts of {burst}"
        )?;
        match &self.service {
            Service::Reflector(engine) => write!(f, ", reflector {}", engine.name())?,
            Service::Faulty(faults) => {
                let stall = faults.stall.map(|it| it.as_millis() as u64);
                for (fault, value) in [
                    ("duplicates 1 in", faults.duplicate),
                    ("other port 1 in", faults.other_port),
                    ("swaps 1 in", faults.swap),
                    ("stall of ms", stall),
                ] {
                    if let Some(value) = value {
                        write!(f, ", {fault} {value}")?;
                    }
                }
            }
        }
        for (fault, value) in [
            ("loss up 1 in", self.loss_up),
            ("loss down 1 in", self.loss_down),
            ("packets/s", self.limit),
            ("refused 1 in", self.refusal),
            ("queue of bit/s", self.queue.map(|it| it.0)),
            (
                "starved for ms",
                self.starvation.map(|it| it.as_millis() as u64),
            ),
        ] {
            if let Some(value) = value {
                write!(f, ", {fault} {value}")?;
            }
        }
        Ok(())
    }
}
