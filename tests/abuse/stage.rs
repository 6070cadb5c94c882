//! Where an attack takes place: a reflector, one who attacks it, and one who only asks.

use std::net::{IpAddr, UdpSocket};
use std::rc::Rc;
use std::time::Duration;
use std::{env, fs};

use reflector_netlab::topology::{DockerHost, Route, net};
use reflector_testkit::queue::while_stopped;
use reflector_testkit::{Engine, LISTEN, Reflector, at};
use serde_json::Value;

/// How often an attack is repeated. `scripts/abuse.sh` asks for more than the tests do.
pub fn volleys() -> u32 {
    let asked = env::var("REFLECTOR_VOLLEYS").ok();
    asked.map_or(20, |text| {
        text.parse().expect("REFLECTOR_VOLLEYS is a number")
    })
}

/// Volleys before anything is measured.
pub const WARM_UP: u32 = 20;

/// Resident memory may grow by so many KiB: what malloc(3) and the page tables do meanwhile.
const GROWTH_MAX: u64 = 256;

/// A container attacks; a machine outside asks one question after each volley.
pub struct Stage {
    pub picture: Rc<DockerHost>,
    engine: Engine,
    reflector: Reflector,
    client: UdpSocket,
    times: u32,
    asked: u64,
    answered: u64,
}

/// What came of it.
pub struct Outcome {
    pub summary: Value,
    /// What of `received` was the attacker's.
    pub received: u64,
    asked: u64,
    answered: u64,
}

impl Stage {
    pub fn new(engine: Engine, args: &[&str]) -> Self {
        let picture = Rc::new(DockerHost::new().unwrap());
        // Replies to forged sources leave, by the attacker, who is not a router.
        let back = Route::to(net("0.0.0.0/0")).via(IpAddr::from(DockerHost::CONTAINER));
        picture.host.add_route(&back).unwrap();
        let args = [LISTEN, &["--cores", "1", "--interval", "0"], args].concat();
        let reflector = Reflector::start(&picture.host, engine, &args);
        let client = picture
            .outside
            .run(|| UdpSocket::bind("0.0.0.0:0").unwrap());
        client.connect(at(DockerHost::HOST)).unwrap();
        client
            .set_read_timeout(Some(Duration::from_secs(2)))
            .unwrap();
        Self {
            picture,
            engine,
            reflector,
            client,
            times: 1,
            asked: 0,
            answered: 0,
        }
    }

    /// The attack goes on for this many times as long as others.
    pub fn longer(mut self, times: u32) -> Self {
        self.times = times;
        self
    }

    /// Repeats `volley`, and has the client ask after each. Says what `what` cost, as a row of
    /// `RELIABILITY.md`; a volley has `sent` datagrams.
    pub fn attack(mut self, what: &str, sent: u64, mut volley: impl FnMut()) -> Outcome {
        let volleys = volleys() * self.times;
        // Buffers that were never used are not resident yet: a volley comes in one batch here, and
        // so takes as many as it ever will.
        for _ in 0..WARM_UP {
            while_stopped(&self.reflector, &mut volley);
            self.ask();
        }
        let (memory, cpu) = (self.memory_kib(), self.cpu_ns());
        for _ in 0..volleys {
            volley();
            self.ask();
            // It may have ended, which its end below tells with the reason.
            if self.answered + 5 < self.asked {
                break;
            }
        }
        let grown = self.memory_kib().saturating_sub(memory);
        let cpu = self.cpu_ns() - cpu;
        let (summary, _) = self.reflector.stop_with_log();
        let count = |key: &str| summary[key].as_u64().expect("a count");
        let (asked, answered) = (self.asked, self.answered);
        let hostile = u64::from(volleys) * sent;
        println!(
            "row | {what} | {} | {hostile} | {} | {} | {} | {answered} of {asked} | {grown} KiB |",
            self.engine.name(),
            count("received") - answered,
            count("replied") - answered,
            cpu / hostile,
        );
        // One may meet a receive buffer that a volley has just filled, where a busy machine has not
        // let the worker run.
        assert!(
            asked - answered <= (asked / 100).max(1),
            "{what}: {answered} of {asked} are answered"
        );
        assert!(grown <= GROWTH_MAX, "{what}: {grown} KiB more");
        assert!(
            count("bytes_replied") <= count("bytes_received"),
            "{what}: {summary}"
        );
        assert!(count("replied") <= count("received"), "{what}: {summary}");
        Outcome {
            received: count("received").saturating_sub(asked),
            summary,
            asked,
            answered,
        }
    }

    fn ask(&mut self) {
        self.asked += 1;
        let question = self.asked.to_ne_bytes();
        self.client.send(&question).unwrap();
        let mut answer = [0; 16];
        // An answer that was given up may still come.
        while let Ok(len) = self.client.recv(&mut answer) {
            if answer[..len] == question {
                self.answered += 1;
                return;
            }
        }
    }

    /// Resident memory of its own, without pages of files.
    fn memory_kib(&self) -> u64 {
        let status = fs::read_to_string(format!("/proc/{}/status", self.reflector.pid())).unwrap();
        let line = status
            .lines()
            .find_map(|line| line.strip_prefix("RssAnon:"))
            .unwrap();
        line.trim_end_matches("kB").trim().parse().unwrap()
    }

    /// CPU time of all its threads, as the scheduler counts it.
    fn cpu_ns(&self) -> u64 {
        let threads = fs::read_dir(format!("/proc/{}/task", self.reflector.pid())).unwrap();
        let of_thread = |entry: std::io::Result<fs::DirEntry>| -> u64 {
            let text = fs::read_to_string(entry.unwrap().path().join("schedstat")).unwrap();
            text.split(' ').next().unwrap().parse().unwrap()
        };
        threads.map(of_thread).sum()
    }
}

impl Outcome {
    /// That all of what was received of the attacker was dropped for `reason`.
    #[track_caller]
    pub fn expect_dropped(&self, reason: &str) {
        assert!(self.received > 0, "{}", self.summary);
        assert_eq!(
            self.summary["dropped"][reason], self.received,
            "{}",
            self.summary
        );
    }

    /// That the kernel let none of it through to the reflector.
    #[track_caller]
    pub fn expect_unseen(&self) {
        assert_eq!(self.answered, self.asked, "{}", self.summary);
        assert_eq!(self.received, 0, "{}", self.summary);
    }

    /// That all of it was received and answered, as far as the kernel would send.
    #[track_caller]
    pub fn expect_answered(&self) {
        assert!(self.received > 0, "{}", self.summary);
        assert_eq!(
            self.summary["dropped"]["rate_limited"], 0,
            "{}",
            self.summary
        );
    }
}
