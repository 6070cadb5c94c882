//! Both engines at once, and one of them with a program that answers in the kernel, while peers,
//! addresses, lists and links come and go.
//!
//! A peer of each server on an address that stays is asked all the while, and has to lose nothing.

use std::env;
use std::fs;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::process;
use std::thread;
use std::time::Duration;

use reflector_measure::clock;
use reflector_netlab::topology::{in_namespaces, net, skip};
use reflector_testkit::random::Random;
use reflector_testkit::{Engine, Reflector, io_uring};
use reflector_udp::netns::{self, Ability};
use rustix::process::Signal;
use serde_json::Value;

use super::overload::resident_kib;
use super::scene::{Load, Scene, count, not_replied, summary_of, tell_cells};

/// As a test like others; the script says more.
const SECONDS: u64 = 5;
/// What resident memory may grow by from the first third to the last, in all.
const GROWTH_KIB_MAX: u64 = 512;
/// Rounds that are needed to see whether something grows.
const ROUNDS_LEAST: u64 = 6;
/// Whom the peers that stay ask, and from where.
const STEADY: [[&str; 2]; 2] = [["10.9.0.1", "10.9.0.2"], ["fd09::1", "fd09::2"]];
/// The ports of the servers.
const PORTS: [u16; 3] = [5151, 5152, 5153];
/// Devices at which the last of them answers in the kernel.
const ACCELERATED: &[&str] = &["--accelerate", "v0", "--accelerate", "w0"];

/// A server, and what was seen of it while it ran.
struct Seen {
    name: &'static str,
    is_accelerated: bool,
    reflector: Reflector,
    resident_kib: Vec<u64>,
    descriptors: Vec<usize>,
}

#[test]
fn both_engines_and_the_kernel_while_everything_comes_and_goes() {
    let name = "soak::both_engines_and_the_kernel_while_everything_comes_and_goes";
    in_namespaces(name, || {
        let seconds = env::var("REFLECTOR_SOAK_SECONDS");
        let seconds = seconds.map_or(SECONDS, |it| it.parse().expect("seconds"));
        let seed = env::var("REFLECTOR_SOAK_SEED");
        let mut random = Random::new(seed.map_or(1, |it| it.parse().expect("a number")));
        let scene = Scene::new();
        scene.plug_in(&scene.server, "w0", "server2", "1", 1);
        scene.plug_in(&scene.peer, "w0", "peer2", "1", 2);
        // Otherwise the kernel removes IPv6 addresses with the link.
        let keep = "ipv6/conf/w0/keep_addr_on_down";
        scene.server.set_sysctl(keep, "1").unwrap();
        let list = List::new();
        let mut servers = vec![(Engine::Mmsg, &[][..])];
        if io_uring().is_ok() {
            servers.push((Engine::Uring, &[]));
        }
        match reflector_accelerate::probe() {
            Ok(()) => servers.push((Engine::Mmsg, ACCELERATED)),
            Err(error) if *netns::ability() == Ability::Direct => {
                skip("soak, in the kernel", "bpf", &error.to_string());
            }
            // A program is loaded in the first user namespace only.
            Err(_) => {}
        }
        let mut seen: Vec<_> = (servers.into_iter().zip(PORTS))
            .map(|((engine, more), port)| Seen::start(&scene, engine, more, port, &list))
            .collect();
        let steady: Vec<_> = (0..seen.len())
            .map(|it| STEADY.map(|pair| steady(&scene, pair, PORTS[it], seconds)))
            .collect();

        let end = clock::monotonic() + Duration::from_secs(seconds);
        let mut churned = Churned::default();
        while clock::monotonic() < end || churned.rounds < ROUNDS_LEAST {
            churned.round(&scene, &mut random, &seen, &list);
            seen.iter_mut().for_each(Seen::look);
        }
        let steady: Vec<_> = steady.into_iter().map(|it| it.map(Load::end)).collect();
        for (seen, steady) in seen.into_iter().zip(steady) {
            seen.judge(&steady, &churned, seconds);
        }
    });
}

/// The peer that is to lose nothing, as long as the rest. It has an address of its own: the kernel
/// would choose another one that comes, and goes again.
fn steady(scene: &Scene, [server, own]: [&str; 2], port: u16, seconds: u64) -> Load {
    let target = SocketAddr::new(server.parse().expect("an address"), port);
    let options = format!("--json --rate 500 --timeout 5s --duration {seconds} --bind {own}");
    load(scene, target, &options)
}

/// Loads `target` with these options.
fn load(scene: &Scene, target: SocketAddr, options: &str) -> Load {
    let target = target.to_string();
    let args = ["load", &target].into_iter().chain(options.split(' '));
    scene.load_with(&args.collect::<Vec<_>>())
}

/// A load of peers that were not there before: each flow is another port, in each round of another
/// address.
fn churn(scene: &Scene, target: SocketAddr, source: Option<IpAddr>) -> Load {
    let bind = source.map_or(String::new(), |it| format!(" --bind {it}"));
    let options = "--json --count 400 --rate 2k --flows 32 --timeout 200ms";
    load(scene, target, &(options.to_owned() + &bind))
}

/// What has come and gone.
#[derive(Default)]
struct Churned {
    rounds: u64,
    peers: u64,
    sent: u64,
    received: u64,
}

impl Churned {
    fn round(&mut self, scene: &Scene, random: &mut Random, seen: &[Seen], list: &List) {
        self.rounds += 1;
        // One family after the other.
        let (networks, own, all) = match self.rounds % 2 {
            0 => (["10.9.0.", "10.9.1."], 32, 24),
            _ => (["fd09::", "fd0a::"], 128, 64),
        };
        let comes = net(&format!("{}{}/{own}", networks[0], 100 + random.below(100)));
        let source = net(&format!("{}{}/{all}", networks[0], 10 + random.below(80)));
        scene.server.add_address("v0", comes).unwrap();
        scene.peer.add_address("v0", source).unwrap();
        let loads = PORTS[..seen.len()].iter().flat_map(|&port| {
            let flapping = format!("{}1", networks[1]).parse().expect("an address");
            [
                churn(
                    scene,
                    SocketAddr::new(comes.addr(), port),
                    Some(source.addr()),
                ),
                churn(scene, SocketAddr::new(flapping, port), None),
            ]
        });
        let loads: Vec<_> = loads.collect();
        thread::sleep(Duration::from_millis(100));
        // In the middle of these loads.
        list.write(self.rounds);
        seen.iter().for_each(|it| it.reflector.signal(Signal::HUP));
        scene.server.delete_address("v0", comes).unwrap();
        scene.server.set_down("w0").unwrap();
        thread::sleep(Duration::from_millis(20));
        scene.server.set_up("w0").unwrap();
        for load in loads {
            // Where nothing is answered, and nothing can be sent, that is said by its code.
            let output = load.0.wait_with_output().expect("it is our child");
            if output.stdout.is_empty() {
                continue;
            }
            let summary = summary_of(&output);
            self.peers += 32;
            self.sent += count(&summary["sent"]);
            self.received += count(&summary["received"]);
        }
        scene.peer.delete_address("v0", source).unwrap();
        scene.server.wait_ready("w0").unwrap();
    }
}

impl Seen {
    fn start(scene: &Scene, engine: Engine, more: &[&str], port: u16, list: &List) -> Self {
        let [v4, v6] = [format!("0.0.0.0:{port}"), format!("[::]:{port}")];
        let args = [
            "--listen",
            &v4,
            "--listen",
            &v6,
            "--cores",
            "2",
            "--allow-file",
            list.path(),
        ];
        let reflector = Reflector::start(&scene.server, engine, &[&args, more].concat());
        let is_accelerated = !more.is_empty();
        Self {
            name: if is_accelerated {
                "kernel"
            } else {
                engine.name()
            },
            is_accelerated,
            reflector,
            resident_kib: Vec::new(),
            descriptors: Vec::new(),
        }
    }

    fn look(&mut self) {
        let pid = self.reflector.pid();
        self.resident_kib.push(resident_kib(pid));
        let open = fs::read_dir(format!("/proc/{pid}/fd")).expect("it runs");
        self.descriptors.push(open.count());
    }

    fn judge(self, steady: &[Value; 2], churned: &Churned, seconds: u64) {
        let third = |it: usize| self.resident_kib.len() / 3 * it;
        let most = |from: usize, to: usize| self.resident_kib[from..to].iter().max().unwrap();
        let (first, last) = (
            most(third(1), third(2)),
            most(third(2), self.resident_kib.len()),
        );
        // A list that is being read is open for a moment.
        let least = |part: &[usize]| *part.iter().min().unwrap();
        let middle = self.descriptors.len() / 2;
        let open = [&self.descriptors[..middle], &self.descriptors[middle..]].map(least);
        let (summary, log) = self.reflector.stop_with_log();
        let said = format!(
            "{seconds} s, {} rounds, {} peers, {} of {} of theirs answered; VmRSS {first} to \
             {last} KiB, descriptors {} to {}",
            churned.rounds, churned.peers, churned.received, churned.sent, open[0], open[1],
        );
        for (family, steady) in ["IPv4", "IPv6"].iter().zip(steady) {
            let of_steady = |key: &str| steady[key].to_string();
            tell_cells(&[
                format!("soak: the {family} peer that stays"),
                self.name.to_owned(),
                of_steady("sent"),
                of_steady("received"),
                of_steady("lost"),
                of_steady("refused"),
                summary["received"].to_string(),
                summary["replied"].to_string(),
                not_replied(&summary),
                said.clone(),
            ]);
            assert_eq!(steady["lost"], 0, "{steady}\n{summary}\n{log}");
            assert_eq!(steady["refused"], 0, "{steady}");
        }
        if self.is_accelerated {
            // What came to an address before the kernel had told of it, and by a link that was down
            // a moment ago, was the sockets'.
            let in_kernel = count(&summary["accelerated"]["datagrams"]);
            let stayed: u64 = steady.iter().map(|it| count(&it["received"])).sum();
            assert!(in_kernel > stayed / 2, "{summary}");
        }
        assert!(churned.received > 0, "nobody else was answered");
        assert_eq!(open[0], open[1], "descriptors: {:?}", self.descriptors);
        let growth = last.saturating_sub(*first);
        assert!(growth <= GROWTH_KIB_MAX, "{:?}", self.resident_kib);
        let reloads = log.matches("the lists have been read again").count() as u64;
        // Signals that come while one waits are one.
        assert!(0 < reloads && reloads <= churned.rounds, "{log}");
    }
}

/// A list of peers in the folder for temporary files. Gone when dropped.
struct List(PathBuf);

impl List {
    fn new() -> Self {
        let list = Self(env::temp_dir().join(format!("reflector-soak-{}", process::id())));
        list.write(0);
        list
    }

    fn path(&self) -> &str {
        self.0.to_str().expect("a path of ours is UTF-8")
    }

    /// Everybody here, and others, more or less of them.
    fn write(&self, round: u64) {
        let others =
            (0..round * 37 % 1000).map(|it| format!("198.51.{}.{}/32\n", it / 256, it % 256));
        let text = "private\n".to_owned() + &others.collect::<String>();
        // At once: it may be read at any moment.
        let next = self.0.with_extension("next");
        fs::write(&next, text).unwrap();
        fs::rename(next, &self.0).unwrap();
    }
}

impl Drop for List {
    fn drop(&mut self) {
        // It may be gone.
        let _ = fs::remove_file(&self.0);
    }
}
