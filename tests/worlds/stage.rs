//! The namespaces of a world, the play, and the truth about it.

use std::net::{SocketAddr, UdpSocket};
use std::process::Child;
use std::thread;
use std::time::Duration;

use reflector_netlab::topology::{Namespace, in_force, nft};
use reflector_testkit::{Reflector, command, counted, document, join, tc, wait_until};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

use super::faulty::{Done, Faulty};
use super::world::{Service, World};

const PORT: u16 = 5151;
/// What is not answered within this is lost.
const TIMEOUT: &str = "1s";

/// Two hosts and a link, with the rules of a world.
pub struct Stage {
    server: Namespace,
    client: Namespace,
    running: Running,
}

enum Running {
    Reflector(Reflector),
    Faulty(Faulty),
}

/// What became of the datagrams, in datagrams.
#[derive(Debug)]
pub struct Truth {
    /// Came to the server's host, and were lost there by a rule.
    pub arrived: u64,
    pub lost_up: u64,
    /// Were lost by a rule when they came back.
    pub lost_down: u64,
    pub from_elsewhere: u64,
    pub duplicated: u64,
    /// Answers that a later one may have overtaken.
    pub swapped_most: u64,
    pub stall: Option<Duration>,
    pub may_refuse: bool,
    /// What the reflector reports, if it is one.
    report: Option<Value>,
    /// What came to the service, if it is a faulty one.
    received: Option<u64>,
}

impl Truth {
    /// Lost at the server's own socket.
    pub fn server_drops(&self) -> u64 {
        let reported = self.report.as_ref().and_then(|it| it["received"].as_u64());
        let received = reported.or(self.received).expect("one of both");
        (self.arrived - self.lost_up).saturating_sub(received)
    }

    /// What the reflector's own report has to say.
    pub fn of_server(&self) -> Vec<(&'static str, bool)> {
        let Some(report) = &self.report else {
            return Vec::new();
        };
        let at = |key: &str| report[key].as_u64().unwrap_or(u64::MAX);
        let lost = self.server_drops();
        vec![
            (
                "the server has all that came",
                at("received") + lost == self.arrived - self.lost_up,
            ),
            ("it has replied", at("replied") == at("received")),
            (
                "its drops",
                at("kernel_drops_least") <= lost && lost <= at("kernel_drops_most"),
            ),
        ]
    }
}

impl Stage {
    /// Builds it; `None` where a program is missing.
    pub fn new(world: &World, test_name: &str) -> Option<Self> {
        let (server, client) = (Namespace::new().unwrap(), Namespace::new().unwrap());
        join(&server, &client, "eth0");
        let target = target(world);
        let running = match &world.service {
            Service::Reflector(engine) => {
                let args = ["--listen", &target.to_string(), "--interval", "0"];
                Running::Reflector(Reflector::start(&server, *engine, &args))
            }
            Service::Faulty(faults) => {
                Running::Faulty(Faulty::start(&server, target, faults.clone()))
            }
        };
        find_neighbour(&client, target);
        let are_in_force = in_force(test_name, nft(&server, &server_rules(world)))
            && in_force(test_name, nft(&client, &client_rules(world)));
        let queue = world.queue.map(|(rate, at_once, waiting)| {
            let shape = format!("rate {rate}bit burst {at_once} limit {waiting}");
            tc(
                test_name,
                &client,
                &format!("qdisc add dev eth0 root tbf {shape}"),
            )
        });
        (are_in_force && queue != Some(false)).then_some(Self {
            server,
            client,
            running,
        })
    }

    /// Loads the service; what `load` says, and what is so.
    pub fn play(self, world: &World) -> (Value, Truth) {
        let load = &world.load;
        let mut args: Vec<String> = ["load", &target(world).to_string(), "--json"]
            .map(str::to_owned)
            .into();
        for (option, value) in [
            ("--count", load.count),
            ("--rate", load.rate),
            ("--burst", load.burst),
            ("--size", load.size),
            ("--flows", load.flows),
            ("--cores", load.cores),
        ] {
            args.extend([option.to_owned(), value.to_string()]);
        }
        args.extend(["--timeout", TIMEOUT, "--interval", "0"].map(str::to_owned));
        let args: Vec<_> = args.iter().map(String::as_str).collect();
        let child = self
            .client
            .run(|| command(&args).spawn().expect("it starts"));
        if let Some(pause) = world.starvation {
            starve(&child, pause);
        }
        let output = child.wait_with_output().expect("it is our child");
        let text = String::from_utf8(output.stdout).expect("reports are text");
        let summary = text.lines().last().expect("a summary");
        let summary = document("load", summary);

        let header = if world.is_v6 { 48 } else { 28 };
        let datagrams = |namespace: &Namespace, name: &str| {
            let (packets, bytes) = counted(namespace, name);
            (bytes - packets * header) / load.size
        };
        let arrived = datagrams(&self.server, "arrived");
        let passed = datagrams(&self.server, "passed");
        let lost_down = datagrams(&self.client, "lost");
        let (report, done) = match self.running {
            Running::Reflector(reflector) => (Some(reflector.stop_with_log().0), Done::default()),
            Running::Faulty(faulty) => (None, faulty.stop()),
        };
        let (stall, swapped_most) = match &world.service {
            // Two workers, flows apart: the order of a flow is kept.
            Service::Reflector(_) => (None, 0),
            Service::Faulty(faults) => (faults.stall, done.swapped * 64),
        };
        // One datagram of ours has found the neighbour.
        let received = report.is_none().then_some(done.received.saturating_sub(1));
        let report = report.map(|mut it| {
            for key in ["received", "replied"] {
                it[key] = (it[key].as_u64().unwrap_or(0) - 1).into();
            }
            it
        });
        let truth = Truth {
            arrived,
            lost_up: arrived - passed,
            lost_down,
            from_elsewhere: done.from_elsewhere,
            duplicated: done.duplicated,
            swapped_most,
            stall: stall.filter(|_| done.received > 100),
            may_refuse: world.refusal.is_some() || world.queue.is_some(),
            report,
            received,
        };
        (summary, truth)
    }
}

fn target(world: &World) -> SocketAddr {
    let ip = if world.is_v6 { "fd09::1" } else { "10.9.0.1" };
    SocketAddr::new(ip.parse().expect("an address"), PORT)
}

fn server_rules(world: &World) -> String {
    let limit = world
        .limit
        .map(|it| format!("limit rate over {it}/second burst 5 packets drop"));
    let rules = [
        Some("counter name arrived".to_owned()),
        world
            .loss_up
            .map(|it| format!("numgen inc mod {it} == 0 drop")),
        limit,
        Some("counter name passed".to_owned()),
    ];
    chain("arrived { }; counter passed", "input", "udp dport", &rules)
}

fn client_rules(world: &World) -> String {
    let lost = |it| format!("numgen inc mod {it} == 0 counter name lost drop");
    let down = chain("lost", "input", "udp sport", &[world.loss_down.map(lost)]);
    let refusal = world
        .refusal
        .map(|it| format!("numgen inc mod {it} == 0 drop"));
    down + &chain("none", "output", "udp dport", &[refusal])
}

/// A table of one chain, whose rules are about our port.
fn chain(counters: &str, hook: &str, port: &str, rules: &[Option<String>]) -> String {
    let rules = rules
        .iter()
        .flatten()
        .map(|it| format!("{port} {PORT} {it}; "));
    let rules: String = rules.collect();
    format!(
        "table inet {hook} {{ counter {counters} {{ }}; chain c {{ type filter hook {hook} \
         priority 0; {rules} }}; }}\n"
    )
}

/// Asks once, so that the first datagram of the load waits for no neighbour.
fn find_neighbour(client: &Namespace, target: SocketAddr) {
    let any = if target.is_ipv6() {
        "[::]:0"
    } else {
        "0.0.0.0:0"
    };
    let socket = client.run(|| UdpSocket::bind(any)).expect("a socket");
    socket
        .set_read_timeout(Some(Duration::from_millis(100)))
        .expect("it is not 0");
    socket
        .send_to(b"is anybody there", target)
        .expect("a route");
    // From wherever the answer comes.
    wait_until("the service answers", || {
        socket.recv_from(&mut [0; 64]).is_ok()
    });
}

/// Lets the generator stand still, in the middle of what it does.
fn starve(child: &Child, pause: Duration) {
    let signal = |signal| kill_process(Pid::from_child(child), signal).expect("it is our child");
    thread::sleep(Duration::from_millis(300));
    signal(Signal::STOP);
    thread::sleep(pause);
    signal(Signal::CONT);
}
